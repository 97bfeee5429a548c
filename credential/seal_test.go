package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// testSealKey makes a key of 32 equal bytes.
func testSealKey(t testing.TB, b byte) Key {
	t.Helper()
	k, err := ParseKey(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func plainRecord(t testing.TB) []byte {
	t.Helper()
	r, err := NewRecord("access-0", "refresh-0", time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestParseKey(t *testing.T) {
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = 0xfb ^ byte(i) // has + and / in base64
	}
	want, err := ParseKey(hex.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"std": base64.StdEncoding.EncodeToString(raw), "raw std": base64.RawStdEncoding.EncodeToString(raw),
		"url": base64.URLEncoding.EncodeToString(raw), "raw url": base64.RawURLEncoding.EncodeToString(raw),
		"upper hex": strings.ToUpper(hex.EncodeToString(raw)), "space": " " + base64.StdEncoding.EncodeToString(raw) + "\n",
	} {
		if k, err := ParseKey(text); err != nil || k.ID() != want.ID() {
			t.Errorf("%s: %v; the ID is %s, want %s", name, err, k.ID(), want.ID())
		}
	}
	for name, text := range map[string]string{
		"empty": " ", "words": "correct horse battery staple!!", "short": base64.StdEncoding.EncodeToString(raw[:31]),
		"long": base64.StdEncoding.EncodeToString(append(bytes.Clone(raw), 1)), "short hex": hex.EncodeToString(raw[:24]), "bad hex": strings.Repeat("zz%%", 16),
	} {
		k, err := ParseKey(text)
		if err == nil || k.ID() != "" {
			t.Errorf("%s was taken", name)
		} else if trimmed := strings.TrimSpace(text); trimmed != "" && strings.Contains(err.Error(), trimmed) {
			t.Errorf("%s: the error quotes the text: %v", name, err)
		}
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	raw := bytes.Repeat([]byte("K"), 32)
	k, err := ParseKey(base64.StdEncoding.EncodeToString(raw))
	if err != nil {
		t.Fatal(err)
	}
	marshalled, err := json.Marshal(map[string]any{"k": k, "p": &k})
	if err != nil {
		t.Fatal(err)
	}
	holder := struct{ k Key }{k}
	for _, text := range []string{string(marshalled), fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k), fmt.Sprintf("%v %+v %#v", holder, holder, &holder), k.LogValue().String()} {
		for _, form := range []string{"KKKK", "4b4b", "75, 75", "75 75", base64.StdEncoding.EncodeToString(raw)} {
			if strings.Contains(text, form) {
				t.Errorf("the key is in %s", text)
			}
		}
	}
}

func TestSealedForm(t *testing.T) {
	st, k, ctx := newMemStorage(), testSealKey(t, 1), context.Background()
	sealed := Sealed(st, k)
	plain := plainRecord(t)
	if err := sealed.Store(ctx, testKey, plain); err != nil {
		t.Fatal(err)
	}
	raw := st.data[testKey]
	for _, secret := range []string{"access-0", "refresh-0", "access_token", "2030"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s is in the stored form", secret)
		}
	}
	var form map[string]any
	if err := json.Unmarshal(raw, &form); err != nil {
		t.Fatal(err)
	}
	if form["version"] != 1.0 || form["sealed"] != "aes-256-gcm" || form["key"] != k.ID() || form["nonce"] == nil || form["data"] == nil || len(form) != 5 {
		t.Errorf("the stored form is %s", raw)
	}
	if got, err := sealed.Load(ctx, testKey); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("loaded %s, %v", got, err)
	}
	if err := sealed.Store(ctx, testKey, plain); err != nil || bytes.Equal(raw, st.data[testKey]) {
		t.Errorf("sealing twice gives the same bytes: the nonce is used again; %v", err)
	}
	if err := sealed.Store(ctx, "shunt/default/state/x.json", plain); err != nil || !bytes.Equal(st.data["shunt/default/state/x.json"], plain) {
		t.Errorf("what is no credential was sealed; %v", err)
	}
	if Sealed(st) != Storage(st) || Sealed(st, Key{}) != Storage(st) {
		t.Error("without a key the storage is another one")
	}
}

// TestSealedTamper changes each byte of a sealed record: nothing but the record
// itself may come out.
func TestSealedTamper(t *testing.T) {
	st, k, ctx := newMemStorage(), testSealKey(t, 1), context.Background()
	sealed, plain := Sealed(st, k), plainRecord(t)
	if err := sealed.Store(ctx, testKey, plain); err != nil {
		t.Fatal(err)
	}
	raw := bytes.Clone(st.data[testKey])
	refused := 0
	for i := range raw {
		for _, flip := range []byte{1, 2, 4, 0x20, 0x80} {
			changed := bytes.Clone(raw)
			changed[i] ^= flip
			st.set(func() { st.data[testKey] = changed })
			got, err := sealed.Load(ctx, testKey)
			if err != nil {
				t.Fatal(err)
			}
			if rec, err := ParseRecord(got); err == nil {
				t.Fatalf("byte %d ^ %#x: a record was read: %v", i, flip, rec)
			} else if errors.Is(err, errSealed) {
				refused++
			} else if _, still := readEnvelope(changed); still {
				t.Fatalf("byte %d ^ %#x: it is sealed, but the error is %v", i, flip, err)
			}
			if _, err := Reseal(ctx, sealed, testKey); err == nil && !bytes.Equal(st.data[testKey], changed) {
				t.Fatalf("byte %d ^ %#x: what does not open was written anew", i, flip)
			}
		}
	}
	if refused < len(raw) {
		t.Errorf("%d of %d changes were refused as sealed", refused, 5*len(raw))
	}
}

func TestSealedSwap(t *testing.T) {
	st, ctx := newMemStorage(), context.Background()
	sealed := Sealed(st, testSealKey(t, 1))
	const other = "shunt/default/credentials/bob.json"
	if err := sealed.Store(ctx, testKey, plainRecord(t)); err != nil {
		t.Fatal(err)
	}
	st.set(func() { st.data[other] = st.data[testKey]; st.data[testKey+".corrupt-17-2"] = st.data[testKey] })
	raw, err := sealed.Load(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	var se *SealedError
	if _, err := ParseRecord(raw); !errors.As(err, &se) {
		t.Errorf("alice's record was read as bob's: %v", err)
	}
	if _, err := Reseal(ctx, sealed, other); !errors.As(err, &se) || !strings.Contains(err.Error(), "another name") {
		t.Errorf("the error for a swapped record is %v", err)
	}
	if raw, err = sealed.Load(ctx, testKey+".corrupt-17-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRecord(raw); err != nil {
		t.Errorf("a copy that was set aside does not open: %v", err)
	}
}

func TestSealedRotation(t *testing.T) {
	st, ctx := newMemStorage(), context.Background()
	old, fresh, plain := testSealKey(t, 1), testSealKey(t, 2), plainRecord(t)
	check := func(step string, keys []Key, changed bool, by string) {
		t.Helper()
		sealed := Sealed(st, keys...)
		if got, err := Reseal(ctx, sealed, testKey); err != nil || got != changed {
			t.Fatalf("%s: resealed %v, %v; want %v", step, got, err, changed)
		}
		if e, _ := readEnvelope(st.data[testKey]); e.Key != by {
			t.Errorf("%s: sealed with %q, want %q", step, e.Key, by)
		}
		if got, err := sealed.Load(ctx, testKey); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: loaded %s, %v", step, got, err)
		}
	}
	st.data[testKey] = plain
	check("no key", nil, false, "")
	check("plain to sealed", []Key{old}, true, old.ID())
	locks := len(st.lockLog)
	check("again", []Key{old}, false, old.ID())
	if len(st.lockLog) != locks {
		t.Error("the lock was taken for nothing")
	}
	check("new key known", []Key{old, fresh}, false, old.ID())
	check("new key first", []Key{fresh, old}, true, fresh.ID())
	check("old key gone", []Key{fresh}, false, fresh.ID())

	var se *SealedError
	if _, err := Reseal(ctx, Sealed(st, old), testKey); !errors.As(err, &se) || se.KeyID != fresh.ID() || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("with the wrong key: %v", err)
	}
	if changed, err := Reseal(ctx, Sealed(st, old), "shunt/default/credentials/nobody.json"); changed || err != nil {
		t.Errorf("a missing record: %v, %v", changed, err)
	}
	for name, raw := range map[string]string{"empty": "", "truncated": string(plain[:20]), "newer": `{"version":2}`} {
		st.data[testKey] = []byte(raw)
		if changed, err := Reseal(ctx, Sealed(st, old), testKey); changed || err != nil || string(st.data[testKey]) != raw {
			t.Errorf("%s: an unreadable record was changed to %q, %v", name, st.data[testKey], err)
		}
	}
	st.data[testKey+".corrupt-5"] = []byte(`{"version":1,"access_token":`)
	if changed, err := Reseal(ctx, Sealed(st, old), testKey+".corrupt-5"); !changed || err != nil || bytes.Contains(st.data[testKey+".corrupt-5"], []byte("access")) {
		t.Errorf("a plain copy that was set aside stays plain: %v, %v", changed, err)
	}
}

