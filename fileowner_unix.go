//go:build unix

package shunt

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives the file to the owner of another.
func sameOwner(f *os.File, other fs.FileInfo) error {
	stat, ok := other.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Getuid() && int(stat.Gid) == os.Getgid() {
		return nil
	}
	return f.Chown(int(stat.Uid), int(stat.Gid))
}
