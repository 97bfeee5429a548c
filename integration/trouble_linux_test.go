package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk: the disk is full in the moment when the token server has answered,
// and Caddy is killed while the new token is in no storage: the refresher still has
// it, and stores it once there is room.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("a disk of its own takes root: %v", err)
	}
	defer func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) }()
	up := startUpstream(t, oneLogin())
	points := t.TempDir()
	s := loginSite(t, up, strings.Replace(global, "{\n", "{\n\tstorage file_system "+disk+"\n", 1)+loginBlock, "SHUNT_FAILPOINTS="+points)
	s.importLogin(up)
	s.start()
	s.ask(annKey, hello).mustServe(t)
	if err := os.WriteFile(filepath.Join(points, "answered"), []byte("sleep 1s"), 0o600); err != nil {
		t.Fatal(err)
	}
	up.Expire("main")
	done := make(chan answer, 1)
	go func() { done <- s.ask(annKey, hello) }()
	eventually(t, "the token server has answered", 20*time.Second, func() bool { return refreshesOf(up) == 1 })
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	(<-done).mustServe(t)
	for range 10 {
		s.ask(annKey, hello).mustServe(t)
	}
	if !strings.Contains(s.logs(), "could not be stored") {
		t.Error("the log does not say that the login is in memory only")
	}
	_, refresh := up.Tokens("main")
	if len(filesWith(t, disk, refresh)) != 0 {
		t.Fatal("the new token was stored, so nothing was tested")
	}
	s.end(syscall.SIGKILL)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refresher stores the token", 90*time.Second, func() bool { return len(filesWith(t, disk, refresh)) == 1 })
	s.start()
	s.ask(annKey, hello).mustServe(t)
	mustKeepRules(t, up)
}

// fill writes until there is no room.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}
