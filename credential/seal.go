package credential

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

const (
	// sealing is the only way of sealing that there is.
	sealing = "aes-256-gcm"
	// sealVersion is the version of the sealed form.
	sealVersion = 1
	// sealedPart is in the storage key of all that is sealed.
	sealedPart = "/credentials/"
)

// errSealed marks a record that is sealed and stays so: sound, for all that this
// program can tell.
var errSealed = errors.New("it is sealed")

// SealedError is a sealed record that could not be opened. It may well be sound:
// it is not to be overwritten but by a new login.
type SealedError struct {
	// KeyID is the ID of the key that the record says it is sealed with; empty when
	// it says nothing that can be one.
	KeyID string
	why   string
}

// Error tells which key is needed.
func (e *SealedError) Error() string {
	if e.KeyID == "" {
		return errSealed.Error() + "; " + e.why
	}
	return fmt.Sprintf("%v with key %s; %s", errSealed, e.KeyID, e.why)
}

// Is makes errors.Is find every SealedError under one name.
func (e *SealedError) Is(target error) bool { return target == errSealed }

// kept reports whether what ParseRecord could not read is sound all the same, and
// so no case for a copy.
func kept(err error) bool { return errors.Is(err, errNewerRecord) || errors.Is(err, errSealed) }

// envelope is the stored form of a sealed record: a JSON object with "version",
// "sealed" (how), "key" (its ID), "nonce" and "data" (base64).
type envelope struct {
	Version int    `json:"version"`
	Sealed  string `json:"sealed"`
	Key     string `json:"key"`
	Nonce   string `json:"nonce"`
	Data    string `json:"data"`
}

var (
	keyIDSyntax = regexp.MustCompile(`^[0-9a-f]{12}$`)
	asideSyntax = regexp.MustCompile(`\.json\.corrupt-[0-9]+(-[0-9]+)?$`)
)

// readEnvelope reads a sealed record. ok is false for what is not sealed. The
// envelope of a sealed one may lack anything.
func readEnvelope(raw []byte) (e envelope, ok bool) {
	keys, err := object(raw)
	if err != nil || isNull(keys["sealed"]) {
		return envelope{}, false
	}
	_ = json.Unmarshal(keys["version"], &e.Version)
	for key, to := range map[string]*string{"sealed": &e.Sealed, "key": &e.Key, "nonce": &e.Nonce, "data": &e.Data} {
		_ = json.Unmarshal(keys[key], to)
	}
	if !keyIDSyntax.MatchString(e.Key) {
		e.Key = ""
	}
	return e, true
}

// fail is the error for a sealed record that stays closed.
func (e envelope) fail(why string) *SealedError { return &SealedError{KeyID: e.Key, why: why} }

// bound is what is authenticated beside the data: how it was sealed, and the name
// of the record, so that records cannot be swapped. A copy that was set aside has
// the name of its record, so that it can be put back by renaming it.
func (e envelope) bound(name string) []byte {
	if at := asideSyntax.FindStringIndex(name); at != nil {
		name = name[:at[0]] + ".json"
	}
	return fmt.Appendf(nil, "shunt record\x00%d\x00%s\x00%s\x00%s", e.Version, e.Sealed, e.Key, name)
}

var strictBase64 = base64.StdEncoding.Strict()

// seal gives the sealed form of the record of that name.
func (k Key) seal(name string, plain []byte) ([]byte, error) {
	e := envelope{Version: sealVersion, Sealed: sealing, Key: k.ID()}
	gcm := k.aead()
	nonce := make([]byte, gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("making a nonce: %w", err)
	}
	e.Nonce = strictBase64.EncodeToString(nonce)
	e.Data = strictBase64.EncodeToString(gcm.Seal(nil, nonce, plain, e.bound(name)))
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a sealed record: %w", err)
	}
	if len(raw) > maxRecord {
		return nil, errors.New("it is too large")
	}
	return raw, nil
}

// open gives what e holds, the record of that name.
func (k Key) open(name string, e envelope) ([]byte, error) {
	nonce, err := strictBase64.DecodeString(e.Nonce)
	gcm := k.aead()
	if err != nil || len(nonce) != gcm.NonceSize() {
		return nil, e.fail("its nonce is damaged")
	}
	data, err := strictBase64.DecodeString(e.Data)
	if err != nil {
		return nil, e.fail("its data is damaged")
	}
	plain, err := gcm.Open(nil, nonce, data, e.bound(name))
	if err != nil {
		return nil, e.fail("that key does not open it: it was changed, or belongs to another name")
	}
	return plain, nil
}

// sealedStorage seals and opens the records that go through it.
type sealedStorage struct {
	Storage
	keys []Key
}

// Sealed is st with its credentials encrypted (AES-256-GCM): what is stored under
// .../credentials/ is sealed with the first key, and what any of the keys has
// sealed is opened when it is loaded. Plain records are loaded as they are. What
// no key opens is loaded as it is stored: ParseRecord refuses it with a
// *SealedError, and it is stored again as it is. Without a key, Sealed returns st.
func Sealed(st Storage, keys ...Key) Storage {
	var use []Key
	for _, k := range keys {
		if k.bytes != nil {
			use = append(use, k)
		}
	}
	if len(use) == 0 {
		return st
	}
	return &sealedStorage{Storage: st, keys: use}
}

// Store seals the value.
func (s *sealedStorage) Store(ctx context.Context, key string, value []byte) error {
	if _, already := readEnvelope(value); strings.Contains(key, sealedPart) && !already {
		var err error
		if value, err = s.keys[0].seal(key, value); err != nil {
			return fmt.Errorf("sealing: %w", err)
		}
	}
	return s.Storage.Store(ctx, key, value)
}

// Load opens the value if a key fits.
func (s *sealedStorage) Load(ctx context.Context, key string) ([]byte, error) {
	raw, err := s.Storage.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	if plain, _, err := s.open(key, raw); err == nil {
		return plain, nil
	}
	return raw, nil
}

// open opens a value. by is the ID of the key that did, empty for what is not sealed.
func (s *sealedStorage) open(name string, raw []byte) (plain []byte, by string, err error) {
	e, ok := readEnvelope(raw)
	switch {
	case !ok:
		return raw, "", nil
	case e.Version != sealVersion || e.Sealed != sealing:
		return nil, "", e.fail("the way of sealing is not known to this program")
	}
	for _, k := range s.keys {
		if k.ID() == e.Key {
			plain, err := k.open(name, e)
			return plain, e.Key, err
		}
	}
	return nil, "", e.fail("that key is not configured")
}

// Reseal rewrites the record at key with the first key of st, which Sealed made,
// if it is plain or sealed with an older key; it does so under the record's lock,
// and takes no lock when there is nothing to do. A plain record that ParseRecord
// cannot read stays as it is, unless it is a copy that was set aside. A sealed one
// that none of the keys opens is a *SealedError. Any other st is left alone.
func Reseal(ctx context.Context, st Storage, key string) (changed bool, err error) {
	s, ok := st.(*sealedStorage)
	if !ok || !strings.Contains(key, sealedPart) {
		return false, nil
	}
	if plain, err := s.stale(ctx, key); err != nil || plain == nil {
		return false, err
	}
	unlock, err := lock(ctx, st, key, lockWait)
	if err != nil {
		return false, fmt.Errorf("resealing: %w", err)
	}
	defer func() {
		if uerr := unlock(); uerr != nil && err == nil {
			err = fmt.Errorf("resealing: %w", uerr)
		}
	}()
	plain, err := s.stale(ctx, key)
	if err != nil || plain == nil {
		return false, err
	}
	if err := store(ctx, st, key, plain); err != nil {
		return false, fmt.Errorf("resealing: %w", err)
	}
	return true, nil
}

// stale gives what the record holds if it is to be sealed anew, else nil.
func (s *sealedStorage) stale(ctx context.Context, key string) ([]byte, error) {
	raw, err := load(ctx, s.Storage, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resealing: %w", err)
	}
	plain, by, err := s.open(key, raw)
	if err != nil {
		return nil, fmt.Errorf("resealing %s: %w", key, err)
	}
	if by == s.keys[0].ID() {
		return nil, nil
	}
	if _, err := ParseRecord(plain); by == "" && err != nil && !asideSyntax.MatchString(key) {
		return nil, nil
	}
	return plain, nil
}
