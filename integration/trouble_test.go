package integration

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRefresherKilledAtEachStep: the child dies instead of Caddy. Only between the
// token server's answer and the store would that cost the login, since nobody else
// has the token then.
func TestRefresherKilledAtEachStep(t *testing.T) {
	for _, step := range []string{"started", "locked", "loaded", "intended", "stored", "unlocked"} {
		t.Run(step, func(t *testing.T) {
			up := startUpstream(t, oneLogin())
			points := t.TempDir()
			s := loginSite(t, up, global+loginBlock, "SHUNT_FAILPOINTS="+points)
			s.importLogin(up)
			s.start()
			s.ask(annKey, hello).mustServe(t)
			if err := os.WriteFile(filepath.Join(points, step), []byte("kill-self"), 0o600); err != nil {
				t.Fatal(err)
			}
			up.Expire("main")
			_ = s.ask(annKey, hello, "X-Stainless-Timeout", "2")
			if _, err := os.Stat(filepath.Join(points, step)); err == nil {
				t.Fatal("the refresher was not killed")
			}
			_, refresh := up.Tokens("main")
			if len(filesWith(t, filepath.Join(s.home, "data"), refresh)) != 1 {
				t.Errorf("the refresh token that works is not in storage\n%s", s.logs())
			}
			mustKeepRules(t, up)
		})
	}
}

// TestClockJumps: a clock that is hours off for a while costs no login and no request.
func TestClockJumps(t *testing.T) {
	up := startUpstream(t, oneLogin())
	clock := filepath.Join(t.TempDir(), "clock")
	s := loginSite(t, up, global+loginBlock, "SHUNT_CLOCK="+clock)
	s.importLogin(up)
	s.start()
	for _, jump := range []string{"0s", "9h", "0s", "-9h", "30h", "-3h", "0s"} {
		if err := os.WriteFile(clock, []byte(jump), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			s.ask(annKey, hello).mustServe(t)
		}
		_, refresh := up.Tokens("main")
		if len(filesWith(t, filepath.Join(s.home, "data"), refresh)) != 1 {
			t.Fatalf("after a jump of %s the refresh token that works is not in storage", jump)
		}
	}
	if n := refreshesOf(up); n == 0 {
		t.Error("no token was taken for ended, so nothing was tested")
	}
	mustKeepRules(t, up)
}

// TestReadOnlyStorage: while storage cannot be written nothing is spent, and the
// access token serves; afterwards the login is refreshed as ever.
func TestReadOnlyStorage(t *testing.T) {
	up := startUpstream(t, oneLogin())
	s := loginSite(t, up, global+loginBlock)
	s.importLogin(up)
	if os.Getuid() == 0 {
		s.become(65534) // modes do not bind root
	}
	s.start()
	s.ask(annKey, hello).mustServe(t)
	data := filepath.Join(s.home, "data")
	setWritable(t, data, false)
	defer setWritable(t, data, true)
	for range 20 {
		s.ask(annKey, hello).mustServe(t)
	}
	up.Expire("main")
	if a := s.ask(annKey, hello, "X-Stainless-Timeout", "2"); a.status == http.StatusOK {
		t.Error("the login was refreshed although nothing could be stored")
	}
	if n := refreshesOf(up); n != 0 {
		t.Errorf("%d refresh tokens were spent that could not be replaced", n)
	}
	setWritable(t, data, true)
	eventually(t, "the login is refreshed once storage can be written", 60*time.Second, func() bool { return s.ask(annKey, hello).status == http.StatusOK })
	_, refresh := up.Tokens("main")
	if len(filesWith(t, data, refresh)) != 1 {
		t.Error("the refresh token that works is not in storage")
	}
	mustKeepRules(t, up)
}

// become makes the process run as that user, to whom its home is given.
func (s *site) become(uid int) {
	s.t.Helper()
	s.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	err := filepath.WalkDir(s.home, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, folder := range []string{filepath.Dir(s.binary), s.home, filepath.Dir(s.home)} {
		if err := os.Chmod(folder, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	if log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		_ = log.Close()
		_ = os.Chown(s.logFile(), uid, uid)
	}
}

// setWritable gives or takes the right to write below the folder.
func setWritable(t *testing.T, folder string, writable bool) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, ".lock") {
			return nil //nolint:nilerr // locks come and go
		}
		mode := fs.FileMode(0o400)
		if d.IsDir() {
			mode = 0o500
		}
		if writable {
			mode |= 0o200
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}
