package credential

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// profileKey is the key of a record under which unknown keys of a profile are kept.
const profileKey = "profile"

// ParseFile reads a credentials file of either kind that Anthropic's own programs
// write: Claude Code's, see [ParseClaudeCode], or a profile of the SDKs and of ant
// (~/.config/anthropic/credentials/<profile>.json), which is told by a type of
// "oauth_token" or a version of "1.0". clientID is the OAuth client of the login
// when the file does not say; empty means unknown.
//
// Errors say which key is at fault and never quote a value.
func ParseFile(b []byte, clientID string) (Record, error) {
	file, err := object(b)
	if err != nil {
		return Record{}, fmt.Errorf("reading a credentials file: %w", err)
	}
	if isNull(file["claudeAiOauth"]) && isProfile(file) {
		return parseProfile(file, clientID)
	}
	r, err := ParseClaudeCode(b)
	if err == nil && r.ClientID == "" {
		r.ClientID = clientID
	}
	return r, err
}

func isProfile(file map[string]json.RawMessage) bool {
	return textIs(file["type"], "oauth_token") || textIs(file["version"], "1.0")
}

func textIs(value json.RawMessage, want string) bool {
	var text string
	return json.Unmarshal(value, &text) == nil && text == want
}

// parseProfile reads the credentials of a profile: access_token, refresh_token and
// expires_at in seconds (anthropic-sdk-go, config.WriteCredentials). The OAuth
// client is not among them but in the profile's configuration.
func parseProfile(file map[string]json.RawMessage, clientID string) (Record, error) {
	fail := func(err error) (Record, error) {
		return Record{}, fmt.Errorf("reading the credentials of a profile: %w", err)
	}
	for key, want := range map[string]string{"type": "oauth_token", "version": "1.0"} {
		if value := file[key]; !isNull(value) && !textIs(value, want) {
			return fail(fmt.Errorf("%s: it is not %q", key, want))
		}
		delete(file, key)
	}
	r := Record{ClientID: clientID}
	for _, f := range []field{{key: "access_token", sec: &r.access}, {key: "refresh_token", sec: &r.refresh}} {
		if value := file[f.key]; !isNull(value) {
			if err := f.parse(value); err != nil {
				return fail(fmt.Errorf("%s: %w", f.key, err))
			}
		}
		delete(file, f.key)
	}
	var err error
	if r.Expires, err = epochSeconds(file["expires_at"]); err != nil {
		return fail(fmt.Errorf("expires_at: %w", err))
	}
	delete(file, "expires_at")
	if r.access.empty() && r.refresh.empty() {
		return fail(errors.New("it has neither access_token nor refresh_token"))
	}
	if len(file) > 0 {
		rest, err := json.Marshal(file)
		if err != nil {
			return fail(errors.New("it is not valid JSON"))
		}
		kept := map[string]json.RawMessage{profileKey: rest}
		r.extra = func() map[string]json.RawMessage { return kept }
	}
	return r, nil
}

// epochSeconds reads a time in seconds since 1970. What cannot be one is unknown,
// the zero time; what is no number at all is an error.
func epochSeconds(value json.RawMessage) (time.Time, error) {
	if isNull(value) {
		return time.Time{}, nil
	}
	var n float64
	if json.Unmarshal(value, &n) != nil {
		return time.Time{}, errors.New("it is not a number")
	}
	if n < 1 || n > maxMillis/1000 {
		return time.Time{}, nil
	}
	return time.Unix(int64(math.Floor(n)), 0).UTC(), nil
}
