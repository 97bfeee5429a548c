package check

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// expressions counts what was checked, so that a run in which nothing was checked
// cannot look green.
var expressions int

// caddyPath is the binary under test.
var caddyPath string

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	caddyPath = os.Getenv("SHUNT_CADDY")
	if info, err := os.Stat(caddyPath); err != nil || info.IsDir() {
		fmt.Fprintf(os.Stderr, "SHUNT_CADDY is %q and should name a Caddy with shunt: go build -C ../.. -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy\n", caddyPath)
		os.Exit(1)
	}
	code := m.Run()
	if world.stop != nil {
		world.stop()
	}
	fmt.Printf("contrib: %d expressions checked against %d metrics of a real Caddy\n", expressions, len(world.types))
	if code == 0 && expressions == 0 && flag.Lookup("test.run").Value.String() == "" {
		fmt.Println("FAIL: nothing was checked")
		code = 1
	}
	os.Exit(code)
}
