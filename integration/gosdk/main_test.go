package gosdk

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// goCalls and nodeCalls count the calls that the SDKs made through the pool.
// They are printed at the end, so that whoever runs the suite can tell a run
// that proved something from one that only ended well.
var goCalls, nodeCalls atomic.Int64

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	if err := findCaddy(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Most cases wait, for a retry or for Caddy: more of them at once than there
	// are processors save time and cost nothing.
	if err := flag.Set("test.parallel", "12"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The SDKs take addresses and credentials from the environment. Nothing of
	// the person's who runs the tests may get into them.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ANTHROPIC_") {
			if err := os.Unsetenv(name); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	code := m.Run()
	fmt.Printf("gosdk: %d calls through the pool\n", goCalls.Load())
	fmt.Printf("tssdk: %d calls through the pool\n", nodeCalls.Load())
	if code == 0 && goCalls.Load()+nodeCalls.Load() == 0 {
		fmt.Println("FAIL: no SDK call went through the pool, so nothing was tested")
		code = 1
	}
	os.Exit(code)
}

const howToRun = "build it with `go build -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy` " +
	"in the root of the repository and run the tests with SHUNT_CADDY=/tmp/shunt-caddy"

// caddyPath is the binary under test.
var caddyPath string

func findCaddy() error {
	caddyPath = os.Getenv("SHUNT_CADDY")
	if caddyPath == "" {
		return fmt.Errorf("these tests need a Caddy with shunt, and SHUNT_CADDY does not name one: %s", howToRun)
	}
	info, err := os.Stat(caddyPath)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("SHUNT_CADDY names %s, which is not a program: %s", caddyPath, howToRun)
	}
	return nil
}
