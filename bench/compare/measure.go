package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bench is what all runs share.
type bench struct {
	caddyBinary           string
	caddyProcs, loadProcs int
	upstream              *runningUpstream
	profiles              string // a folder for profiles, empty for none
}

// figures are what one run gave, by name.
type figures map[string]float64

// The figures.
const (
	requestsPerSecond   = "requests/s"
	requestsPerCPU      = "requests per CPU second"
	cpuPer10k           = "CPU s per 10,000 requests"
	latencyP50          = "latency p50, ms"
	latencyP99          = "latency p99, ms"
	eventsPerSecond     = "events/s"
	eventsPerCPU        = "events per CPU second"
	delayP50            = "delay per event p50, ms"
	delayP99            = "delay per event p99, ms"
	eventsArrived       = "events that arrived, %"
	firstP50            = "first byte p50, ms"
	memoryPerStream     = "memory per stream, KB"
	memoryAboveIdle     = "memory above idle, MB"
	goroutinesPerStream = "goroutines per stream"
	cpuPer100kEvents    = "CPU s per 100,000 events"
	megabytesPerSecond  = "MB/s"
	cpuPerGigabyte      = "CPU s per GB"
	memoryPerBody       = "memory above idle / bodies in flight"
	memoryPerBodyAtOnce = "memory above idle / bodies, all at once"
	idleMemory          = "idle memory, MB"
	kilobyte, gigabyte  = 1e3, 1e9
	megabyte            = 1e6
)

// once runs a job against a fresh Caddy of one kind. mark names the run in the names of
// profiles.
func (b *bench) once(c *cell, which, mark string) (figures, error) {
	f, err := b.onceWith(c, which, mark)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", c.Name, which, err)
	}
	return f, nil
}

func (b *bench) onceWith(c *cell, which, mark string) (figures, error) {
	proc, err := startCaddy(b.caddyBinary, which, b.upstream.address(), b.caddyProcs)
	if err != nil {
		return nil, err
	}
	defer proc.stop()
	j := c.Job
	j.Port = proc.port
	l, err := startLoad(&j, b.loadProcs)
	if err != nil {
		return nil, err
	}
	defer l.kill()
	if err := l.await(phaseIdle); err != nil {
		return nil, err
	}
	pid := proc.cmd.Process.Pid
	forgetPeak(pid)
	idle, err := residentMemory(pid)
	if err != nil {
		return nil, err
	}
	idleGoroutines, err := proc.goroutines()
	if err != nil {
		return nil, err
	}
	cpuBefore, err := processorTime(pid)
	if err != nil {
		return nil, err
	}
	if err := l.goOn(); err != nil {
		return nil, fmt.Errorf("starting the load: %w", err)
	}
	goroutines := 0.0
	switch j.Kind {
	case kindPaced:
		if err := l.await(phaseOpen); err != nil {
			return nil, err
		}
		if goroutines, err = proc.goroutines(); err != nil {
			return nil, err
		}
	case kindRequests, kindFlood:
		if err := l.await(phaseWarm); err != nil {
			return nil, err
		}
		if cpuBefore, err = processorTime(pid); err != nil {
			return nil, err
		}
		if err := l.goOn(); err != nil {
			return nil, fmt.Errorf("starting the load: %w", err)
		}
	}
	profiled := b.profile(proc, which, mark, &j)
	if err := l.await(phaseDone); err != nil {
		return nil, err
	}
	cpuAfter, err := processorTime(pid)
	if err != nil {
		return nil, err
	}
	after, err := residentMemory(pid)
	if err != nil {
		return nil, err
	}
	if err := <-profiled; err != nil {
		return nil, err
	}
	line, err := l.line()
	if err != nil {
		return nil, fmt.Errorf("reading the outcome: %w", err)
	}
	out := new(outcome)
	if err := json.Unmarshal([]byte(line), out); err != nil {
		return nil, fmt.Errorf("reading the outcome: %w", err)
	}
	if err := out.check(&j); err != nil {
		return nil, err
	}
	if out.Failed > 0 {
		fmt.Printf("(%s: %d streams failed: %s) ", which, out.Failed, out.Failure)
	}
	return reckon(&j, out, usedUp{
		cpu: cpuAfter - cpuBefore, idle: idle.resident, peak: after.peak, goroutines: goroutines - idleGoroutines,
	}), nil
}

// usedUp is what the Caddy process took.
type usedUp struct {
	cpu        time.Duration
	idle, peak int64 // bytes
	goroutines float64
}

// reckon makes figures of what was seen.
func reckon(j *job, o *outcome, u usedUp) figures {
	cpu, above := max(u.cpu, tick).Seconds(), float64(max(u.peak-u.idle, 4096))
	f := figures{idleMemory: float64(u.idle) / megabyte}
	switch j.Kind {
	case kindPaced:
		f[delayP50], f[delayP99], f[firstP50] = o.Delay.P50, o.Delay.P99, o.First.P50
		f[eventsArrived] = float64(o.Events) / float64(j.Connections*j.Events) * 100
		f[memoryPerStream] = above / kilobyte / float64(j.Connections)
		f[memoryAboveIdle] = above / megabyte
		f[goroutinesPerStream] = u.goroutines / float64(j.Connections)
		f[cpuPer100kEvents] = cpu / float64(o.Events) * 1e5
	case kindFlood:
		f[eventsPerSecond] = float64(o.Events) / o.Seconds
		f[eventsPerCPU] = float64(o.Events) / cpu
	case kindBurst:
		f[memoryPerBodyAtOnce] = above / float64(o.Bytes)
	case kindRequests:
		f[requestsPerSecond] = float64(o.Requests) / o.Seconds
		f[requestsPerCPU] = float64(o.Requests) / cpu
		f[cpuPer10k] = cpu / float64(o.Requests) * 1e4
		f[latencyP50], f[latencyP99] = o.Latency.P50, o.Latency.P99
		f[megabytesPerSecond] = float64(o.Bytes) / megabyte / o.Seconds
		f[cpuPerGigabyte] = cpu / float64(o.Bytes) * gigabyte
		f[memoryPerBody] = above / float64(j.Connections*max(1, j.Body))
	}
	return f
}

// profile takes a CPU profile while the load runs and the profile of allocations after
// it, into files, if that is wanted. A run with profiles is slower than one without.
func (b *bench) profile(proc *caddy, which, mark string, j *job) <-chan error {
	done := make(chan error, 1)
	if b.profiles == "" {
		done <- nil
		return done
	}
	go func() {
		seconds := max(1, int(j.Run/time.Second))
		if j.Kind == kindPaced {
			seconds = 2
		}
		for _, p := range []struct{ name, path string }{
			{"heap", "/debug/pprof/heap"},
			{"cpu", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds)},
			{"allocs", "/debug/pprof/allocs"},
			{"live", "/debug/pprof/heap?gc=1"},
		} {
			data, err := proc.adminGet(p.path)
			if err != nil {
				done <- err
				return
			}
			file := filepath.Join(b.profiles, strings.Join([]string{mark, which, p.name}, "-")+".pb.gz")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				done <- fmt.Errorf("writing a profile: %w", err)
				return
			}
		}
		done <- nil
	}()
	return done
}
