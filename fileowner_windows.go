package shunt

import (
	"io/fs"
	"os"
)

// sameOwner does nothing: a new file has the rights of its folder here.
func sameOwner(*os.File, fs.FileInfo) error { return nil }
