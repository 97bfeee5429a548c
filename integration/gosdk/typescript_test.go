package gosdk

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// nodeTests is where the tests of the TypeScript SDK are.
const nodeTests = "../tssdk"

// leastNodeTests is fewer than there are: a run with less has lost some.
const leastNodeTests = 320

// nodeMajors are the SDK's majors under test.
var nodeMajors = []string{"0", "1"}

// nodePool is a pool as the TypeScript tests see it.
type nodePool struct {
	URL      string `json:"url"`
	Upstream string `json:"upstream"`
}

// nodeWorld is what the TypeScript tests are given.
type nodeWorld struct {
	Key          string   `json:"key"`
	OtherKey     string   `json:"otherKey"`
	ReferenceKey string   `json:"referenceKey"`
	Members      []string `json:"members"`
	// Pools are by major and by kind of configuration.
	Pools map[string]map[string][]nodePool `json:"pools"`
}

// TestTypeScriptSDK runs the tests of ../tssdk against a Caddy of its own.
func TestTypeScriptSDK(t *testing.T) {
	t.Parallel()
	mustHaveNode(t)
	installNodeModules(t)
	w := nodeWorld{Key: annKey, OtherKey: bobKey, ReferenceKey: referenceKey, Members: members, Pools: map[string]map[string][]nodePool{}}
	for _, major := range nodeMajors {
		w.Pools[major] = map[string][]nodePool{}
	}
	for kind, config := range map[string]struct {
		count int // for each major
		extra string
	}{"held": {64, ""}, "off": {12, holdOff}, "stall": {6, "stall_timeout 1s"}} {
		s := newStage(t, config.count*len(nodeMajors), config.extra)
		for _, major := range nodeMajors {
			for range config.count {
				p := s.fresh(t)
				w.Pools[major][kind] = append(w.Pools[major][kind], nodePool{p.url, p.upstream})
			}
		}
	}
	output := runNode(t, &w)
	mustHaveRun(t, output)
	if t.Failed() {
		t.Logf("node said:\n%s", output)
	}
}

// mustHaveNode fails without a Node that the tests run on.
func mustHaveNode(t *testing.T) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the tests of the TypeScript SDK need Node 20 or newer with npm, and %s is not installed: %v", program, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
	if n, badNumber := strconv.Atoi(major); err != nil || badNumber != nil || n < 20 {
		t.Fatalf("the tests of the TypeScript SDK need Node 20 or newer; `node --version` says %q (%v)", out, err)
	}
}

// installNodeModules brings node_modules up to the lock.
func installNodeModules(t *testing.T) {
	t.Helper()
	lock, err := os.Stat(filepath.Join(nodeTests, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	// npm writes this file last, when all is in place.
	installed, err := os.Stat(filepath.Join(nodeTests, "node_modules", ".package-lock.json"))
	if err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci")
	cmd.Dir = nodeTests
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("`npm ci` in integration/tssdk: %v\n%s", err, out)
	}
}

func runNode(t *testing.T, w *nodeWorld) string {
	t.Helper()
	told, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(nodeTests, "*.test.mjs"))
	if err != nil || len(files) != len(nodeMajors) {
		t.Fatalf("found the tests %v, expected one file for each of %v: %v", files, nodeMajors, err)
	}
	// A case that failed may leave an SDK asleep until some Retry-After; the
	// process ends all the same.
	args := []string{"--test", "--test-reporter=tap", "--test-force-exit"}
	for _, file := range files {
		args = append(args, filepath.Base(file))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = nodeTests
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "SHUNT_WORLD=" + string(told)}
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("`node --test` in integration/tssdk: %v", err)
	}
	return out.String()
}

var (
	summaryLine = regexp.MustCompile(`(?m)^# (tests|pass|fail|cancelled|skipped|todo) (\d+)$`)
	callsLine   = regexp.MustCompile(`(?m)tssdk: (\d+) calls through the pool`)
)

// mustHaveRun reads the summary: all tests ran and passed, and enough of them.
func mustHaveRun(t *testing.T, output string) {
	t.Helper()
	summary := map[string]int{}
	for _, match := range summaryLine.FindAllStringSubmatch(output, -1) {
		n, err := strconv.Atoi(match[2])
		if err != nil {
			t.Fatal(err)
		}
		summary[match[1]] = n
	}
	if summary["pass"] < leastNodeTests || summary["pass"] != summary["tests"] {
		t.Errorf("node ran %d tests, %d passed, %d failed, %d were cancelled, %d skipped and %d left to do; expected at least %d, all passed",
			summary["tests"], summary["pass"], summary["fail"], summary["cancelled"], summary["skipped"], summary["todo"], leastNodeTests)
	}
	reports := callsLine.FindAllStringSubmatch(output, -1)
	for _, match := range reports {
		n, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil || n == 0 {
			t.Errorf("node reports %q", match[0])
		}
		nodeCalls.Add(n)
	}
	if len(reports) != len(nodeMajors) {
		t.Errorf("%d files report their calls, expected %d", len(reports), len(nodeMajors))
	}
	t.Logf("node: %d tests passed", summary["pass"])
}
