package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The two that are compared.
const (
	withShunt    = "shunt"
	reverseProxy = "reverse_proxy"
)

// accounts is how many shunt has in its pool.
const accounts = 5

// caddyfile is the configuration of either. What both have is the same; neither writes
// an access log.
func caddyfile(which, upstream, admin string, port int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin unix/%s\n\tpersist_config off\n\tauto_https off\n\tgrace_period 1s\n}\n", admin)
	fmt.Fprintf(&b, "http://127.0.0.1:%d {\n\tbind fd/3\n", port)
	if which == reverseProxy {
		fmt.Fprintf(&b, "\treverse_proxy http://%s {\n\t\tflush_interval -1\n\t\theader_up X-Api-Key %s0\n\t}\n}\n", upstream, accountKey)
		return b.String()
	}
	fmt.Fprintf(&b, "\tshunt {\n\t\tpool benchmark\n\t\tupstream http://%s\n\t\tremote_key benchmark %s\n", upstream, clientKey)
	for i := range accounts {
		fmt.Fprintf(&b, "\t\taccount account%d {\n\t\t\tapi_key %s%d\n\t\t}\n", i, accountKey, i)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// caddy is a running Caddy process.
type caddy struct {
	cmd   *exec.Cmd
	port  int
	home  string
	log   bytes.Buffer // complete once done is closed
	done  chan struct{}
	admin *http.Client
}

// startCaddy runs a Caddy in a home of its own, with a socket that listens already, so
// that nobody else can have its port. processors is its GOMAXPROCS, 0 for Go's default;
// everything else of the Go runtime's is at its default.
func startCaddy(binary, which, upstream string, processors int) (*caddy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for Caddy: %w", err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("listening for Caddy: %w", err)
	}
	defer socket.Close()
	home, err := os.MkdirTemp("", "shunt-compare-")
	if err != nil {
		return nil, fmt.Errorf("making a home for Caddy: %w", err)
	}
	admin := filepath.Join(home, "admin.sock")
	c := &caddy{port: listener.Addr().(*net.TCPAddr).Port, home: home, done: make(chan struct{})}
	c.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}}
	config := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(config, []byte(caddyfile(which, upstream, admin, c.port)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the Caddyfile: %w", err)
	}
	c.cmd = exec.Command(binary, "run", "--config", config, "--adapter", "caddyfile") //nolint:gosec,noctx // the binary under test; stop ends it
	c.cmd.Dir = home
	c.cmd.ExtraFiles = []*os.File{socket} // file descriptor 3
	c.cmd.Env = append(roleEnvironment("", processors), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	// It does not outlive this program, however that ends.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	if err := c.ready(); err != nil {
		c.stop()
		return nil, fmt.Errorf("starting Caddy with %s: %w\n%s", which, err, c.log.String())
	}
	return c, nil
}

// roleEnvironment keeps what the person's who runs this has set away from processes.
func roleEnvironment(role string, processors int) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), roleVariable + "=" + role}
	if processors > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(processors))
	}
	return env
}

// ready waits until Caddy answers for upstream.
func (c *caddy) ready() error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-c.done:
			return errors.New("it ended")
		default:
		}
		probe := &load{job: &job{Port: c.port}}
		if probe.greet(requestBody(400, false)) == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("it was not ready within 30 s")
}

// stop ends the process; its state is nobody's.
func (c *caddy) stop() {
	_ = c.cmd.Process.Kill()
	<-c.done
	_ = os.RemoveAll(c.home)
}

// adminGet asks the admin endpoint.
func (c *caddy) adminGet(path string) ([]byte, error) {
	response, err := c.admin.Get("http://127.0.0.1" + path) //nolint:noctx // over a socket, and the process is killed at the end
	if err != nil {
		return nil, fmt.Errorf("asking Caddy for %s: %w", path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("asking Caddy for %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking Caddy for %s: status %d", path, response.StatusCode)
	}
	return data, nil
}

// goroutines is how many the process has now.
func (c *caddy) goroutines() (float64, error) {
	metrics, err := c.adminGet("/metrics")
	if err != nil {
		return 0, err
	}
	return parseGauge(string(metrics), "go_goroutines")
}

// parseGauge finds a gauge without labels in Prometheus' text format.
func parseGauge(metrics, name string) (float64, error) {
	lines := bufio.NewScanner(strings.NewReader(metrics))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the metric %s: %w", name, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}
