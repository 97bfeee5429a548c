package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// recordVersion is the version of the stored form. A reader refuses others: a
// record that it does not understand is not its to rewrite.
const recordVersion = 1

// maxRecord bounds a record or a credentials file in bytes.
const maxRecord = 1 << 20

// errNewerRecord marks a record that is sound but of a version not known here.
var errNewerRecord = errors.New("its version is not known to this program")

// Record is a login as it is stored: the tokens, which only this package reads,
// and what is known about them. Times are zero when unknown. Like Credential it
// prints and marshals as REDACTED; Encode gives the stored form.
type Record struct {
	access, refresh secret
	extra           extraKeys

	// Expires is the end of the access token.
	Expires time.Time
	// LoginExpires is the end of the refresh token and with it of the login.
	LoginExpires time.Time
	// Scopes, Subscription ("pro", "max", "team", "enterprise") and RateLimitTier
	// are as the login gave them.
	Scopes        []string
	Subscription  string
	RateLimitTier string
	Email         string
	Organization  string
	AccountUUID   string
	// Follow is the credentials file, of a login that somebody else refreshes, where
	// the tokens are. Such a record is stored without tokens.
	Follow string
	// ClientID is the OAuth client that the refresh token belongs to; empty means
	// the one configured. A refresh token works with no other.
	ClientID string
	// LoginID names the login over all its refreshes. Import sets it.
	LoginID string
	// ImportedAt is when the login came into storage, RefreshedAt when its access
	// token was last refreshed by shunt.
	ImportedAt  time.Time
	RefreshedAt time.Time
}

// extraKeys are the keys that this version does not know, in a closure for the
// same reason as a secret: they may hold one. Nil means none.
type extraKeys func() map[string]json.RawMessage

// NewRecord makes a record from tokens. Either may be empty, not both: without a
// refresh token the login ends with the access token, and without an access
// token the first use refreshes. A zero expires means that the access token is
// taken as usable until the API refuses it.
func NewRecord(access, refresh string, expires time.Time) (Record, error) {
	r := Record{Expires: expires}
	var err error
	if r.access, err = newSecret(access); err != nil {
		return Record{}, fmt.Errorf("reading the access token: %w", err)
	}
	if r.refresh, err = newSecret(refresh); err != nil {
		return Record{}, fmt.Errorf("reading the refresh token: %w", err)
	}
	if r.access.empty() && r.refresh.empty() {
		return Record{}, errors.New("there is neither an access token nor a refresh token")
	}
	return r, nil
}

// tokens names the pair of tokens, to tell one state of a login from another.
func (r Record) tokens() string { return fingerprint(r.access.reveal(), r.refresh.reveal()) }

// String returns REDACTED.
func (r Record) String() string { return redacted }

// GoString returns REDACTED.
func (r Record) GoString() string { return redacted }

// Format prints REDACTED for every verb.
func (r Record) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText gives REDACTED.
func (r Record) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives "REDACTED"; Encode gives the stored form.
func (r Record) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue gives REDACTED.
func (r Record) LogValue() slog.Value { return slog.StringValue(redacted) }

// field ties a key of the stored form to its place in a record.
type field struct {
	key  string
	text *string
	time *time.Time
	sec  *secret
	list *[]string
}

func (r *Record) fields() []field {
	return []field{
		{key: "access_token", sec: &r.access},
		{key: "refresh_token", sec: &r.refresh},
		{key: "expires_at", time: &r.Expires},
		{key: "login_expires_at", time: &r.LoginExpires},
		{key: "scopes", list: &r.Scopes},
		{key: "subscription", text: &r.Subscription},
		{key: "rate_limit_tier", text: &r.RateLimitTier},
		{key: "email", text: &r.Email},
		{key: "organization", text: &r.Organization},
		{key: "account_uuid", text: &r.AccountUUID},
		{key: "follow", text: &r.Follow},
		{key: "client_id", text: &r.ClientID},
		{key: "login_id", text: &r.LoginID},
		{key: "imported_at", time: &r.ImportedAt},
		{key: "refreshed_at", time: &r.RefreshedAt},
	}
}

// Encode gives the stored form, tokens included: a JSON object with "version" 1,
// times in RFC 3339 (people read these files at night), no empty keys, and the
// unknown keys that the record came with.
func (r Record) Encode() ([]byte, error) {
	out := map[string]any{}
	if r.extra != nil {
		for k, v := range r.extra() {
			out[k] = v
		}
	}
	out["version"] = recordVersion
	for _, f := range r.fields() {
		switch {
		case f.sec != nil && !f.sec.empty():
			out[f.key] = f.sec.reveal()
		case f.text != nil && *f.text != "":
			out[f.key] = *f.text
		case f.time != nil && !f.time.IsZero():
			t := f.time.UTC()
			if !encodable(t) {
				return nil, fmt.Errorf("encoding a record: %s is out of range", f.key)
			}
			out[f.key] = t.Format(time.RFC3339Nano)
		case f.list != nil && len(*f.list) > 0:
			out[f.key] = *f.list
		}
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, errors.New("encoding a record: a key that came with it is not JSON")
	}
	return raw, nil
}

// encodable reports whether RFC 3339 can write the time, which has four digits
// for the year.
func encodable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// ParseRecord reads the stored form. Keys that it does not know are kept for
// Encode. Errors name the key at fault and never quote a value.
func ParseRecord(raw []byte) (Record, error) {
	keys, err := object(raw)
	if err != nil {
		return Record{}, fmt.Errorf("reading a record: %w", err)
	}
	if e, sealed := readEnvelope(raw); sealed {
		return Record{}, fmt.Errorf("reading a record: %w", e.fail("that key is not configured (encrypt), or does not open it"))
	}
	var version int
	if json.Unmarshal(keys["version"], &version) != nil || version < 1 {
		return Record{}, errors.New("reading a record: it has no version")
	}
	if version != recordVersion {
		return Record{}, fmt.Errorf("reading a record: %w", errNewerRecord)
	}
	delete(keys, "version")
	var r Record
	for _, f := range r.fields() {
		value, ok := keys[f.key]
		if !ok || isNull(value) {
			delete(keys, f.key)
			continue
		}
		if err := f.parse(value); err != nil {
			return Record{}, fmt.Errorf("reading a record: %s: %w", f.key, err)
		}
		delete(keys, f.key)
	}
	if r.access.empty() && r.refresh.empty() && r.Follow == "" {
		return Record{}, errors.New("reading a record: it has no token")
	}
	if len(keys) > 0 {
		r.extra = func() map[string]json.RawMessage { return keys }
	}
	return r, nil
}

func (f field) parse(value json.RawMessage) error {
	if f.list != nil {
		if json.Unmarshal(value, f.list) != nil {
			return errors.New("it is not a list of texts")
		}
		return nil
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return errors.New("it is not a text")
	}
	switch {
	case f.sec != nil:
		s, err := newSecret(text)
		*f.sec = s
		return err
	case f.time != nil:
		t, err := time.Parse(time.RFC3339Nano, text)
		if t = t.UTC(); err != nil || !encodable(t) {
			return errors.New("it is not a time as RFC 3339 has it")
		}
		*f.time = t
	default:
		*f.text = text
	}
	return nil
}

// object reads a JSON object into its keys. Editors on Windows may put a byte
// order mark in front.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if len(raw) > maxRecord {
		return nil, errors.New("it is too large")
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		if !json.Valid(raw) {
			return nil, errors.New("it is not valid JSON")
		}
		return nil, errors.New("it is not a JSON object")
	}
	if keys == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return keys, nil
}

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }
