package shunt

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/credential"
)

const (
	// defaultBench is how long an account is benched by hand.
	defaultBench = time.Hour
	// longestBench bounds it; what has no end is a drain.
	longestBench = 31 * 24 * time.Hour
	// mostReason bounds what an operator may say of why.
	mostReason = 200
)

// steering is the body of POST /steer.
type steering struct {
	Account string `json:"account"`
	// Action is drain, undrain, bench, unbench or refresh.
	Action string `json:"action"`
	// For is how long a bench lasts. Default: 1h.
	For string `json:"for"`
	// Reason is why, for people: of a drain or a bench.
	Reason string `json:"reason"`
}

// steered is the answer to POST /steer.
type steered struct {
	Account string `json:"account"`
	Action  string `json:"action"`
	Words   string `json:"words"`
}

// steerings do what can be asked of an account, and say what holds then.
var steerings = map[string]func(h *Handler, a *account, s *steering, by string) (words string, refusal *anthropic.Error){
	"drain": func(h *Handler, a *account, s *steering, by string) (string, *anthropic.Error) {
		h.live.state.Drain(a.member.Key, because("drained", by, s.Reason))
		return "it gets no new requests until it is undrained; what it serves now goes on", nil
	},
	"undrain": func(h *Handler, a *account, _ *steering, _ string) (string, *anthropic.Error) {
		h.live.state.Undrain(a.member.Key)
		return "it is drained no more", nil
	},
	"bench": func(h *Handler, a *account, s *steering, by string) (string, *anthropic.Error) {
		length := defaultBench
		if s.For != "" {
			d, err := caddy.ParseDuration(s.For)
			if err != nil || d <= 0 || d > longestBench {
				return "", badSteer("for: %q is not a time of up to 31d, such as 30m; to take an account out for good, drain it", truncate(s.For))
			}
			length = d
		}
		until := h.now().Add(length)
		h.live.state.BenchUntil(a.member.Key, until, because("benched", by, s.Reason))
		return "it gets no new requests until " + until.UTC().Format("Mon 2 Jan 15:04 UTC") + "; what it serves now goes on", nil
	},
	"unbench": func(h *Handler, a *account, _ *steering, _ string) (string, *anthropic.Error) {
		ended, _ := h.live.state.Unbench(a.member.Key)
		if ended == 0 {
			return "nothing kept it from serving that could be ended", nil
		}
		return "it is in the choice again; the next request finds out whether it serves", nil
	},
	"refresh": (*Handler).refreshNow,
}

// because tells in an account's status why it is out.
func because(what, by, reason string) string {
	words := what + " by " + by
	if reason != "" {
		words += ": " + reason
	}
	return words
}

func badSteer(format string, args ...any) *anthropic.Error {
	return &anthropic.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...), NoRetry: true}
}

// refreshWithin bounds a refresh that somebody waits for.
const refreshWithin = time.Minute

// refreshNow gets a new token. What keeps the account out is not ended by it, unless that
// was the old token.
func (h *Handler) refreshNow(a *account, _ *steering, _ string) (string, *anthropic.Error) {
	conflict := func(format string, args ...any) (string, *anthropic.Error) {
		return "", &anthropic.Error{Status: http.StatusConflict, Message: fmt.Sprintf(format, args...), NoRetry: true}
	}
	source, ok := a.source.(credential.Renewable)
	if !ok {
		return conflict("account %s: its credential is %s, which is not refreshed", a.member.Name, strings.ReplaceAll(a.kind(), "_", " "))
	}
	ctx, cancel := context.WithTimeout(context.Background(), refreshWithin)
	defer cancel()
	if _, err := source.RenewNow(ctx); err != nil {
		return conflict("account %s: refreshing failed: %v", a.member.Name, err)
	}
	words := "it has a new token"
	if ends := a.source.Status().Expires; !ends.IsZero() {
		words += " until " + ends.UTC().Format("Mon 2 Jan 15:04 UTC")
	}
	return words, nil
}

func (h *Handler) serveSteer(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodPost) {
		return nil
	}
	var answer *steered
	who, refusal := h.admin(r, "steering accounts")
	if refusal == nil {
		answer, refusal = h.steer(w, r, who.words())
	}
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

// steer does what the request's body says.
func (h *Handler) steer(w http.ResponseWriter, r *http.Request, by string) (*steered, *anthropic.Error) {
	var s steering
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return nil, badSteer(`the body is not as expected (%s); expected {"account": "<name>", "action": "%s"}, with "for" and "reason" if you like`, jsonTrouble(err), strings.Join(actions(), "|"))
	}
	do, known := steerings[s.Action]
	i := slices.IndexFunc(h.accounts, func(a *account) bool { return a.member.Name == s.Account })
	switch {
	case !known:
		return nil, badSteer("action: %q is not known; expected one of %s", truncate(s.Action), strings.Join(actions(), ", "))
	case s.Account == "":
		return nil, badSteer("account: missing; expected the name of an account")
	case i < 0:
		names := make([]string, len(h.accounts))
		for i, a := range h.accounts {
			names[i] = a.member.Name
		}
		return nil, &anthropic.Error{Status: http.StatusNotFound, NoRetry: true, Message: fmt.Sprintf("account: %q is not known in this pool; expected one of %s", truncate(s.Account), strings.Join(names, ", "))}
	case s.For != "" && s.Action != "bench":
		return nil, badSteer("for: only a bench has a length")
	case s.Reason != "" && s.Action != "bench" && s.Action != "drain":
		return nil, badSteer("reason: only a bench or a drain has one")
	case len(s.Reason) > mostReason:
		return nil, badSteer("reason: longer than %d bytes", mostReason)
	}
	words, refusal := do(h, h.accounts[i], &s, by)
	if refusal != nil && refusal.Status == http.StatusBadRequest {
		return nil, refusal
	}
	level := zap.InfoLevel
	fields := []zap.Field{logPool(h.Pool), logAccount(h.accounts[i]), zap.String("action", s.Action), zap.String("by", by)}
	if refusal != nil {
		level = zap.WarnLevel
		fields = append(fields, zap.String("error", refusal.Message))
	} else {
		fields = append(fields, zap.String("result", words))
	}
	if s.Reason != "" {
		fields = append(fields, logReason(s.Reason))
	}
	h.logger.Log(level, "an account was steered by hand", fields...)
	if refusal != nil {
		return nil, refusal
	}
	return &steered{Account: s.Account, Action: s.Action, Words: words}, nil
}

func actions() []string { return slices.Sorted(maps.Keys(steerings)) }

// jsonTrouble says what is wrong with a body without repeating it.
func jsonTrouble(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return cmp.Or(wrong.Field, "it") + ": not a " + wrong.Type.String()
	}
	if field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
		return "unknown field " + truncate(field)
	}
	return "not a JSON object"
}

// words names who did something, for logs and for what others see of it.
func (p person) words() string { return cmp.Or(p.name, "somebody on this machine") }

// admin is who may steer. A page elsewhere must not use what the browser sends by
// itself.
func (h *Handler) admin(r *http.Request, what string) (person, *anthropic.Error) {
	who, refusal := h.authenticate(r)
	setPerson(r, who)
	switch {
	case refusal != nil:
	case crossOrigin.Check(r) != nil:
		refusal = &anthropic.Error{Status: http.StatusForbidden, Message: foreignPage, NoRetry: true}
	case !who.admin:
		refusal = &anthropic.Error{Status: http.StatusForbidden, Message: what + " takes a key that is marked admin", NoRetry: true}
	}
	return who, refusal
}

// crossOrigin knows requests that a page of another site makes a browser send:
// those that change something, by Sec-Fetch-Site, or by Origin and Host.
var crossOrigin = http.NewCrossOriginProtection()

const foreignPage = "the request comes from a page of another site"

func adminSteer(w http.ResponseWriter, r *http.Request) error {
	if err := adminTakes(w, r, http.MethodPost); err != nil {
		return err
	}
	h, err := poolNamed(r.URL.Query().Get("pool"))
	if err != nil {
		return err
	}
	answer, refusal := h.steer(w, r, "the admin API")
	if refusal != nil {
		return apiError(refusal)
	}
	return writeJSON(w, http.StatusOK, answer)
}
