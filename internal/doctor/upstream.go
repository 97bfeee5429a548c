package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

const (
	// probeTimeout bounds one look at an upstream.
	probeTimeout = 15 * time.Second
	// certificateSoon is the time before a certificate's end at which it should have
	// been renewed.
	certificateSoon = 7 * 24 * time.Hour
	// Clocks that differ by more than skewWarning make ends of tokens and windows wrong
	// by that; more than skewProblem is beyond what tokens are refreshed ahead.
	skewWarning = 10 * time.Second
	skewProblem = 2 * time.Minute
)

// ErrNotHere means that a transport can be made by a running Caddy only.
var ErrNotHere = errors.New("its transport needs the apps of a running Caddy, so it was not looked at from here")

// Upstream is a base URL that accounts are served from.
type Upstream struct {
	URL string
	// Accounts are those that use it, for people.
	Accounts []string
	// Transport is the accounts' own; Err is why there is none.
	Transport http.RoundTripper
	Err       error
}

// Upstreams looks at each upstream once, however many checks ask.
type Upstreams struct {
	List []Upstream
	// Offline keeps from asking them.
	Offline bool
	// Now is the clock; nil for the machine's.
	Now func() time.Time

	once  sync.Once
	seen  []sight
	local func() time.Time
}

// sight is what came of a look at an upstream.
type sight struct {
	err           error
	stage         string // what was begun last
	dns, tcp, tls time.Duration
	answered      time.Duration
	status        int
	certificate   time.Time // its end; zero without TLS
	date          time.Time // the Date of the answer; zero if it had none
	begun, ended  time.Time
}

func (u *Upstreams) look(ctx context.Context) {
	u.once.Do(func() {
		if u.local = u.Now; u.local == nil {
			u.local = time.Now
		}
		u.seen = make([]sight, len(u.List))
		var all sync.WaitGroup
		for i := range u.List {
			all.Go(func() { u.seen[i] = u.List[i].look(ctx, u.local) })
		}
		all.Wait()
	})
}

// look asks for the head of the base URL, without a credential.
func (u *Upstream) look(ctx context.Context, now func() time.Time) (s sight) {
	if u.Err != nil {
		return sight{err: u.Err, stage: "transport"}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var t tracer
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, t.hooks()), http.MethodHead, u.URL+"/", nil)
	if err != nil {
		return sight{err: err, stage: "the URL"}
	}
	s.begun = now()
	begun := time.Now()
	resp, err := u.Transport.RoundTrip(r)
	s.ended = now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.answered, s.stage, s.dns, s.tcp, s.tls = time.Since(begun), t.stage, t.dns, t.tcp, t.tls
	if err != nil {
		s.err = err
		if t.err != nil {
			s.err = t.err // Caddy's transport hides what kind it was
		}
		return s
	}
	defer resp.Body.Close()
	s.status = resp.StatusCode
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		s.certificate = resp.TLS.PeerCertificates[0].NotAfter
	}
	s.date, _ = http.ParseTime(resp.Header.Get("Date"))
	return s
}

// tracer takes the times of the steps to an answer. Its hooks may be called from
// several goroutines.
type tracer struct {
	mu            sync.Mutex
	stage         string
	err           error
	dns, tcp, tls time.Duration
	began         map[string]time.Time
}

func (t *tracer) begin(stage string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.began == nil {
		t.began = make(map[string]time.Time)
	}
	t.stage, t.began[stage] = stage, time.Now()
}

func (t *tracer) end(stage string, took *time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.err = err
		return
	}
	t.err, *took = nil, time.Since(t.began[stage])
}

func (t *tracer) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { t.begin("DNS") },
		DNSDone:           func(i httptrace.DNSDoneInfo) { t.end("DNS", &t.dns, i.Err) },
		ConnectStart:      func(string, string) { t.begin("TCP") },
		ConnectDone:       func(_, _ string, err error) { t.end("TCP", &t.tcp, err) },
		TLSHandshakeStart: func() { t.begin("TLS") },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { t.end("TLS", &t.tls, err) },
	}
}

// Reach looks at the way to each upstream: name, connection, certificate, answer.
func (u *Upstreams) Reach(ctx context.Context) []Finding {
	if u.Offline {
		return []Finding{{Level: Skipped, Found: "--offline: no upstream was asked"}}
	}
	u.look(ctx)
	found := make([]Finding, 0, len(u.List))
	for i := range u.List {
		f := u.seen[i].reach(u.local())
		f.Where = u.List[i].where()
		found = append(found, f)
	}
	return orOK(found, "there is no upstream")
}

func (u *Upstream) where() string {
	const most = 3
	names := u.Accounts
	if len(names) > most {
		return fmt.Sprintf("%s (%s and %d more)", u.URL, strings.Join(names[:most], ", "), len(names)-most)
	}
	return fmt.Sprintf("%s (%s)", u.URL, strings.Join(names, ", "))
}

// reach judges the way to an upstream.
func (s *sight) reach(now time.Time) Finding {
	if errors.Is(s.err, ErrNotHere) {
		return Finding{Level: Skipped, Found: s.err.Error()}
	}
	if s.err != nil {
		what, change := s.failure(now)
		return Finding{Level: Problem, Found: what, Change: change}
	}
	f := Finding{Level: OK, Found: s.times()}
	switch {
	case s.status >= 500:
		f.Level, f.Found = Warning, fmt.Sprintf("it answers with status %d; %s", s.status, f.Found)
		f.Change = "Wait, and look at the status page of the service; if it is a proxy of yours, at its log."
	case !s.certificate.IsZero() && s.certificate.Sub(now) < certificateSoon:
		f.Level, f.Found = Warning, "its certificate ends on "+s.certificate.UTC().Format(time.DateOnly)+"; "+f.Found
		f.Change = "Renew the certificate, if the upstream is yours. If it is not, see that nobody is in between."
	}
	return f
}

func (s *sight) times() string {
	var parts []string
	for _, p := range []struct {
		name string
		took time.Duration
	}{{"DNS", s.dns}, {"TCP", s.tcp}, {"TLS", s.tls}, {"answer", s.answered}} {
		if p.took > 0 {
			parts = append(parts, p.name+" "+p.took.Round(time.Millisecond/10).String())
		}
	}
	parts = append(parts, fmt.Sprintf("status %d", s.status))
	if !s.certificate.IsZero() {
		parts = append(parts, "certificate until "+s.certificate.UTC().Format(time.DateOnly))
	}
	return strings.Join(parts, ", ")
}

// failure says what kept an answer from coming, and what helps.
func (s *sight) failure(now time.Time) (what, change string) {
	var name *net.DNSError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case s.stage == "transport":
		return "its transport cannot be made: " + s.err.Error(), "Put the block transport right; caddy validate tells where it is wrong."
	case errors.As(s.err, &name) && name.IsNotFound:
		return fmt.Sprintf("the name %s is not known", name.Name), "Look at the spelling of upstream, and at the name servers in /etc/resolv.conf."
	case errors.As(s.err, &name):
		return fmt.Sprintf("the name %s cannot be looked up: %s", name.Name, name.Err), "Look at the name servers in /etc/resolv.conf."
	case errors.As(s.err, &host):
		return "its certificate is for another name: " + s.err.Error(), "Look at the spelling of upstream; if it is right, somebody else answers in its place."
	case errors.As(s.err, &authority):
		return "its certificate is of an authority that this machine does not trust",
			"If a proxy of yours opens TLS, name its authority:\ntransport http {\n\ttls_trust_pool file /path/to/ca.pem\n}\nElse install the system's ca-certificates."
	case errors.As(s.err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has ended, or is not valid yet, by this machine's clock (" + now.UTC().Format(time.RFC3339) + ")", "Look at the clock of this machine first:\ntimedatectl"
	case errors.Is(s.err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v; the last step was %s", probeTimeout, s.lastStep()), "Look at the firewall, and at HTTPS_PROXY if one is needed to get out."
	}
	return s.lastStep() + " failed: " + s.err.Error(), "Look at the firewall, and at HTTPS_PROXY if one is needed to get out."
}

func (s *sight) lastStep() string {
	if s.stage == "" {
		return "the connection"
	}
	return s.stage
}

// Clock compares this machine's clock with the upstreams'.
func (u *Upstreams) Clock(ctx context.Context) []Finding {
	if u.Offline {
		return []Finding{{Level: Skipped, Found: "--offline: there is no other clock to compare with"}}
	}
	u.look(ctx)
	var found []Finding
	for i := range u.List {
		if f := u.seen[i].clock(); f != nil {
			f.Where = u.List[i].URL
			found = append(found, *f)
		}
	}
	if len(found) == 0 {
		return []Finding{{Level: Skipped, Found: "no upstream told the time"}}
	}
	return found
}

// clock judges the difference to the Date of an answer, which is cut to the second
// and was written at some moment between question and answer. It is nil when the
// answer had none.
func (s *sight) clock() *Finding {
	if s.date.IsZero() {
		return nil
	}
	// The true time of the Date lies in [date, date+1s), the local one in [begun, ended].
	ahead, behind := s.begun.Sub(s.date.Add(time.Second)), s.date.Sub(s.ended)
	off, word := max(ahead, behind, 0), "ahead of"
	if behind > ahead {
		word = "behind"
	}
	off = off.Round(time.Second)
	if off < skewWarning {
		return &Finding{Level: OK, Found: "this machine's clock agrees with the upstream's"}
	}
	f := &Finding{
		Level:  Warning,
		Found:  fmt.Sprintf("this machine's clock is %v %s the upstream's: resets of limits and ends of tokens, budgets and keys are off by as much", off, word),
		Change: "timedatectl set-ntp true",
	}
	if off >= skewProblem {
		f.Level = Problem
	}
	return f
}
