package terminal

import (
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// Consoles get what is written to them through Go as UTF-16.
const alwaysUTF8 = true

// enableSequences makes the console follow escape sequences. Older ones cannot.
func enableSequences(f *os.File) error {
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(f.Fd()), &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(windows.Handle(f.Fd()), mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
}

// lookForResize is how often the console is asked for its size: it tells nobody.
const lookForResize = 250 * time.Millisecond

// notifyResize tells c when the terminal may have another size, until stop is called.
func notifyResize(c chan os.Signal) (stop func()) {
	ticker, done := time.NewTicker(lookForResize), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			select {
			case c <- os.Interrupt:
			default:
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
	}
}
