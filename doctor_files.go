package shunt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-shunt/caddy-shunt/internal/doctor"
)

const (
	// everybodyReads is the mode bit that lets everybody read. Files with secrets are
	// often of root and the group of Caddy, which is as it should be.
	everybodyReads fs.FileMode = 0o004
	othersWrite    fs.FileMode = 0o022
)

// mounted are folders into which container engines put secrets, with modes of their
// own.
var mounted = []string{"/run/secrets/", "/var/run/secrets/"}

// files looks at who may read the files with secrets, and for secrets that are
// written where they can be read.
func (p *patient) files(context.Context) []doctor.Finding {
	found := p.writtenSecrets()
	if runtime.GOOS == "windows" {
		return append(found, doctor.Finding{Level: doctor.Skipped, Found: "file modes mean nothing on Windows"})
	}
	if p.text != nil {
		found = append(found, modeOf(p.file, p.holdsSecrets(), true)...)
	}
	for _, path := range p.secretFiles() {
		found = append(found, modeOf(path, true, false)...)
	}
	for _, path := range p.keysFiles() {
		text, err := os.ReadFile(path) //nolint:gosec // the file that the operator names
		found = append(found, modeOf(path, err == nil && writtenKeys(doctor.NewSource(path, text)), true)...)
	}
	found = append(found, p.openRecords()...)
	if len(found) == 0 {
		return []doctor.Finding{{Level: doctor.OK, Found: "nobody else may read what is secret"}}
	}
	return found
}

// modeOf judges a file. secret says that nobody else should read it, steers that
// nobody else should write it.
func modeOf(path string, secret, steers bool) []doctor.Finding {
	info, err := os.Stat(path)
	var f doctor.Finding
	switch {
	case errors.Is(err, fs.ErrPermission):
		f = doctor.Finding{Level: doctor.Skipped, Found: "it cannot be looked at as this user; run doctor as Caddy's"}
	case err != nil:
		f = doctor.Finding{Level: doctor.Problem, Found: "it is named in the configuration and cannot be found", Change: "Write the file, or correct its path."}
	case secret && info.Mode()&everybodyReads != 0 && !slices.ContainsFunc(mounted, func(at string) bool { return strings.HasPrefix(path, at) }):
		f = doctor.Finding{Level: doctor.Problem, Found: "it holds secrets, and everybody on this machine may read it", Change: "chmod o= " + quoteAll([]string{path})}
	case steers && info.Mode()&othersWrite != 0:
		f = doctor.Finding{Level: doctor.Warning, Found: "others than its owner may write it, and with it say who is served", Change: "chmod go-w " + quoteAll([]string{path})}
	default:
		return nil
	}
	f.Where = path
	return []doctor.Finding{f}
}

// writtenSecrets finds credentials of accounts that stand in the configuration
// itself, where the admin API and Caddy's autosave show them.
func (p *patient) writtenSecrets() (found []doctor.Finding) {
	for i := range p.accounts {
		c := &p.accounts[i]
		for _, s := range []struct{ word, value string }{{"api_key", c.config.APIKey}, {"setup_token", c.config.SetupToken}} {
			if s.value == "" || strings.Contains(s.value, "{") {
				continue
			}
			what := "its " + s.word + " is written in the configuration, where the admin API and autosave.json show it"
			if p.text != nil && !strings.Contains(string(p.text), s.value) {
				what = "its " + s.word + " gets into the configuration by {$...}, and the admin API and autosave.json show it"
			}
			found = append(found, doctor.Finding{
				Level: doctor.Warning, Where: p.whereIs(c.pool, c.config.Name), Found: what,
				Change: s.word + " {env.<name of a variable>}\nor, which can be replaced without a restart:\n" + s.word + " {file.<path>}",
			})
		}
	}
	return found
}

// holdsSecrets reports whether the file of the configuration has secrets in clear.
func (p *patient) holdsSecrets() bool {
	for i := range p.accounts {
		for _, secret := range []string{p.accounts[i].config.APIKey, p.accounts[i].config.SetupToken} {
			if secret != "" && !strings.Contains(secret, "{") && strings.Contains(string(p.text), secret) {
				return true
			}
		}
	}
	return writtenKeys(p.parsed.Source)
}

// writtenKeys reports whether a Caddyfile or a file of keys has keys in clear: in
// remote_key [<name>] <secret>.
func writtenKeys(source *doctor.Source) bool {
	for _, words := range source.Lines("remote_key") {
		words = slices.DeleteFunc(words[1:], func(w string) bool { return w == "{" })
		if len(words) == 0 {
			continue
		}
		secret := words[len(words)-1]
		if !strings.HasPrefix(secret, hashPrefix) && !strings.HasPrefix(secret, "{") {
			return true
		}
	}
	return false
}

// secretFiles are the files that {file.*} names for something secret.
func (p *patient) secretFiles() (files []string) {
	var values []string
	for i := range p.accounts {
		values = append(values, p.accounts[i].config.APIKey, p.accounts[i].config.SetupToken)
	}
	for _, h := range p.handlersOf("") {
		values = append(values, h.Encrypt...)
		for _, k := range h.RemoteKeys {
			values = append(values, k.Secret)
		}
	}
	for _, v := range values {
		for _, file := range filesOf(v) {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files
}

func (p *patient) keysFiles() (files []string) {
	for _, h := range p.handlersOf("") {
		if h.KeysFile == "" {
			continue
		}
		if path, err := resolve("keys", h.KeysFile); err == nil && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return files
}

// openRecords finds records of logins, in storages of files, that others may read.
func (p *patient) openRecords() []doctor.Finding {
	var open []string
	seen := make(map[string]bool)
	for i := range p.accounts {
		c := &p.accounts[i]
		if seen[c.pool] {
			continue
		}
		seen[c.pool] = true
		st, err := p.storageOfAccount(c)
		if err != nil {
			continue // the check of the storage tells
		}
		if st, ok := st.(*certmagic.FileStorage); ok {
			open = append(open, openFiles(st.Filename("shunt/"+c.pool), st.Filename(credentialsFolder(c.pool)))...)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return []doctor.Finding{{
		Level: doctor.Problem, Where: filepath.Dir(open[0]), Found: "others than their owner may read the logins in storage, or list them",
		Change: "chmod go= " + quoteAll(open),
	}}
}
