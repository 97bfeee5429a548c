package shunt

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-shunt/caddy-shunt/people"
)

// RemoteKey is a key that a client may use, and whose it is.
type RemoteKey struct {
	// The person's name. Default: "default".
	Name string `json:"name,omitempty"`
	// The key, or "sha256:" and the hex SHA-256 of the key. Accepts {env.*} and
	// {file.*}.
	Secret string `json:"secret"`
	// May pin accounts and see other people's usage, with this key.
	Admin bool `json:"admin,omitempty"`
	// When the key ends: a date such as 2027-01-31, whose day in the time zone is the
	// last, or RFC 3339. Default: never.
	Expires string `json:"expires,omitempty"`
	// What the person may use, as in Person: limits are the person's, whichever key
	// they come with.
	people.Limits
}

// Person says what a person may use, whoever tells their name: a key, or what Caddy
// found out before this handler.
type Person struct {
	// The person's name; "*" is everybody for whom nothing else is said.
	Name string `json:"name"`
	// May pin accounts and see other people's usage.
	Admin bool `json:"admin,omitempty"`
	people.Limits
}

// DefaultKeyName is the name of a key that was given none.
const DefaultKeyName = "default"

// everybody is the name under which limits are given that hold for each person
// without any of their own.
const everybody = "*"

const hashPrefix = "sha256:"

// shortestKey is the length in bytes below which a key is taken for a mistake:
// remote_key ann {$UNSET} leaves the name in the place of the key.
const shortestKey = 8

// mostPersonName bounds the name of a person, in bytes.
const mostPersonName = 200

// hashSecret gives a key in the form in which configuration may safely keep it.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// person is who makes a request.
type person struct {
	// name is empty for the owner of this machine when there are no keys.
	name  string
	admin bool
}

// roster is who may come, and what each may use. It is immutable. The keys
// themselves are not kept, only their hashes.
type roster struct {
	keys   []keyEntry
	names  map[string]bool // of keys
	people map[string]*people.Limits
	admins map[string]bool
}

type keyEntry struct {
	hash    [sha256.Size]byte
	name    string
	admin   bool
	expires time.Time // zero for never
}

