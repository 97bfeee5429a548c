package credential

import (
	"context"
	"fmt"
	"time"
)

// StaticSource is a credential that never changes.
type StaticSource struct{ cred Credential }

var _ Source = (*StaticSource)(nil)

// Static returns the source of an API key or a setup token. Space around the
// secret is dropped. An empty secret, one with characters that a header cannot
// carry, and any other kind are errors, which do not quote the secret.
func Static(kind Kind, text string) (*StaticSource, error) {
	if kind != KindAPIKey && kind != KindSetupToken {
		return nil, fmt.Errorf("making a static credential: kind %q is neither %q nor %q", kind, KindAPIKey, KindSetupToken)
	}
	s, err := newSecret(text)
	if err != nil {
		return nil, fmt.Errorf("making a credential of kind %s: %w", kind, err)
	}
	if s.empty() {
		return nil, fmt.Errorf("making a credential of kind %s: the secret is empty", kind)
	}
	return &StaticSource{newCredential(kind, s, time.Time{})}, nil
}

// Get returns the credential.
func (s *StaticSource) Get(context.Context) (Credential, error) { return s.cred, nil }

// Refresh fails with ErrNotRefreshable.
func (s *StaticSource) Refresh(context.Context, Credential) (Credential, error) {
	return Credential{}, ErrNotRefreshable
}

// Proved does nothing.
func (s *StaticSource) Proved(Credential) {}

// Refreshable returns false.
func (s *StaticSource) Refreshable() bool { return false }

// Status returns the kind and the version; there is nothing else to tell.
func (s *StaticSource) Status() Status {
	return Status{Kind: s.cred.kind, Version: s.cred.version, Login: s.cred.version}
}
