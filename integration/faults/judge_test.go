package faults

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The most that upstream may be asked for one request of a client's, where the
// row does not say less: the sick account, and all together.
const (
	mostSickTries = 2
	mostTries     = 4
)

// judge collects what is wrong with one scene.
type judge struct {
	s        *scene
	key      string
	problems []string
}

func (j *judge) errorf(format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf(format, args...))
}

// complete reports whether an answer is one that a client takes for whole.
func complete(k kind, body string) bool {
	if k == stream {
		body = strings.ReplaceAll(body, "\r\n", "\n")
		return strings.Contains(body, "event: message_stop\n") || strings.Contains(body, "event: error\n")
	}
	var message struct{ Type string }
	return json.Unmarshal([]byte(body), &message) == nil && message.Type == "message"
}

// seen says in a few words what the client got.
func seen(k kind, a *answer) string {
	switch {
	case a.status == 0:
		return "no answer"
	case a.status == http.StatusOK && a.err != nil:
		return "200 broken off"
	case a.err != nil:
		return strconv.Itoa(a.status) + " broken off"
	case a.status == http.StatusOK && !complete(k, a.body):
		return "200 INCOMPLETE"
	case a.status == http.StatusOK && k == stream && strings.Contains(a.body, "event: error"):
		return "200 error event"
	case a.status == http.StatusOK:
		return "200 whole"
	default:
		return strconv.Itoa(a.status)
	}
}

func excerpt(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%q… (%d bytes)", s[:300], len(s))
	}
	return strconv.Quote(s)
}

// spoken are the protocols as answers name them.
var spoken = map[string]string{http11: "HTTP/1.1", http2c: "HTTP/2.0", http3q: "HTTP/3.0"}

// always holds for every answer to every request, whatever the row says.
func (j *judge) always(a *answer) {
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		j.errorf("the client got the status %d, which would log it out: %s", a.status, excerpt(a.body))
	}
	if a.status == http.StatusOK && a.err == nil && !complete(j.s.kind, a.body) {
		j.errorf("a 200 that is not complete ended as if it were: %s", excerpt(a.body))
	}
	if a.proto != "" && a.proto != spoken[j.s.protocol] {
		j.errorf("the answer came by %s, expected %s", a.proto, spoken[j.s.protocol])
	}
	for name, key := range accountKeys {
		if strings.Contains(a.body, key) || strings.Contains(fmt.Sprint(a.header), key) {
			j.errorf("the answer holds the key of account %s", name)
		}
	}
}

// meets compares an answer with what the outcome wants of it. The answer of a
// direct call is asked for only when it is needed.
func (j *judge) meets(want *outcome, c *call, a *answer) {
	j.always(a)
	switch want.ending {
	case whole:
		j.equals(a, j.s.directly(c, false), "a healthy upstream's")
	case same:
		j.equals(a, j.s.directly(c, true), "upstream's own")
	case broken, failed:
		j.isBroken(want, c, a)
	case own:
		j.isOwn(want, a)
	case ownEvent:
		j.isEvent(want, a)
	}
	for _, text := range want.text {
		if !strings.Contains(strings.ToLower(a.body), strings.ToLower(text)) {
			j.errorf("the answer does not say %q: %s", text, excerpt(a.body))
		}
	}
	for name, value := range want.head {
		if problem := headProblem(a.header.Get(name), value); problem != "" {
			j.errorf("header %s: %s", name, problem)
		}
	}
	if want.longest > 0 && a.took > want.longest {
		j.errorf("the answer took %v, at most %v was expected", a.took.Round(time.Millisecond), want.longest)
	}
	if a.took < want.shortest {
		j.errorf("the answer took %v, at least %v was expected", a.took.Round(time.Millisecond), want.shortest)
	}
}

// heartbeats come as often as time passes, so no two answers have as many.
var heartbeats = regexp.MustCompile(`(?:event: ping\n)?data: \{"type": ?"ping"\}\n\n|: keep-alive\n\n`)

// steady is a body without what differs from one asking to the next.
func steady(body string) string {
	return heartbeats.ReplaceAllString(requestIDs.ReplaceAllString(body, "req"), "")
}

func (j *judge) equals(a *answer, direct answer, whose string) {
	if a.err != nil || a.status != direct.status {
		j.errorf("seen: status %d, %v, %s; expected %s %d: %s", a.status, a.err, excerpt(a.body), whose, direct.status, excerpt(direct.body))
		return
	}
	got, wanted := steady(a.body), steady(direct.body)
	if got != wanted {
		j.errorf("the answer is not %s:\n%s\nexpected\n%s", whose, excerpt(got), excerpt(wanted))
	}
	if encoding := a.header.Get("Content-Encoding"); encoding != "" {
		j.errorf("the answer is encoded as %s, and the client asked for none", encoding)
	}
}

