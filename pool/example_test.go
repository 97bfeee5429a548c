package pool_test

import (
	"fmt"
	"time"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// A conversation stays with its account until that is out, and moves then.
func Example() {
	state := pool.New(pool.SystemClock{}, 1)
	group := state.Group([]*pool.Member{
		{Name: "main", Key: "main#1"},
		{Name: "spare", Key: "spare#1", Priority: 1},
	}, pool.Policies[pool.DefaultPolicy])
	request := &pool.Request{
		User: "ann", Session: "conversation 1", Model: "claude-opus-5",
		Endpoint: anthropic.EndpointMessages, CacheLife: anthropic.CacheLife,
	}

	lease, _ := group.Pick(request)
	fmt.Println(lease.Member.Name, "by", lease.Reason)
	lease.Report(&anthropic.Verdict{Name: anthropic.Served}, &anthropic.Limits{})
	lease.End(anthropic.Usage{InputTokens: 1200, OutputTokens: 300})

	lease, _ = group.Pick(request)
	fmt.Println(lease.Member.Name, "by", lease.Reason)
	// Upstream refuses: the account has spent its window for the next hour.
	lease.Report(&anthropic.Verdict{
		Name: "account_window", Scope: anthropic.ScopeAccount, Action: anthropic.Next,
		Until: time.Now().Add(time.Hour), Source: "reset", Reason: "its five hours are spent",
	}, &anthropic.Limits{})
	lease.End(anthropic.Usage{})

	request.Tried = []string{"main#1"}
	lease, _ = group.Pick(request)
	fmt.Println(lease.Member.Name, "by", lease.Reason)
	lease.End(anthropic.Usage{})
	// Output:
	// main by policy
	// main by session
	// spare by policy
}

// Nobody can serve: the refusal says why, and when to come back.
func ExampleGroup_Pick_refused() {
	state := pool.New(pool.SystemClock{}, 1)
	group := state.Group([]*pool.Member{{Name: "main", Key: "main#1", Models: []string{"claude-haiku-*"}}}, pool.Policies[pool.DefaultPolicy])
	_, refused := group.Pick(&pool.Request{User: "ann", Model: "claude-opus-5", Endpoint: anthropic.EndpointMessages})
	fmt.Println(refused.Hopeless(), refused.Allowed, refused.Serving)
	// Output: true 1 0
}