// TestSealedWithoutKey: a record that no key opens requires a login, is left
// alone, and is used as soon as the key is there.
func TestSealedWithoutKey(t *testing.T) {
	for name, keys := range map[string][]Key{"no key": nil, "another key": {testSealKey(t, 9)}} {
		t.Run(name, func(t *testing.T) {
			st, k, ctx := newMemStorage(), testSealKey(t, 1), context.Background()
			if err := Sealed(st, k).Store(ctx, testKey, plainRecord(t)); err != nil {
				t.Fatal(err)
			}
			before := bytes.Clone(st.data[testKey])
			swap := &swapStorage{Storage: Sealed(st, keys...)}
			srv := newTokenServer(t, "refresh-0")
			o := networked(t, srv, Config{Storage: swap})
			_, err := o.Get(ctx)
			if !errors.Is(err, ErrLoginRequired) || !strings.Contains(err.Error(), k.ID()) {
				t.Errorf("Get: %v; want a required login that names key %s", err, k.ID())
			}
			if _, err := o.Refresh(ctx, Credential{}); !errors.Is(err, ErrLoginRequired) {
				t.Errorf("Refresh: %v", err)
			}
			if !bytes.Equal(before, st.data[testKey]) || len(st.data) != 1 || srv.called() != 0 {
				t.Errorf("the record was touched: %d records, %d calls", len(st.data), srv.called())
			}
			swap.set(Sealed(st, testSealKey(t, 2), k))
			if err := o.Reload(ctx); err != nil {
				t.Fatalf("with the key: %v", err)
			}
			wantToken(t, o, "access-0")
		})
	}
}

