package terminal

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/terminal"
)

// caddyPath is the binary under test.
var caddyPath string

const howToRun = "build it with `go build -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy` " +
	"in the root of the repository and run the tests with SHUNT_CADDY=/tmp/shunt-caddy"

func TestMain(m *testing.M) {
	if os.Getenv("SHUNT_TEST_PANIC") != "" {
		panicOnScreen()
	}
	if caddyPath = os.Getenv("SHUNT_CADDY"); caddyPath == "" {
		fmt.Fprintln(os.Stderr, "these tests need a Caddy with shunt, and SHUNT_CADDY does not name one:", howToRun)
		os.Exit(1)
	}
	code := m.Run()
	fmt.Printf("terminal: %d commands ran in a terminal\n", ran.Load())
	if code == 0 && ran.Load() == 0 {
		fmt.Println("FAIL: no command ran in a terminal, so nothing was tested")
		code = 1
	}
	os.Exit(code)
}

// panicOnScreen is what the test of a panic runs in a process of its own.
func panicOnScreen() {
	screen, err := terminal.OpenScreen(os.Stdin, os.Stdout, terminal.Look{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer screen.Close()
	if err := screen.Draw([]terminal.Line{terminal.Text("before the panic")}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.Sleep(200 * time.Millisecond)
	panic("as ordered")
}
