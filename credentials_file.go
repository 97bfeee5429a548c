package shunt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// maxCredentialsFile is far above what a credentials file holds.
const maxCredentialsFile = 1 << 20

const (
	claudeFolder      = ".claude"
	claudeCredentials = ".credentials.json"
	keychainItem      = "Claude Code-credentials"
)

// credentialsFile is a login as its owner has it.
type credentialsFile struct {
	// path is absolute, empty for standard input.
	path     string
	text     []byte
	clientID string
	readOnly bool
	// everyday says that the file is the one that its owner's own programs use.
	everyday bool
	record   credential.Record
}

// readCredentialsFile reads the named file, standard input for -, Claude Code's own
// when there is no name.
func readCredentialsFile(name string, readOnly bool) (*credentialsFile, error) {
	f := &credentialsFile{readOnly: readOnly}
	if name == "-" {
		if readOnly {
			return nil, errors.New("--read-only follows a file, and standard input is none; name it with --file")
		}
		return f, f.read(os.Stdin, "standard input")
	}
	byDefault := name == ""
	if byDefault {
		folder, err := claudeConfigFolder()
		if err != nil {
			return nil, fmt.Errorf("looking for Claude Code's credentials: %w; name the file with --file", err)
		}
		name = filepath.Join(folder, claudeCredentials)
	}
	var err error
	if f.path, err = filepath.Abs(name); err != nil {
		return nil, fmt.Errorf("opening the credentials file: %w", err)
	}
	in, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) && byDefault {
		return nil, fmt.Errorf("there are no credentials of Claude Code: %w. %s", err, otherPlaces(runtime.GOOS, os.Getenv("CLAUDE_CONFIG_DIR")))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the credentials file: %w", err)
	}
	defer in.Close()
	f.everyday = isEveryday(f.path)
	f.clientID = profileClient(f.path)
	return f, f.read(in, f.path)
}

func (f *credentialsFile) read(in io.Reader, from string) (err error) {
	if f.text, err = io.ReadAll(io.LimitReader(in, maxCredentialsFile+1)); err != nil {
		return fmt.Errorf("reading the credentials: %w", err)
	}
	if len(f.text) > maxCredentialsFile {
		return fmt.Errorf("reading %s: it is too large for a credentials file", from)
	}
	if f.readOnly {
		// Only Claude Code's own are read along.
		if _, err = credential.ParseClaudeCode(f.text); err == nil {
			f.record, err = credential.Following(f.path)
		}
	} else {
		f.record, err = credential.ParseFile(f.text, f.clientID)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", from, err)
	}
	return nil
}

// body is what the admin API is sent.
func (f *credentialsFile) body() loginBody {
	if f.readOnly {
		return loginBody{Follow: f.path}
	}
	return loginBody{Credentials: string(f.text), ClientID: f.clientID}
}

// warn tells who imports the login that they work with what comes of it.
func (f *credentialsFile) warn(name string) {
	if !f.everyday || f.readOnly {
		return
	}
	say(`Warning: this is the login that the programs of this user work with. Two who refresh the
same login log each other out: sooner or later the pool or the programs need a new one.
Make one for the pool alone:
  CLAUDE_CONFIG_DIR=~/shunt-%[1]s claude     # sign in, then leave
  caddy shunt import %[1]s --file ~/shunt-%[1]s/.credentials.json
or import this one with --read-only, so that shunt does not refresh it.`, name)
}

// advise says what must not be done with the login from now on.
func (f *credentialsFile) advise() {
	if !f.readOnly && !f.everyday {
		fmt.Println("Do not use the same login elsewhere: whoever refreshes it next logs the other one out.")
	}
}

// claudeConfigFolder is where Claude Code keeps its configuration.
func claudeConfigFolder() (string, error) {
	if folder := os.Getenv("CLAUDE_CONFIG_DIR"); folder != "" {
		return folder, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, claudeFolder), nil
}

// otherPlaces says where the login may be when Claude Code has no file of it.
func otherPlaces(system, configFolder string) string {
	const files = "Name the file with --file, or sign in first: CLAUDE_CONFIG_DIR=<folder> claude"
	if system != "darwin" {
		return files
	}
	return fmt.Sprintf(`On macOS the login is in the Keychain: security find-generic-password -s %q -w | caddy shunt import <name> --file -`, keychainName(configFolder))
}

// keychainName is the Keychain item of Claude Code's login, which has a suffix of
// the folder's name, exactly as it is written, when CLAUDE_CONFIG_DIR is set.
func keychainName(configFolder string) string {
	if configFolder == "" {
		return keychainItem
	}
	sum := sha256.Sum256([]byte(configFolder))
	return keychainItem + "-" + hex.EncodeToString(sum[:])[:8]
}

// isEveryday reports whether a file lies where the programs of this user keep the
// login that they work with: Claude Code's default folder, or the profiles of the
// SDKs.
func isEveryday(path string) bool {
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	folder := realPath(filepath.Dir(path))
	real := filepath.Dir(realPath(path))
	for _, everyday := range []string{filepath.Join(home, claudeFolder), filepath.Join(home, ".config", "anthropic", "credentials")} {
		if everyday = realPath(everyday); folder == everyday || real == everyday {
			return true
		}
	}
	return false
}

func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// profileClient is the OAuth client of a profile, which is not in its
// credentials/<profile>.json but in the configs/<profile>.json beside it
// (anthropic-sdk-go, config). It is empty for any other file.
func profileClient(path string) string {
	folder, name := filepath.Split(path)
	folder = strings.TrimRight(folder, string(filepath.Separator))
	if filepath.Base(folder) != "credentials" {
		return ""
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(folder), "configs", name)) //nolint:gosec // beside the file that the operator names
	if err != nil {
		return ""
	}
	var config struct {
		Authentication struct {
			ClientID string `json:"client_id"`
		} `json:"authentication"`
	}
	if json.Unmarshal(raw, &config) != nil {
		return ""
	}
	return config.Authentication.ClientID
}
