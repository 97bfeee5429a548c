package shunt

import "syscall"

// detached keeps the child out of Caddy's process group and console, so that what
// ends those does not end it.
func detached() *syscall.SysProcAttr {
	const detachedProcess = 0x00000008
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess}
}
