package anthropic

import "time"

// Scope says whom an answer speaks about: who is to be left alone for a while.
type Scope uint8

// The scopes.
const (
	// ScopeNobody: nothing was wrong.
	ScopeNobody Scope = iota
	// ScopeCaller: the request itself is at fault; any account would say the same.
	ScopeCaller
	// ScopeAccount: the account cannot serve anything for now.
	ScopeAccount
	// ScopeFamily: the account cannot serve this model family for now.
	ScopeFamily
	// ScopeFeature: the account may not do what this request asks; others may.
	ScopeFeature
	// ScopeProvider: the service has no capacity for this model, whoever asks.
	ScopeProvider
	// ScopeUpstream: the upstream service or its edge failed.
	ScopeUpstream
	// ScopeNetwork: no answer came.
	ScopeNetwork
)

// String is the word for the scope in logs and docs.
func (s Scope) String() string {
	return [...]string{"nobody", "caller", "account", "account and model family", "account and feature", "provider and model", "upstream", "network"}[s]
}

// Action is what to do with the request after an answer.
type Action uint8

// The actions. Each applies only before the first byte went to the client.
const (
	// Relay: the answer is the client's.
	Relay Action = iota
	// Next: another account; when none is left, the pool answers for itself.
	Next
	// NextOrRelay: another account; when none is left, the answer is relayed.
	NextOrRelay
	// NextOnce: one try on one other account, then whatever came is relayed.
	NextOnce
	// Again: one more try on the same account after a short pause, then as NextOnce.
	Again
	// Renew: refresh the credential and try the same account once more, then as Next.
	Renew
)

// String is the word for the action in logs and docs.
func (a Action) String() string {
	return [...]string{"relay", "next account", "next account, else relay", "one other account, then relay", "again here, one other account, then relay", "refresh and again, then next account"}[a]
}

// Verdict is what an answer meant.
type Verdict struct {
	// Name is a stable word for logs and metrics, such as "account_window".
	Name   string
	Scope  Scope
	Action Action
	// Until is when the bench ends; zero when nobody is benched.
	Until time.Time
	// Source says where Until comes from: "reset", "retry-after", "text" or
	// "default".
	Source string
	// Login is true when only a person can put it right: a new login or key.
	Login bool
	// Window names the window that is spent, if one is.
	Window string
	// Reason says it in words, without anything that names an account.
	Reason string
}

// Served is the name of the verdict of a success.
const Served = "served"

// Served reports whether the answer was a success.
func (v *Verdict) Served() bool { return v.Scope == ScopeNobody }

// Verdicts that are not an answer of upstream's.
var (
	// ClientGone: the client left; it costs no account anything.
	ClientGone = Verdict{Name: "client_gone", Scope: ScopeCaller, Action: Relay, Reason: "the client went away"}
	// Stopped: this server ended before the answer did.
	Stopped = Verdict{Name: "stopped", Scope: ScopeCaller, Action: Relay, Reason: "the server was stopped"}
	// CutShort: upstream broke off in the middle of an answer.
	CutShort = Verdict{Name: "cut", Scope: ScopeUpstream, Action: Relay, Reason: "upstream broke off in the middle of its answer"}
	// Stalled: upstream sent nothing for too long in the middle of an answer.
	Stalled = Verdict{Name: "stalled", Scope: ScopeUpstream, Action: Relay, Reason: "upstream sent nothing for too long"}
	// BrokenOff: upstream ended a stream with an error.
	BrokenOff = Verdict{Name: "error_in_stream", Scope: ScopeUpstream, Action: Relay, Reason: "upstream ended its answer with an error"}
	// Unreachable: no answer came at all.
	Unreachable = Verdict{Name: "unreachable", Scope: ScopeNetwork, Action: NextOnce, Reason: "upstream could not be reached or did not answer"}
)