// isBroken: the transfer failed, and what came is a beginning of the right thing.
func (j *judge) isBroken(want *outcome, c *call, a *answer) {
	if want.ending == failed && (a.status >= 500 || a.status == 0) {
		return
	}
	if j.s.protocol == http3q && a.status == 0 && a.err != nil {
		return // a reset stream of QUIC's may take along what was sent before
	}
	if a.status != http.StatusOK || a.err == nil {
		j.errorf("seen: status %d, error %v, %s; expected a 200 that breaks off", a.status, a.err, excerpt(a.body))
		return
	}
	if direct := j.s.directly(c, false); j.s.row.sick.script == nil && !strings.HasPrefix(direct.body, a.body) {
		j.errorf("what came before the break is not upstream's: %s, expected a beginning of %s", excerpt(a.body), excerpt(direct.body))
	}
}

var clockTime = regexp.MustCompile(`\b\d{1,2}:\d{2}`)

// isOwn: an answer of the proxy's in the API's envelope.
func (j *judge) isOwn(want *outcome, a *answer) {
	if a.err != nil || !slices.Contains(want.status, a.status) {
		j.errorf("seen: status %d, %v, %s; expected one of %v", a.status, a.err, excerpt(a.body), want.status)
		return
	}
	var e struct {
		Type  string
		Error struct{ Type, Message string }
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Type != "error" || e.Error.Type == "" || e.Error.Message == "" {
		j.errorf("the answer is not in the API's error envelope: %s", excerpt(a.body))
	}
	if want.clock && !clockTime.MatchString(e.Error.Message) {
		j.errorf("the answer names no time: %s", excerpt(e.Error.Message))
	}
	for _, name := range accountNames {
		if regexp.MustCompile(`account "?`+name+`\b`).MatchString(e.Error.Message) || strings.Contains(e.Error.Message, j.s.id) {
			j.errorf("the answer names an account: %s", excerpt(e.Error.Message))
		}
	}
}

// headProblem compares a header's value with what a row wants of it; see
// outcome.head.
func headProblem(got, want string) string {
	if not, ok := strings.CutPrefix(want, "!"); ok {
		if got == not {
			return fmt.Sprintf("%q was not expected", got)
		}
		return ""
	}
	from, to, isRange := strings.Cut(want, "..")
	if !isRange {
		if got != want {
			return fmt.Sprintf("%q, expected %q", got, want)
		}
		return ""
	}
	n, err := strconv.ParseInt(got, 10, 64)
	if after, ok := strings.CutPrefix(from, "+"); ok {
		from = after
		n -= time.Now().Unix()
	}
	least, _ := strconv.ParseInt(from, 10, 64)
	most, _ := strconv.ParseInt(to, 10, 64)
	if err != nil || n < least || n > most {
		return fmt.Sprintf("%q is not within %s", got, want)
	}
	return ""
}

// counts judges how often upstream was asked for one request.
func (j *judge) counts(want *outcome, tries []try, sick string) {
	mostSick, most := want.sickTries, want.tries
	if mostSick == 0 {
		mostSick = mostSickTries
	}
	if most == 0 {
		most = mostTries
	}
	if n := countOf(tries, sick); sick != "" && (n > mostSick || want.exactly && want.sickTries > 0 && n != mostSick) {
		j.errorf("the sick account was asked %d times, expected %d", n, mostSick)
	}
	if n := len(tries); n > most || want.exactly && n != most {
		j.errorf("upstream was asked %d times, expected %d", n, most)
	}
}

// asks judges each request that upstream got: it is the client's, with one
// credential, which is the account's.
func (j *judge) asks(c *call, tries []try) {
	sum := sha256.Sum256(c.body)
	digest := hex.EncodeToString(sum[:])
	for i := range tries {
		t := &tries[i]
		if t.sum != "" && t.sum != digest {
			j.errorf("try %d: the body is not the client's", i+1)
		}
		if t.length >= 0 && t.length != int64(len(c.body)) {
			j.errorf("try %d: the body is announced as %d bytes, the client's has %d", i+1, t.length, len(c.body))
		}
		j.credential(i+1, t)
	}
}

func (j *judge) credential(number int, t *try) {
	keys, bearers := t.header.Values("X-Api-Key"), t.header.Values("Authorization")
	if len(keys)+len(bearers) != 1 {
		j.errorf("try %d: %d credential headers, expected one", number, len(keys)+len(bearers))
	}
	if j.s.row.sick.login == nil && !slices.Equal(keys, []string{accountKeys[t.account]}) {
		j.errorf("try %d: the upstream of account %s was shown another credential", number, t.account)
	}
	for name, values := range t.header {
		if strings.Contains(strings.Join(values, " "), j.key) {
			j.errorf("try %d: upstream was shown the client's key in %s", number, name)
		}
	}
	if strings.Contains(t.path, "redirected") {
		j.errorf("try %d: a redirect was followed with a credential", number)
	}
}