// newRoster resolves the secrets. Dates of keys are days of the zone.
func newRoster(keys []*RemoteKey, persons []*Person, zone *time.Location) (*roster, error) {
	r := &roster{names: make(map[string]bool), people: make(map[string]*people.Limits), admins: make(map[string]bool)}
	for _, k := range keys {
		if err := r.addKey(k, zone); err != nil {
			return nil, err
		}
	}
	for _, p := range persons {
		if err := p.check(); err != nil {
			return nil, err
		}
		if p.Admin {
			r.admins[p.Name] = true
		}
		if err := r.limit(p.Name, &p.Limits); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *roster) addKey(k *RemoteKey, zone *time.Location) error {
	name := k.Name
	if name == "" {
		name = DefaultKeyName
	}
	if err := k.check(); err != nil {
		return err
	}
	entry := keyEntry{name: name, admin: k.Admin}
	var err error
	if entry.hash, err = keyHash(name, k.Secret); err != nil {
		return err
	}
	if entry.expires, err = endOf(k.Expires, zone); err != nil {
		return fmt.Errorf("remote_key %s: expires: %w", name, err)
	}
	for _, other := range r.keys {
		if other.hash != entry.hash {
			continue
		}
		if other.name != name {
			return fmt.Errorf("remote_key %s: has the same key as %s", name, other.name)
		}
		return fmt.Errorf("remote_key %s: the same key is given twice", name)
	}
	r.keys = append(r.keys, entry)
	r.names[name] = true
	return r.limit(name, &k.Limits)
}

// limit takes note of a person's limits. They may be said once, or the same again.
func (r *roster) limit(name string, l *people.Limits) error {
	if l.IsZero() {
		return nil
	}
	if other := r.people[name]; other != nil && !other.Equal(l) {
		return fmt.Errorf("limits of %s are given twice and differ; give them once, in person %s { ... }", name, name)
	}
	r.people[name] = l
	return nil
}

// check finds what is wrong with a key's settings, apart from its secret.
func (k *RemoteKey) check() error {
	name := k.Name
	if name == "" {
		name = DefaultKeyName
	}
	if !nameSyntax.MatchString(name) {
		return fmt.Errorf("remote_key %q: the name is not %s", name, nameRule)
	}
	if _, err := endOf(k.Expires, time.UTC); err != nil {
		return fmt.Errorf("remote_key %s: expires: %w", name, err)
	}
	if err := k.Check(); err != nil {
		return fmt.Errorf("remote_key %s: %w", name, err)
	}
	return nil
}

func (p *Person) check() error {
	if p.Name == "" || len(p.Name) > mostPersonName || strings.ContainsAny(p.Name, "\r\n") {
		return fmt.Errorf("person %q: expected a name of one line and at most %d bytes, or *", p.Name, mostPersonName)
	}
	if p.Name == everybody && p.Admin {
		return fmt.Errorf("person *: not everybody can be an admin; name them")
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("person %s: %w", p.Name, err)
	}
	return nil
}

// keyHash resolves a key's secret.
func keyHash(name, raw string) (hash [sha256.Size]byte, err error) {
	secret, err := resolve("remote_key "+name, raw)
	if err != nil {
		return hash, err
	}
	if digits, hashed := strings.CutPrefix(secret, hashPrefix); hashed {
		sum, err := hex.DecodeString(digits)
		if err != nil || len(sum) != sha256.Size {
			return hash, fmt.Errorf("remote_key %s: expected %s and 64 hex digits", name, hashPrefix)
		}
		copy(hash[:], sum)
		return hash, nil
	}
	if err := checkSecret(secret); err != nil {
		return hash, fmt.Errorf("remote_key %s: %w", name, err)
	}
	return sha256.Sum256([]byte(secret)), nil
}

// checkSecret refuses what cannot be meant as the key of a person.
func checkSecret(secret string) error {
	if strings.HasPrefix(secret, "sk-ant-") {
		return fmt.Errorf("this looks like a credential of Anthropic's; expected a key of your own making")
	}
	if len(secret) < shortestKey {
		return fmt.Errorf("the key has %d characters; expected at least %d, best one that caddy shunt key has made", len(secret), shortestKey)
	}
	return nil
}

// endOf is the instant up to which a date or an RFC 3339 time lasts; zero for none.
func endOf(date string, zone *time.Location) (time.Time, error) {
	if date == "" {
		return time.Time{}, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, date, zone); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q; expected a date such as 2027-01-31, or RFC 3339", date)
	}
	return t, nil
}

func (r *roster) has(name string) bool { return r.names[name] }

// find looks a key up. Every entry is compared, in constant time.
func (r *roster) find(key string) (entry *keyEntry) {
	sum := sha256.Sum256([]byte(key))
	for i := range r.keys {
		if subtle.ConstantTimeCompare(sum[:], r.keys[i].hash[:]) == 1 {
			entry = &r.keys[i]
		}
	}
	return entry
}

// expired reports whether the key has come to its end.
func (k *keyEntry) expired(now time.Time) bool { return !k.expires.IsZero() && !now.Before(k.expires) }

// admin reports whether the person is an admin, whatever told their name.
func (r *roster) admin(name string) bool { return name != "" && r.admins[name] }

var unlimited people.Limits

// limits are what the person may use: their own, else those of everybody.
func (r *roster) limits(name string) *people.Limits {
	if l := r.people[name]; l != nil {
		return l
	}
	if l := r.people[everybody]; l != nil && name != "" {
		return l
	}
	return &unlimited
}

// known are the names of those who have a key, or limits of their own.
func (r *roster) known() []string {
	names := slices.Collect(maps.Keys(r.names))
	for name := range r.people {
		if name != everybody && !r.names[name] {
			names = append(names, name)
		}
	}
	return names
}
