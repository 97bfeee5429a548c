// Package dashboard is the page on which people see a pool, as files in the binary. It
// holds no data: the page asks for that itself, with the key of whoever looks.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed page
var embedded embed.FS

// policy lets the page load what comes with it and ask its own site, and nothing else;
// nobody may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// types are those of the page's files; the machine's own tables may differ.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".LICENSE": "text/plain; charset=utf-8",
}

type file struct {
	data []byte
	etag string
	kind string
}

var files = readAll()

func readAll() map[string]file {
	all := make(map[string]file)
	root, err := fs.Sub(embedded, "page")
	if err != nil {
		panic(err) // the folder is named in this file
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		kind, ok := types[path.Ext(name)]
		if !ok {
			kind = mime.TypeByExtension(path.Ext(name))
		}
		all[name] = file{data, `"` + hex.EncodeToString(sum[:8]) + `"`, kind}
		return nil
	})
	if err != nil {
		panic(err) // what is embedded can be read
	}
	return all
}

// Page is the name of the page itself.
const Page = "index.html"

// Serve answers with one of the page's files, by its name below the page. It reports false,
// and answers nothing, if there is none of that name.
func Serve(w http.ResponseWriter, r *http.Request, name string) bool {
	f, ok := files[name]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Etag", f.etag)
	h.Set("Cache-Control", "no-cache") // kept, and asked each time whether it is the newest
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.data))
	return true
}
