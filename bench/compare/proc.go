package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every architecture
// that Go runs Linux on.
const tick = 10 * time.Millisecond

// processorTime is the user and system time that the process has used.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time: %w", err)
	}
	return parseStat(stat)
}

// parseStat takes utime and stime, fields 14 and 15, out of /proc/PID/stat. The second
// field is the program's name in parentheses, which may hold spaces and parentheses.
func parseStat(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("parsing /proc/PID/stat: no program name")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("parsing /proc/PID/stat: only %d fields after the name", len(fields))
	}
	ticks := int64(0)
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parsing /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// memory is what a process holds, in bytes.
type memory struct {
	resident, peak int64
}

func residentMemory(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, fmt.Errorf("reading the resident memory: %w", err)
	}
	return parseStatus(string(status))
}

// parseStatus takes VmRSS and VmHWM, which are in kB, out of /proc/PID/status.
func parseStatus(status string) (memory, error) {
	var m memory
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &m.resident, "VmHWM": &m.peak}[name]
		if into == nil {
			continue
		}
		kilobytes, isKilobytes := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseInt(kilobytes, 10, 64)
		if err != nil || !isKilobytes {
			return memory{}, fmt.Errorf("parsing /proc/PID/status: %q", line)
		}
		*into = n << 10
	}
	if m.resident == 0 || m.peak == 0 {
		return memory{}, errors.New("parsing /proc/PID/status: it lacks VmRSS or VmHWM")
	}
	return m, nil
}

// forgetPeak makes the kernel count the process' peak anew. A kernel that cannot leaves
// the peak of the start in, which is smaller than that of any load worth measuring.
func forgetPeak(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// raiseFiles raises the limit of open files as far as it may, for this process and
// those that it starts, and says how far that was.
func raiseFiles(wanted uint64) (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	if limit.Max < wanted {
		raised := syscall.Rlimit{Cur: wanted, Max: wanted}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return wanted, nil
		}
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("raising the limit of open files: %w", err)
	}
	return limit.Cur, nil
}
