package anthropic

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestParent: an agent's Parent is what its parent's own requests have as Session.
func TestParent(t *testing.T) {
	long := strings.Repeat("x", maxSession)
	facts := func(session, agent, parent string) Facts {
		h := http.Header{}
		for name, value := range map[string]string{"X-Claude-Code-Session-Id": session, "X-Claude-Code-Agent-Id": agent, "X-Claude-Code-Parent-Agent-Id": parent} {
			if value != "" {
				h.Set(name, value)
			}
		}
		return ReadFacts(EndpointMessages, h, []byte(`{}`))
	}
	for _, id := range []string{"s", long, "x" + long} {
		main, agent, nested := facts(id, "", ""), facts(id, "a1", ""), facts(id, "a2", "a1")
		if main.Parent != "" {
			t.Errorf("the main session has the parent %q", main.Parent)
		}
		if agent.Parent != main.Session || nested.Parent != agent.Session {
			t.Errorf("the parents are %q and %q, want %q and %q", agent.Parent, nested.Parent, main.Session, agent.Session)
		}
		if main.Session == agent.Session || agent.Session == nested.Session {
			t.Error("two agents have one session")
		}
		for _, f := range []Facts{main, agent, nested} {
			if len(f.Session) > maxSession || len(f.Parent) > maxSession {
				t.Errorf("keys of %d and %d bytes", len(f.Session), len(f.Parent))
			}
		}
	}
	if f := facts("s", "", "a1"); f.Parent != "" || f.Session != "s" {
		t.Errorf("without an agent there is a parent: %+v", f)
	}
	if f := facts("", "a2", "a1"); f.Parent != "" || f.Session != "" {
		t.Errorf("without a session there is a parent: %+v", f)
	}
	h := http.Header{"X-Claude-Code-Agent-Id": {"a1"}}
	if f := ReadFacts(EndpointMessages, h, []byte(`{"metadata":{"user_id":"user_a_account__session_u"}}`)); f.Session != "u/a1" || f.Parent != "u" {
		t.Errorf("with the session in the body: %+v", f)
	}
}

// TestConversationHashOfImages: conversations that begin with a picture and no
// word are told apart.
func TestConversationHashOfImages(t *testing.T) {
	session := func(data, mark string) string {
		return ReadFacts(EndpointMessages, nil, []byte(`{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","data":"`+data+`"}`+mark+`}]}]}`)).Session
	}
	if session("AAAA", "") == session("BBBB", "") {
		t.Error("two pictures are one conversation")
	}
	if session("AAAA", "") != session("AAAA", `,"cache_control":{"type":"ephemeral"}`) {
		t.Error("a marker makes another conversation")
	}
}

func TestConversationHashWithoutTheBillingLine(t *testing.T) {
	session := func(system string) string {
		return ReadFacts(EndpointMessages, nil, []byte(`{"system":`+system+`,"messages":[{"role":"user","content":"hi"}]}`)).Session
	}
	if session(`"x-anthropic-billing-header: a\nbe kind"`) != session(`"x-anthropic-billing-header: b\nbe kind"`) {
		t.Error("the billing line makes another conversation")
	}
	if session(`"x-anthropic-billing-header: a\nbe kind"`) == session(`"x-anthropic-billing-header: a\nbe rude"`) {
		t.Error("the text behind the billing line does not count")
	}
}

func TestCacheLife(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{}`: CacheLife, ``: CacheLife,
		`{"cache_control":{"type":"ephemeral"}}`:                                                                    CacheLife,
		`{"cache_control":{"type":"ephemeral","ttl":"5m"}}`:                                                         CacheLife,
		`{"cache_control":{"type":"ephemeral","ttl":"1h"}}`:                                                         CacheLifeLong,
		`{"cache_control":{"ttl" :` + "\n\t\t\t\t" + `"1h","type":"ephemeral"}}`:                                    CacheLifeLong,
		`{"system":[{"cache_control":{"ttl":"1h"}}],"messages":[{"content":[{"cache_control":{"ttl":"5m"}}]}]}`:     CacheLifeLong,
		`{"tools":[{"name":"a","cache_control":{"type":"ephemeral","ttl":"5m"}},{"cache_control":{"ttl": "1h"}}]}`:  CacheLifeLong,
		`{"messages":[{"role":"user","content":"say {\"ttl\":\"1h\"}"}]}`:                                           CacheLife,
		"\x1f\x8b\x08 what is compressed":                                                                           CacheLifeLong,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"ttl":"1h","a":null}}]}`: CacheLifeLong,
	} {
		if got := ReadFacts(EndpointMessages, nil, []byte(body)).CacheLife; got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}
