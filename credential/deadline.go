package credential

import "time"

// LoginLife is how long a login lasts, whatever is refreshed, when the token
// server does not tell (clients have seen 27 to 30 days).
const LoginLife = 28 * 24 * time.Hour

// loginEnd is the end of the login: as the token server told it, or else guessed
// from when the login was imported, which is not before it was made. A record that
// nobody can refresh has none but that of its access token.
func (r Record) loginEnd() (end time.Time, guessed bool) {
	if !r.LoginExpires.IsZero() || r.refresh.empty() || r.ImportedAt.IsZero() {
		return r.LoginExpires, false
	}
	return r.ImportedAt.Add(LoginLife), true
}
