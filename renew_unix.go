//go:build unix

package shunt

import "syscall"

// detached keeps the child out of Caddy's process group and terminal, so that
// what ends those does not end it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
