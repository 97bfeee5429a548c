package shunt

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// TestOpenModesAreWarnedAbout: by name, with a command that helps.
func TestOpenModesAreWarnedAbout(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes")
	}
	root := filepath.Join(t.TempDir(), "it's here")
	putLogin(t, root, "modes", "main", "access-main", "refresh-main", nil)
	putLogin(t, root, "modes", "other", "access-other", "refresh-other", nil)
	sealingKey(t, "SHUNT_TEST_KEY", 1)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(os.Getenv("SHUNT_TEST_KEY")), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "shunt", "modes", "credentials")
	block := "encrypt {file." + key + "}" + oneLogin
	warning := func() map[string]any {
		t.Helper()
		s := begin(t, "modes", root, block)
		soon(t, "looked at", func() bool {
			return s.logged("credentials were sealed") > 0 || s.account("main").source.Status().Version != ""
		})
		s.stop()
		lines := s.logs.FilterMessageSnippet("others than their owner").All()
		if len(lines) == 0 {
			return nil
		}
		return lines[0].ContextMap()
	}
	if w := warning(); w != nil {
		t.Errorf("modes as storage makes them: %v", w)
	}
	want := []string{folder, filepath.Join(folder, "main.json"), key}
	for i, mode := range []os.FileMode{0o755, 0o640, 0o604} {
		if err := os.Chmod(want[i], mode); err != nil {
			t.Fatal(err)
		}
	}
	w := warning()
	if w == nil {
		t.Fatal("no warning")
	}
	var files []string
	for _, f := range w["files"].([]any) {
		files = append(files, f.(string))
	}
	if !slices.Equal(files, want) {
		t.Errorf("warned about %q, want %q", files, want)
	}
	if out, err := exec.Command("sh", "-c", w["fix"].(string)).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", w["fix"], err, out)
	}
	if w := warning(); w != nil {
		t.Errorf("after the fix: %v", w)
	}
}
