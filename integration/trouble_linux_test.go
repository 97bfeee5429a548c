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
	fill, empty := fullDisk(t, disk)
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
	fill()
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
	empty()
	eventually(t, "the refresher stores the token", 90*time.Second, func() bool { return len(filesWith(t, disk, refresh)) == 1 })
	s.start()
	s.ask(annKey, hello).mustServe(t)
	mustKeepRules(t, up)
}

// fullDisk puts a small disk in the folder's place, and gives what fills and what
// empties it. Only root may do that; for others the folder becomes one that cannot be
// written, which shunt meets in the same way.
func fullDisk(t *testing.T, folder string) (fill, empty func()) {
	t.Helper()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=512k"); err != nil {
		if os.Getuid() == 0 {
			t.Fatal(err)
		}
		return func() { setWritable(t, folder, false) }, func() { setWritable(t, folder, true) }
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	file := filepath.Join(folder, "filler")
	fill = func() {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	return fill, func() {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}
