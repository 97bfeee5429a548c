package api

import (
	"fmt"
	"os"
	"testing"
)

const howToRun = "build it with `go build -tags nobadger,nomysql,nopgx -o /tmp/shunt-caddy ./cmd/caddy` " +
	"in the root of the repository and run the tests with SHUNT_CADDY=/tmp/shunt-caddy"

// binary is the Caddy under test.
var binary = os.Getenv("SHUNT_CADDY")

// checked counts the answers that were held against the file.
var checked int

func TestMain(m *testing.M) {
	if info, err := os.Stat(binary); err != nil || info.IsDir() {
		fmt.Fprintf(os.Stderr, "these tests need a Caddy with shunt, and SHUNT_CADDY names none: %s\n", howToRun)
		os.Exit(1)
	}
	code := m.Run()
	fmt.Printf("api: %d answers checked\n", checked)
	if code == 0 && checked == 0 {
		fmt.Println("FAIL: no answer was checked")
		code = 1
	}
	os.Exit(code)
}
