package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	chaosFor    = flag.Duration("chaos.for", time.Minute, "how long faults are made")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "the seed of the faults; 0: another one each time")
	chaosOnly   = flag.String("chaos.only", "", "of the faults that one account has at a time, only those whose name matches this expression")
	workers     = flag.Int("chaos.workers", 16, "clients that ask at once")
	soakFor     = flag.Duration("soak.for", time.Minute, "how long memory is watched")
	openStreams = flag.Int("streams", 10_000, "how many streams are open at once")
	update      = flag.Bool("update", false, "write the table of docs/reliability.md")
)

// binary is the Caddy under test.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if binary = os.Getenv("SHUNT_CADDY"); binary == "" {
		fmt.Fprintln(os.Stderr, "chaos: SHUNT_CADDY must name a Caddy with shunt")
		os.Exit(1)
	}
	if *chaosSeed == 0 {
		*chaosSeed = uint64(time.Now().UnixNano())
	}
	os.Exit(m.Run())
}
