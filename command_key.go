package shunt

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

// keyPrefix begins the keys that we make, so that one that got out can be told for
// what it is.
const keyPrefix = "shunt-"

// keyBytes is how much chance is in a key.
const keyBytes = 32

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key <name> [--keys <file>] [--expires <date or duration>] [--admin]",
		Short: "Makes a key for a person",
		Long: `Makes a key for a person and prints it, once: only its hash is kept. The line for
the configuration goes to the standard output, or with --keys to the end of that
file, which a running Caddy takes over by itself within seconds.

A person may have several keys. To replace one without a gap, make another, and
remove the line of the old one once the new one is in use.`,
		Example: `  caddy shunt key ann
  caddy shunt key ann --keys /etc/caddy/people
  caddy shunt key ci --keys /etc/caddy/people --expires 90d`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().String("keys", "", "The file of keys to write the line to")
	cmd.Flags().String("expires", "", "When the key ends: a date such as 2027-01-31, or how long it lasts, such as 90d")
	cmd.Flags().Bool("admin", false, "The key of an admin")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(flags caddycmd.Flags) (int, error) {
		if err := makeKey(flags); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	})
	return cmd
}

func makeKey(flags caddycmd.Flags) error {
	key := &RemoteKey{Name: flags.Arg(0), Admin: flags.Bool("admin")}
	var err error
	if key.Expires, err = expiryDate(flags.String("expires"), failpoint.Now()); err != nil {
		return err
	}
	if err := key.check(); err != nil {
		return err
	}
	var chance [keyBytes]byte
	_, _ = rand.Read(chance[:]) // never fails
	secret := keyPrefix + base64.RawURLEncoding.EncodeToString(chance[:])
	key.Secret = hashSecret(secret)
	file := flags.String("keys")
	if file == "" {
		say("The key of %s, shown only now:", key.Name)
		fmt.Fprintf(os.Stderr, "\n    %s\n\n", secret)
		say("Give it to %s. For the configuration, or its file of keys:", key.Name)
		fmt.Print(key.line())
		return nil
	}
	if err := appendKey(file, key); err != nil {
		return fmt.Errorf("adding the key to %s: %w", file, err)
	}
	say("%s has a new line for %s; a running Caddy takes it over within seconds.", file, key.Name)
	say("The key of %s, shown only now:", key.Name)
	fmt.Println(secret)
	return nil
}

// line is the key as a Caddyfile has it.
func (k *RemoteKey) line() string {
	var words []string
	if k.Admin {
		words = append(words, "\tadmin\n")
	}
	if k.Expires != "" {
		words = append(words, "\texpires "+k.Expires+"\n")
	}
	head := "remote_key " + k.Name + " " + k.Secret
	if len(words) == 0 {
		return head + "\n"
	}
	return head + " {\n" + strings.Join(words, "") + "}\n"
}

// expiryDate is what the flag --expires says: a date, or a time from now.
func expiryDate(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if d, err := caddy.ParseDuration(text); err == nil {
		if d <= 0 {
			return "", fmt.Errorf("--expires: %q is over already", text)
		}
		return now.Add(d).UTC().Format(time.RFC3339), nil
	}
	end, err := endOf(text, time.UTC)
	if err != nil {
		return "", fmt.Errorf("--expires: %w, or a duration such as 90d", err)
	}
	if !end.After(now) {
		return "", fmt.Errorf("--expires: %q is over already", text)
	}
	return text, nil
}

// appendKey writes the key's line to the end of the file, or does not touch it: what
// reads it sees the file before or after, never half of it. The file is made if there
// is none.
func appendKey(file string, key *RemoteKey) error {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target // the link stays one
	}
	mode := os.FileMode(0o600)
	text, err := os.ReadFile(file) //nolint:gosec // the file that the user names
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	text = append(text, key.line()...)
	keys, persons, err := parseKeys(file, text)
	if err != nil {
		return err
	}
	if _, err := newRoster(hashesOnly(keys), persons, time.UTC); err != nil {
		return err
	}
	return replaceFile(file, text, mode)
}

// hashesOnly are the keys whose hash stands in the file: what placeholders stand for
// is not known to a command.
func hashesOnly(keys []*RemoteKey) []*RemoteKey {
	var known []*RemoteKey
	for _, k := range keys {
		if strings.HasPrefix(k.Secret, hashPrefix) {
			known = append(known, k)
		}
	}
	return known
}

// replaceFile puts the text in the file's place. The owner stays who it was, as far
// as we may say so: Caddy must still be able to read it.
func replaceFile(file string, text []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if info, statErr := os.Stat(file); statErr == nil {
		if err := sameOwner(f, info); err != nil {
			return fmt.Errorf("keeping its owner: %w", err)
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
