//go:build unix

package shunt

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByUs reports whether what we would write there is what Caddy would: root
// could write anywhere, and leave files that Caddy cannot read.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}
