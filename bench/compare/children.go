package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// roleVariable says which role a process of this program has; without it, it is the one
// that measures.
const roleVariable = "SHUNT_COMPARE_ROLE"

const (
	roleUpstream = "upstream"
	roleLoad     = "load"
)

// actRole plays the role that the environment gives and ends the process; it returns
// when there is none.
func actRole() {
	var err error
	switch os.Getenv(roleVariable) {
	case roleUpstream:
		err = serveUpstream()
	case roleLoad:
		err = runLoad()
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child is this program in another role.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(role string, processors int) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	c := &child{cmd: exec.Command(self)} //nolint:gosec,noctx // itself; it ends with its standard input
	c.cmd.Env = roleEnvironment(role, processors)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	return c, nil
}

func (c *child) line() (string, error) {
	line, err := c.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// await reads up to a phase that the load announces.
func (c *child) await(phase string) error {
	line, err := c.line()
	if err != nil || line != phase {
		return fmt.Errorf("the load was to say %q and said %q (%v)", phase, line, err)
	}
	return nil
}

func (c *child) goOn() error {
	_, err := io.WriteString(c.in, "go\n")
	return err
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// runningUpstream is the upstream's process.
type runningUpstream struct {
	*child
	port int
	runs int
}

func startUpstream(processors int) (*runningUpstream, error) {
	c, err := startChild(roleUpstream, processors)
	if err != nil {
		return nil, err
	}
	line, err := c.line()
	if err == nil {
		var port int
		if port, err = strconv.Atoi(line); err == nil {
			return &runningUpstream{child: c, port: port}, nil
		}
	}
	c.kill()
	return nil, fmt.Errorf("starting the upstream: it said %q: %w", line, err)
}

// address is the upstream's for one run. Each run has another one: connections that a
// Caddy has closed block their ports for a minute, but only toward one destination.
func (u *runningUpstream) address() string {
	u.runs++
	return fmt.Sprintf("127.0.%d.%d:%d", 1+u.runs/250%250, 1+u.runs%250, u.port)
}

// stop ends the upstream; that it was asked for something else than the benchmark's
// requests is an error.
func (u *runningUpstream) stop() error {
	u.in.Close()
	line, err := u.line()
	if err != nil {
		u.kill()
		return fmt.Errorf("ending the upstream: %w", err)
	}
	_ = u.cmd.Wait()
	if line != "0" {
		return errors.New("upstream got " + line + " requests that are not the benchmark's")
	}
	return nil
}

func startLoad(j *job, processors int) (*child, error) {
	c, err := startChild(roleLoad, processors)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c.in).Encode(j); err != nil {
		c.kill()
		return nil, fmt.Errorf("telling the load its job: %w", err)
	}
	return c, nil
}
