package faults

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"
)

var (
	proxyURL  = flag.String("proxy", "", "test the proxy that runs at this URL, and not the binary in SHUNT_CADDY")
	proxyKey  = flag.String("key", clientKey, "the key that clients of -proxy show")
	listenA   = flag.String("listen-a", "127.0.0.1:18001", "with -proxy: the upstream address of its account a")
	listenB   = flag.String("listen-b", "127.0.0.1:18002", "with -proxy: the upstream address of its account b")
	resetWith = flag.String("reset", "", "with -proxy: a shell command that makes it forget benched accounts, run before each scene")
	protocols = flag.String("protocols", http11, "with -proxy: the protocols it speaks, of h1 and h2c, with commas")
	tableFile = flag.String("table", "", "also write the table to this file: go test hides what passing tests print when it is given packages")
	onlyRows  = flag.String("rows", "", "run only the rows whose name matches this expression; for work on the suite")
)

// fewestRows is what the suite promises. A run of fewer is no run.
const fewestRows = 60

// atOnce is how many scenes run at a time: nearly all of them only wait.
const atOnce = "16"

// stage is what the tests play on.
var stage struct {
	binary string
	filter *regexp.Regexp
	report report
}

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	flag.Parse()
	stage.binary = os.Getenv("SHUNT_CADDY")
	if stage.binary == "" && *proxyURL == "" {
		fmt.Fprintln(os.Stderr, "faults: nothing to test. Build a Caddy with shunt (go build -o /somewhere/caddy ./cmd/caddy) and run SHUNT_CADDY=/somewhere/caddy go test ./..., or give -proxy; see README.md")
		return 1
	}
	var err error
	if stage.filter, err = regexp.Compile(*onlyRows); err != nil {
		fmt.Fprintln(os.Stderr, "faults: -rows:", err)
		return 1
	}
	// The scenes wait far more than they work, so there may be more of them at a
	// time than processors.
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	began := time.Now()
	code := m.Run()
	var table bytes.Buffer
	ran, failed := stage.report.print(&table, time.Since(began))
	_, _ = os.Stdout.Write(table.Bytes())
	if *tableFile != "" {
		if err := os.WriteFile(*tableFile, table.Bytes(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "faults: -table:", err)
			return 1
		}
	}
	if ran < fewestRows && *onlyRows == "" {
		fmt.Fprintf(os.Stderr, "faults: %d rows ran, expected at least %d\n", ran, fewestRows)
		return 1
	}
	if failed > 0 && code == 0 {
		return 1
	}
	return code
}
