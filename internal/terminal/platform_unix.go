//go:build unix

package terminal

import (
	"os"
	"os/signal"
	"syscall"
)

const alwaysUTF8 = false

// enableSequences makes the terminal follow escape sequences; here they all do.
func enableSequences(*os.File) error { return nil }

// notifyResize tells c when the terminal may have another size, or when a shell may have
// written to it while we were stopped, until stop is called.
func notifyResize(c chan os.Signal) (stop func()) {
	signal.Notify(c, syscall.SIGWINCH, syscall.SIGCONT)
	return func() { signal.Stop(c) }
}
