package credential

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

const redacted = "REDACTED"

// maxSecret bounds a token in bytes. Real ones have about a hundred; the bound
// keeps a wrong file from being sent as a header.
const maxSecret = 8 << 10

// secret is text that must not be printed. It sits in a closure because fmt walks
// unexported fields by reflection without calling their methods, and follows a
// pointer there when the verb does not suit it; of a function it can print but
// the address.
type secret struct{ text func() string }

func (s secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return s.text()
}

func (s secret) empty() bool { return s.reveal() == "" }

// newSecret takes a token as people paste it: space around it is dropped, since
// files and shells add it. What could not go into a header, or would end it
// early, is an error, which does not quote the text.
func newSecret(text string) (secret, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxSecret {
		return secret{}, errors.New("it is too long to be a token")
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return secret{}, errors.New("it contains characters that a token cannot have")
		}
	}
	if text == "" {
		return secret{}, nil
	}
	return secret{func() string { return text }}, nil
}

// fingerprint is a short one-way name of its parts. 48 bits of a hash over a
// random token tell nothing about the token and do not collide by accident.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:6])
}

// hideIn returns err, or, when its text holds one of the secrets, an error that
// has them blanked out and does not lead to the original.
func hideIn(err error, secrets ...secret) error {
	text := err.Error()
	clean := text
	for _, s := range secrets {
		if !s.empty() {
			clean = strings.ReplaceAll(clean, s.reveal(), redacted)
		}
	}
	if clean == text {
		return err
	}
	return errors.New(clean)
}
