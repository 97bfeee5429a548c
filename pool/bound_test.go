package pool

import (
	"strings"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
)

func naming(refs ...string) *Request {
	r := message("")
	r.Refs = refs
	return r
}

func upload() *Request { return &Request{User: "ann", Endpoint: anthropic.EndpointFiles} }

func TestBoundRequestsGoToTheirAccount(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b", "c", "d")...)
	lease := pick(t, g, upload())
	home := lease.Member.Name
	lease.Hold("file_1", ResourceLife)
	lease.End(anthropic.Usage{})
	for range 10 {
		if got := serve(t, g, naming("file_1")); got != home {
			t.Fatalf("a file of %s was looked for at %s", home, got)
		}
		// What a person makes next is put beside it.
		if got := pick(t, g, upload()).Member.Name; got != home {
			t.Fatalf("the second file went to %s, the first to %s", got, home)
		}
	}
	if got := serve(t, g, &Request{User: "ann", Endpoint: anthropic.EndpointFiles, List: true}); got != home {
		t.Errorf("ann's list came from %s", got)
	}
	_, refused := g.Pick(&Request{User: "bob", Endpoint: anthropic.EndpointFiles, List: true})
	if refused == nil || !refused.Unlisted || !strings.Contains(refused.Words(c.now), "resource_account") {
		t.Errorf("bob's list: %+v", refused)
	}
	// Its account being out, nobody else can help.
	g.Pool().Pin(home)
	lease = pick(t, g, message(""))
	lease.Report(windowSpent(c.now.Add(3600e9)), nil)
	lease.End(anthropic.Usage{})
	if lease, refused := g.Pick(naming("file_1")); lease != nil || len(refused.Closures) != 1 || refused.Until.IsZero() {
		t.Errorf("%v %+v", lease, refused)
	}
}

func TestThingsOfUnknownPlace(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	if _, refused := g.Pick(naming("file_x")); refused == nil || refused.Unknown != "file_x" || !strings.Contains(refused.Words(c.now), "file_x") {
		t.Errorf("%+v", refused)
	}
	req := naming("file_x")
	req.Home = "b"
	if got := serve(t, g, req); got != "b" {
		t.Errorf("looked for at %s", got)
	}
	if got := serve(t, group(c, members("only")...), naming("file_x")); got != "only" {
		t.Errorf("the only account was not asked: %s", got)
	}
	for i, ref := range []string{"file_a", "file_b"} {
		g.Pool().Pin([]string{"a", "b"}[i])
		lease := pick(t, g, message(""))
		lease.Hold(ref, ContainerLife)
		lease.End(anthropic.Usage{})
	}
	g.Pool().Pin("")
	if _, refused := g.Pick(naming("file_a", "file_b")); refused == nil || !refused.Apart {
		t.Errorf("files of two accounts: %+v", refused)
	}
	// A thing that is not known is looked for beside one that is.
	if got := serve(t, g, naming("file_new", "file_b")); got != "b" {
		t.Errorf("looked for at %s", got)
	}
	c.advance(ContainerLife)
	if _, refused := g.Pick(naming("file_a")); refused == nil || refused.Unknown == "" {
		t.Error("a container outlived its time")
	}
}

func TestBoundThingsAreInTheSnapshot(t *testing.T) {
	c := newClock()
	g := group(c, members("a", "b")...)
	lease := pick(t, g, upload())
	lease.Hold("file_1", ResourceLife)
	lease.End(anthropic.Usage{})
	data, _, err := g.Pool().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	later := group(c, members("a", "b")...)
	if err := later.Pool().Restore(data); err != nil {
		t.Fatal(err)
	}
	if got := serve(t, later, naming("file_1")); got != lease.Member.Name {
		t.Errorf("after a restart the file is looked for at %s", got)
	}
}
