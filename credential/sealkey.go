package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// keySize is the length of a key for AES-256 in bytes.
const keySize = 32

// Key is a key that records are sealed with. It is an immutable value, safe to
// copy, and prints as REDACTED whatever the verb or the encoder. The zero value
// is no key.
type Key struct{ bytes func() []byte }

// ParseKey reads a key of 32 bytes: base64, standard or for URLs, padded or not,
// or hexadecimal. Space around it is dropped. Errors do not quote the text.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Key{}, errors.New("the key is empty")
	}
	raw, err := decodeKey(text)
	if err != nil {
		return Key{}, err
	}
	if len(raw) != keySize {
		return Key{}, fmt.Errorf("the key has %d bytes; expected %d, as openssl rand -base64 32 makes them", len(raw), keySize)
	}
	return Key{func() []byte { return raw }}, nil
}

func decodeKey(text string) ([]byte, error) {
	if len(text) == hex.EncodedLen(keySize) {
		if raw, err := hex.DecodeString(text); err == nil {
			return raw, nil
		}
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("the key is neither base64 nor hexadecimal; expected 32 bytes, as openssl rand -base64 32 makes them")
	}
	return raw, nil
}

// ID names the key without giving it away: 12 hexadecimal digits. It is empty for
// the zero value.
func (k Key) ID() string {
	if k.bytes == nil {
		return ""
	}
	return fingerprint("sealing key", string(k.bytes()))
}

// aead is the cipher of the key, which must not be the zero value.
func (k Key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.bytes())
	if err != nil {
		panic("credential: a key of a wrong size was made")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("credential: AES has another block size than GCM wants")
	}
	return gcm
}

// String returns REDACTED.
func (k Key) String() string { return redacted }

// GoString returns REDACTED.
func (k Key) GoString() string { return redacted }

// Format prints REDACTED for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText gives REDACTED.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives "REDACTED".
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue gives REDACTED.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }
