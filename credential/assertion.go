package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

const (
	// maxAssertion bounds a JWT in bytes. Those of clusters and CI systems have one
	// or two thousand.
	maxAssertion = 16 << 10
	// assertionLeeway is how long after its end an assertion is still sent: the
	// clock that is wrong may be ours (RFC 7523, 3: "clock skew").
	assertionLeeway = time.Minute
)

// Assertion says where the JWT of a workload is: exactly one of the two. It is
// read anew for each exchange, since what made it replaces it.
type Assertion struct {
	// File is the path of a file with the JWT, as Kubernetes projects it.
	File string
	// Env is the name of an environment variable with the JWT.
	Env string
}

// String names the place, for people.
func (a Assertion) String() string {
	if a.File != "" {
		return "the assertion in " + a.File
	}
	return "the assertion in the environment variable " + a.Env
}

func (a Assertion) check() error {
	if (a.File == "") == (a.Env == "") {
		return errors.New("an assertion needs a file or an environment variable, and not both")
	}
	return nil
}

// read returns the JWT. Its errors name the place and never quote the content.
func (a Assertion) read(now time.Time) (secret, error) {
	text, err := a.text()
	if err != nil {
		return secret{}, fmt.Errorf("reading %s: %w", a, err)
	}
	ends, err := checkJWT(text)
	if err != nil {
		return secret{}, fmt.Errorf("%s %w", a, err)
	}
	if !ends.IsZero() && !now.Before(ends.Add(assertionLeeway)) {
		return secret{}, fmt.Errorf("%s ended at %s; what issues it has not replaced it", a, ends.UTC().Format(time.RFC3339))
	}
	return secret{func() string { return text }}, nil
}

func (a Assertion) text() (string, error) {
	text := os.Getenv(a.Env)
	if a.File != "" {
		raw, err := readSmall(a.File, maxAssertion)
		if err != nil {
			return "", err
		}
		text = string(raw)
	}
	if len(text) > maxAssertion {
		return "", errTooLong
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", errors.New("it is empty")
	}
	return text, nil
}

var errTooLong = errors.New("it is too long")

// readSmall reads a regular file of at most that many bytes. Opening anything else,
// a pipe for instance, could block for good.
func readSmall(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path) // #nosec G304 -- the path is the operator's setting
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, errTooLong
	}
	return raw, nil
}

// checkJWT reports whether the text has the form of a signed JWT (RFC 7519, 3: three
// parts of base64url, of which the second is a JSON object), and when its claim exp
// says that it ends; the zero time if it does not say. The signature is for the
// token server to check.
func checkJWT(text string) (ends time.Time, err error) {
	bad := errors.New("is not a signed JWT (three parts of base64url with dots between)")
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return time.Time{}, bad
	}
	var claims []byte
	for i, part := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || len(raw) == 0 {
			return time.Time{}, bad
		}
		if i == 1 {
			claims = raw
		}
	}
	if doc := gjson.ParseBytes(claims); !gjson.ValidBytes(claims) || !doc.IsObject() {
		return time.Time{}, bad
	} else if exp := doc.Get("exp").Float(); exp > 0 && exp < 1<<40 {
		ends = time.Unix(int64(exp), 0)
	}
	return ends, nil
}