// swapStorage is a storage that can be replaced, as a new configuration does.
type swapStorage struct {
	mu sync.Mutex
	Storage
}

func (s *swapStorage) set(st Storage) { s.mu.Lock(); s.Storage = st; s.mu.Unlock() }

func (s *swapStorage) Load(ctx context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	st := s.Storage
	s.mu.Unlock()
	return st.Load(ctx, key)
}

// TestSealedImportOverUnopenable: a new login replaces what no key opens, which is
// kept beside it as it was.
func TestSealedImportOverUnopenable(t *testing.T) {
	st, lost, k, ctx := newMemStorage(), testSealKey(t, 1), testSealKey(t, 2), context.Background()
	if err := Sealed(st, lost).Store(ctx, testKey, plainRecord(t)); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(st.data[testKey])
	rec, err := NewRecord("access-new", "refresh-new", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Import(ctx, Sealed(st, k), testKey, rec); err != nil {
		t.Fatal(err)
	}
	var aside string
	for name := range st.data {
		if strings.HasPrefix(name, testKey+".corrupt-") {
			aside = name
		}
	}
	if !bytes.Equal(st.data[aside], before) {
		t.Fatalf("the old record is not beside the new one: %d records", len(st.data))
	}
	if e, _ := readEnvelope(st.data[testKey]); e.Key != k.ID() {
		t.Error("the new record is not sealed with the new key")
	}
	raw, err := Sealed(st, k, lost).Load(ctx, aside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRecord(raw); err != nil {
		t.Errorf("the old record cannot be had again with its key: %v", err)
	}
}

// TestSealedRefresh: a login goes on over a change of keys, and never gets into
// storage in clear again.
func TestSealedRefresh(t *testing.T) {
	st, old, fresh, ctx := newMemStorage(), testSealKey(t, 1), testSealKey(t, 2), context.Background()
	st.put(t, "access-0", "refresh-0", time.Now().Add(8*time.Hour))
	st.storeFault = func(_ string, value []byte) error {
		if bytes.Contains(value, []byte("refresh-")) {
			t.Error("a token was stored in clear")
		}
		return nil
	}
	srv := newTokenServer(t, "refresh-0")
	o := networked(t, srv, Config{Storage: Sealed(st, fresh, old)})
	c := wantToken(t, o, "access-0")
	if _, err := Reseal(ctx, Sealed(st, fresh, old), testKey); err != nil {
		t.Fatal(err)
	}
	if err := o.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Refresh(ctx, c); err != nil {
		t.Fatal(err)
	}
	wantToken(t, o, "access-1")
	if e, _ := readEnvelope(st.data[testKey]); e.Key != fresh.ID() {
		t.Errorf("the refreshed record is sealed with %q", e.Key)
	}
	peer := networked(t, srv, Config{Storage: Sealed(st, fresh)})
	wantToken(t, peer, "access-1")
}

func TestSealedConcurrently(t *testing.T) {
	st, old, fresh, ctx := newMemStorage(), testSealKey(t, 1), testSealKey(t, 2), context.Background()
	plain := plainRecord(t)
	st.data[testKey] = plain
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			sealed := Sealed(st, fresh, old)
			for range 20 {
				switch i % 4 {
				case 0:
					if _, err := Reseal(ctx, sealed, testKey); err != nil {
						t.Error(err)
					}
				case 1:
					if err := Sealed(st, old, fresh).Store(ctx, testKey, plain); err != nil {
						t.Error(err)
					}
				default:
					if got, err := sealed.Load(ctx, testKey); err != nil || !bytes.Equal(got, plain) {
						t.Errorf("loaded %q, %v", got, err)
					}
				}
			}
		})
	}
	group.Wait()
}

