package shunt

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// othersMay are the mode bits that let more than the owner in.
const othersMay fs.FileMode = 0o077

// warnModes tells the operator which of the pool's credentials, in a storage of
// files, and which key files of encrypt others than their owner may read.
func (h *Handler) warnModes() {
	if runtime.GOOS == "windows" {
		return
	}
	var open []string
	if st, ok := h.storage.(*certmagic.FileStorage); ok {
		open = openFiles(st.Filename("shunt/"+h.Pool), st.Filename(credentialsFolder(h.Pool)))
	}
	for _, place := range h.Encrypt {
		if path, ok := strings.CutPrefix(place, "{file."); ok {
			path = strings.TrimSuffix(path, "}")
			if info, err := os.Stat(path); err == nil && info.Mode()&othersMay != 0 {
				open = append(open, path)
			}
		}
	}
	if len(open) > 0 {
		h.logger.Warn("others than their owner may read these credentials or keys; run the command in fix", logPool(h.Pool),
			zap.Strings("files", open), zap.String("fix", "chmod go= "+quoteAll(open)))
	}
}

// openFiles lists what others may read: the pool's folder, its folder of
// credentials and the files in there.
func openFiles(poolFolder, folder string) []string {
	var open []string
	look := func(path string) {
		if info, err := os.Lstat(path); err == nil && info.Mode().Type()&fs.ModeSymlink == 0 && info.Mode()&othersMay != 0 {
			open = append(open, path)
		}
	}
	look(poolFolder)
	look(folder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return open // there are none, or they are not to be read at all
	}
	for _, e := range entries {
		if !e.IsDir() {
			look(filepath.Join(folder, e.Name()))
		}
	}
	return open
}

// quoteAll makes one line for a shell.
func quoteAll(paths []string) string {
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}
