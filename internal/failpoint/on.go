//go:build shuntfail && unix

package failpoint

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// caddy is the Caddy process: the parent of one that refreshes a login, which
// may be gone by the time that it matters, else this one.
var caddy = func() int {
	if len(os.Args) > 2 && os.Args[1] == "shunt" && os.Args[2] == "renew" {
		return os.Getppid()
	}
	return os.Getpid()
}()

// Pass says that the process is at the step. If the folder that SHUNT_FAILPOINTS
// names has a file of the step's name, the process that removes it does what the
// file says: kill-caddy, kill-self, stop-self, or sleep and a duration.
func Pass(step string) {
	folder := os.Getenv("SHUNT_FAILPOINTS")
	if folder == "" {
		return
	}
	file := filepath.Join(folder, step)
	what, err := os.ReadFile(file) //nolint:gosec // a folder that the test names
	if err != nil || os.Remove(file) != nil {
		return
	}
	action, argument, _ := strings.Cut(strings.TrimSpace(string(what)), " ")
	switch action {
	case "kill-caddy":
		kill(caddy, syscall.SIGKILL)
	case "kill-self":
		kill(os.Getpid(), syscall.SIGKILL)
	case "stop-self":
		kill(os.Getpid(), syscall.SIGSTOP)
	case "sleep":
		d, err := time.ParseDuration(argument)
		if err != nil {
			panic("failpoint " + step + ": " + err.Error())
		}
		time.Sleep(d)
	default:
		panic("failpoint " + step + ": unknown action " + action)
	}
}

func kill(pid int, signal syscall.Signal) {
	if err := syscall.Kill(pid, signal); err != nil {
		panic("failpoint: " + err.Error())
	}
	if pid == os.Getpid() {
		time.Sleep(100 * time.Millisecond) // it may take a moment to arrive
	}
}

// Now is the time, moved by the duration in the file that SHUNT_CLOCK names.
func Now() time.Time {
	now := time.Now()
	file := os.Getenv("SHUNT_CLOCK")
	if file == "" {
		return now
	}
	text, err := os.ReadFile(file) //nolint:gosec // a file that the test names
	if err != nil {
		return now
	}
	by, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return now
	}
	// Without the monotonic clock, as after a true jump.
	return now.Round(0).Add(by)
}
