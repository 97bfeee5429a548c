package credential

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// claudeCodeKey is the key of a record under which unknown keys of a Claude Code
// login are kept.
const claudeCodeKey = "claude_code"

// ParseClaudeCode reads the login in Claude Code's .credentials.json (or the
// text of its Keychain item): the object claudeAiOauth with accessToken,
// refreshToken, expiresAt and refreshTokenExpiresAt in milliseconds, scopes,
// subscriptionType, rateLimitTier, clientId.
//
// Versions of Claude Code have written expiresAt as 0 and left expiresAt and
// scopes out. An expiresAt that is missing, null, not positive or beyond the year
// 9999 is taken as unknown: the access token is used until the API refuses it,
// and refreshed soon in the background to learn a true expiry. Keys of
// claudeAiOauth that are not known are kept in the record. The file's other
// top-level keys are not: they are logins to other services (mcpOAuth), which are
// none of shunt's business.
//
// A refresh token has one use. Once shunt refreshes this login, the Claude Code
// that the file belongs to is logged out, and the other way round: import a login
// made for shunt alone.
//
// Errors say which key is at fault and never quote a value.
func ParseClaudeCode(b []byte) (Record, error) {
	fail := func(err error) (Record, error) {
		return Record{}, fmt.Errorf("reading Claude Code credentials: %w", err)
	}
	file, err := object(b)
	if err != nil {
		return fail(err)
	}
	if isNull(file["claudeAiOauth"]) {
		return fail(errors.New("there is no claudeAiOauth in it; is Claude Code logged in with a subscription?"))
	}
	login, err := object(file["claudeAiOauth"])
	if err != nil {
		return fail(fmt.Errorf("claudeAiOauth: %w", err))
	}
	var r Record
	fields := []field{
		{key: "accessToken", sec: &r.access},
		{key: "refreshToken", sec: &r.refresh},
		{key: "scopes", list: &r.Scopes},
		{key: "subscriptionType", text: &r.Subscription},
		{key: "rateLimitTier", text: &r.RateLimitTier},
		{key: "clientId", text: &r.ClientID},
	}
	for _, f := range fields {
		if value := login[f.key]; !isNull(value) {
			if err := f.parse(value); err != nil {
				return fail(fmt.Errorf("claudeAiOauth.%s: %w", f.key, err))
			}
		}
		delete(login, f.key)
	}
	for key, at := range map[string]*time.Time{"expiresAt": &r.Expires, "refreshTokenExpiresAt": &r.LoginExpires} {
		if *at, err = millis(login[key]); err != nil {
			return fail(fmt.Errorf("claudeAiOauth.%s: %w", key, err))
		}
		delete(login, key)
	}
	if r.access.empty() && r.refresh.empty() {
		return fail(errors.New("claudeAiOauth has neither accessToken nor refreshToken"))
	}
	if len(login) > 0 {
		rest, err := json.Marshal(login)
		if err != nil {
			return fail(errors.New("claudeAiOauth: it is not valid JSON"))
		}
		kept := map[string]json.RawMessage{claudeCodeKey: rest}
		r.extra = func() map[string]json.RawMessage { return kept }
	}
	return r, nil
}

// maxMillis is the last millisecond of the year 9999.
const maxMillis = 253402300799999

// millis reads a time in milliseconds since 1970. What cannot be one is unknown,
// the zero time; what is no number at all is an error.
func millis(value json.RawMessage) (time.Time, error) {
	if isNull(value) {
		return time.Time{}, nil
	}
	var n float64
	if err := json.Unmarshal(value, &n); err != nil {
		var number json.Number
		if json.Unmarshal(value, &number) == nil && value[0] != '"' {
			return time.Time{}, nil // a number beyond what a float64 can hold
		}
		return time.Time{}, errors.New("it is not a number")
	}
	if n < 1 || n > maxMillis {
		return time.Time{}, nil
	}
	return time.UnixMilli(int64(math.Floor(n))).UTC(), nil
}
