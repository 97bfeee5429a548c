package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestTwoInstances: two processes on one storage know the same.
func TestTwoInstances(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	shared := t.TempDir()
	var sites []*site
	for _, name := range []string{"one", "two"} {
		config := strings.Replace(global, "{\n", "{\n\tstorage file_system "+shared+"\n", 1) + block
		config = strings.Replace(config, "retries 3", "retries 3\n\t\tinstances {\n\t\t\tname "+name+"\n\t\t\tinterval 500ms\n\t\t}", 1)
		if !strings.Contains(config, "instances {") {
			t.Fatal("the block has no place for instances")
		}
		s := newSite(t, up, config, secrets...)
		s.start()
		sites = append(sites, s)
	}
	one, two := sites[0], sites[1]
	const soon = 10 * time.Second
	eventually(t, "they hear of each other", soon, func() bool {
		list, _ := one.status(annKey)["instances"].([]any)
		return len(list) == 2
	})

	// A pin, within moments.
	one.do(http.MethodPost, one.url+"/use", `{"account":"c"}`, "X-Api-Key", annKey).mustServe(t)
	begun := time.Now()
	eventually(t, "the pin is known to the other", soon, func() bool { return two.status(annKey)["pinned"] == "c" })
	t.Logf("a pin took %v", time.Since(begun).Round(10*time.Millisecond))
	two.do(http.MethodPost, two.url+"/use", `{"account":"auto"}`, "X-Api-Key", annKey).mustServe(t)
	eventually(t, "and so is its end", soon, func() bool { return one.status(annKey)["pinned"] == nil })

	// A conversation stays where it is.
	session := []string{"X-Claude-Code-Session-Id", "0b54e6a6-6a3c-4a4e-9d5c-0d0a4a1f7c11"}
	home := one.ask(annKey, hello, session...)
	home.mustServe(t)
	time.Sleep(2 * time.Second)
	again := two.ask(annKey, hello, session...)
	again.mustServe(t)
	if a, b := home.header.Get("X-Shunt-Account"), again.header.Get("X-Shunt-Account"); a == "" || a != b {
		t.Errorf("the conversation lived at %q and went to %q", a, b)
	}

	// A rest.
	up.SetFault(home.header.Get("X-Shunt-Account"), fakeclaude.Fault{Name: fakeclaude.WindowFiveHour, Times: 1})
	one.ask(annKey, hello, session...).mustServe(t)
	begun = time.Now()
	eventually(t, "the rest is known to the other", soon, func() bool { return cooling(two) == 1 })
	t.Logf("a rest took %v", time.Since(begun).Round(10*time.Millisecond))

	// Counters: each counts its own, and both show the sum, also of one that died.
	requests := func(s *site) (n float64) {
		for _, p := range s.status(annKey)["people"].([]any) {
			n += p.(map[string]any)["requests"].(float64)
		}
		return n
	}
	eventually(t, "both show the same sum", soon, func() bool { return requests(one) == 3 && requests(two) == 3 })
	time.Sleep(time.Second)
	one.end(syscall.SIGKILL)
	if n := requests(two); n != 3 {
		t.Errorf("after a kill %v requests are counted", n)
	}
	one.start()
	eventually(t, "the one that was killed counts on", soon, func() bool { return requests(one) == 3 })
	if cooling(one) != 1 {
		t.Error("the one that was killed does not know of the rest")
	}
}

// cooling counts the accounts that rest.
func cooling(s *site) (n int) {
	for _, a := range s.status(annKey)["accounts"].([]any) {
		if a.(map[string]any)["status"] == "cooling" {
			n++
		}
	}
	return n
}

// TestFileOfAnotherInstance: what was uploaded through one is found through the
// other, also in the same moment.
func TestFileOfAnotherInstance(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	shared := t.TempDir()
	config := strings.Replace(global, "{\n", "{\n\tstorage file_system "+shared+"\n", 1) + block
	var sites []*site
	for _, name := range []string{"one", "two"} {
		s := newSite(t, up, strings.Replace(config, "retries 3", "retries 3\n\t\tinstances {\n\t\t\tname "+name+"\n\t\t}", 1), secrets...)
		s.start()
		sites = append(sites, s)
	}
	eventually(t, "they hear of each other", 20*time.Second, func() bool {
		list, _ := sites[1].status(annKey)["instances"].([]any)
		return len(list) == 2
	})
	form := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n"
	made := sites[0].do(http.MethodPost, sites[0].url+"/v1/files", form, "X-Api-Key", annKey, "Content-Type", "multipart/form-data; boundary=x", "Anthropic-Beta", "files-api-2025-04-14")
	made.mustServe(t)
	var file struct{ ID string }
	if err := json.Unmarshal([]byte(made.body), &file); err != nil || file.ID == "" {
		t.Fatalf("%v: %s", err, made.body)
	}
	begun := time.Now()
	var last answer
	defer func() {
		if t.Failed() {
			t.Logf("the last answer is %d %s", last.status, last.body)
			t.Log(filesWith(t, shared, file.ID))
			t.Log(sites[1].status(annKey)["instances"])
			t.Log(sites[0].status(annKey)["instances"])
		}
	}()
	eventually(t, "the file is found through the other instance", 10*time.Second, func() bool {
		last = sites[1].do(http.MethodGet, sites[1].url+"/v1/files/"+file.ID, "", "X-Api-Key", annKey, "Anthropic-Beta", "files-api-2025-04-14")
		return last.status == http.StatusOK
	})
	t.Logf("a file took %v", time.Since(begun).Round(10*time.Millisecond))
}