func TestLoginEnd(t *testing.T) {
	imported := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	told := imported.Add(10 * 24 * time.Hour)
	for _, c := range []struct {
		name              string
		refresh           string
		imported, expires time.Time
		want              time.Time
		guessed           bool
	}{
		{"told", "r", imported, told, told, false},
		{"guessed", "r", imported, time.Time{}, imported.Add(28 * 24 * time.Hour), true},
		{"unknown", "r", time.Time{}, time.Time{}, time.Time{}, false},
		{"no refresh token", "", imported, time.Time{}, time.Time{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec, err := NewRecord("a", c.refresh, imported.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			rec.ImportedAt, rec.LoginExpires = c.imported, c.expires
			st := newMemStorage()
			st.putRecord(t, rec)
			o := start(t, Config{Storage: st, Clock: func() time.Time { return imported }})
			if err := o.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			if s := o.Status(); !s.LoginExpires.Equal(c.want) || s.LoginExpiresGuessed != c.guessed {
				t.Errorf("ends %v, guessed %v; want %v, %v", s.LoginExpires, s.LoginExpiresGuessed, c.want, c.guessed)
			}
		})
	}
}

func FuzzSealed(f *testing.F) {
	k, plain := testSealKey(f, 1), plainRecord(f)
	raw, err := k.seal(testKey, plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(testKey, raw)
	f.Add(testKey, plain)
	f.Add(testKey+".corrupt-1", raw)
	f.Add("shunt/default/credentials/bob.json", raw)
	f.Add(testKey, []byte(`{"version":1,"sealed":"aes-256-gcm","key":"`+k.ID()+`","nonce":"AAAAAAAAAAAAAAAA","data":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Add(testKey, []byte(`{"version":1,"sealed":["aes-256-gcm"],"key":7}`))
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		st := newMemStorage()
		st.data[name] = raw
		s := Sealed(st, k).(*sealedStorage)
		got, err := s.Load(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		_, wasSealed := readEnvelope(raw)
		_, isSealed := readEnvelope(got)
		switch {
		case !wasSealed && !bytes.Equal(got, raw):
			t.Error("what is not sealed was changed")
		case wasSealed && !isSealed && !bytes.Equal(got, plain):
			t.Errorf("a record that nobody sealed was opened: %q", got)
		case wasSealed && isSealed && !bytes.Equal(got, raw):
			t.Error("what does not open was changed")
		}
		if _, err := ParseRecord(got); isSealed && !errors.Is(err, errSealed) {
			t.Errorf("a sealed record: %v", err)
		}
	})
}
