package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// TestBackupBringsAllBack: the commands of docs/operations.md, from one machine to
// another, while the first one runs. The login serves there, and nothing of the books is
// lost.
func TestBackupBringsAllBack(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: loginAccounts()})
	first := newSite(t, up, global+loginsBlock, secrets...)
	first.start()
	first.shunt(credentials(firstAccess, firstRefresh), "import", "main", "--file", "-").says(t, true)
	if got := first.answeredBy(); got != "main" {
		t.Fatalf("%s answered", got)
	}
	first.ask(annKey, hello).mustServe(t)
	time.Sleep(3 * time.Second) // the books are written every two
	tokens, requests := first.tokensOf("")
	archive := filepath.Join(t.TempDir(), "shunt.tar.gz")
	command(t, "tar", "-C", filepath.Join(first.home, "data", "caddy"), "--mode", "go=", "-czf", archive, "shunt")
	first.end(os.Kill)

	second := newSite(t, up, global+loginsBlock, secrets...)
	store := filepath.Join(second.home, "data", "caddy")
	if err := os.MkdirAll(store, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-C", store, "-xzf", archive)
	second.start()
	if got := second.answeredBy(); got != "main" {
		t.Errorf("after the restore %s answered", got)
	}
	second.stop()
	second.start()
	gotTokens, gotRequests := second.tokensOf("")
	if gotRequests != requests+1 || gotTokens <= tokens || gotTokens != up.charged() {
		t.Errorf("after the restore: %d tokens in %d requests; before %d in %d, upstream charged %d", gotTokens, gotRequests, tokens, requests, up.charged())
	}
	if info, err := os.Stat(second.record("default", "stored-main")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the login lies there as %v, %v", info, err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
