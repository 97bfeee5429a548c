package shunt

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-shunt/caddy-shunt/credential"
)

// A refresh is made by a process of its own, a child of Caddy's that goes on when
// Caddy is killed: the answer of the token server is the only copy of the next
// refresh token until it is stored.

// renewOrder is what the child needs to know. It goes through a pipe, since it may
// hold the storage's password.
type renewOrder struct {
	credential.Job
	Key       string          `json:"key"`
	TokenURL  string          `json:"token_url,omitempty"`
	ClientID  string          `json:"client_id,omitempty"`
	Storage   json.RawMessage `json:"storage"`
	Encrypt   []string        `json:"encrypt,omitempty"`
	Transport json.RawMessage `json:"transport"`
}

// commandRuns is true when this program has Caddy's command line: only then can it
// be started again to run one of its commands.
var commandRuns atomic.Bool

// renewers bounds how many children run at once.
var renewers = make(chan struct{}, 4)

// storageConfig is the configuration of the module that made the storage; nil when
// it cannot be told.
func storageConfig(storage certmagic.Storage) json.RawMessage {
	var module any
	var name string
	switch s := storage.(type) {
	case *certmagic.FileStorage:
		module, name = map[string]string{"root": s.Path}, "file_system"
	case caddy.Module:
		id := string(s.CaddyModule().ID)
		module = storage
		if name = strings.TrimPrefix(id, "caddy.storage."); name == id {
			return nil
		}
	default:
		return nil
	}
	raw, err := json.Marshal(module)
	if err != nil {
		return nil
	}
	var fields map[string]any
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return nil
	}
	fields["module"] = name
	if raw, err = json.Marshal(fields); err != nil {
		return nil
	}
	return raw
}

// renew has the login refreshed by a child.
func (l *login) renew(ctx context.Context, job credential.Job) (credential.Renewal, error) {
	with := l.with.Load()
	if !commandRuns.Load() || with.storageConfig == nil || flag.Lookup("test.v") != nil {
		return credential.Renewal{}, credential.ErrNoRenewer
	}
	order, err := json.Marshal(renewOrder{
		Job: job, Key: l.key, TokenURL: l.tokenURL, ClientID: l.clientID, Storage: with.storageConfig, Encrypt: with.encrypt, Transport: with.transportConfig,
	})
	if err != nil {
		return credential.Renewal{}, credential.ErrNoRenewer
	}
	select {
	case renewers <- struct{}{}:
		defer func() { <-renewers }()
	case <-ctx.Done():
		return credential.Renewal{}, credential.ErrNoRenewer
	}
	child, answer, err := startRenewer(order)
	if err != nil {
		with.logger.Warn("a login is refreshed in Caddy's own process, since no other can be started; if Caddy is killed in that moment, the login is lost", logError(err))
		return credential.Renewal{}, credential.ErrNoRenewer
	}
	return awaitRenewal(ctx, child, answer)
}

// startRenewer starts the child and gives it the order.
func startRenewer(order []byte) (*exec.Cmd, io.ReadCloser, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding this program: %w", err)
	}
	if runtime.GOOS == "linux" {
		// Also when the file was replaced by an upgrade.
		program = "/proc/self/exe"
	}
	// Nothing of ours ends it.
	child := exec.CommandContext(context.Background(), program, "shunt", "renew") //nolint:gosec // this program itself
	child.SysProcAttr = detached()
	in, err := child.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	if err := child.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the process: %w", err)
	}
	_, err = in.Write(order)
	if err = errors.Join(err, in.Close()); err != nil {
		// Without a whole order it does nothing.
		_ = child.Wait()
		return nil, nil, fmt.Errorf("giving the process its order: %w", err)
	}
	return child, out, nil
}

// awaitRenewal waits for what the child tells, which comes before its end. It never
// ends the child.
func awaitRenewal(ctx context.Context, child *exec.Cmd, answer io.ReadCloser) (r credential.Renewal, err error) {
	told := make(chan error, 1)
	go func() {
		err := json.NewDecoder(io.LimitReader(answer, maxRenewal)).Decode(&r)
		told <- err
		_, _ = io.Copy(io.Discard, answer)
		_ = child.Wait()
	}()
	select {
	case err := <-told:
		if err != nil {
			return credential.Renewal{}, errors.New("the process that refreshes the login ended and did not say how")
		}
		return r, nil
	case <-ctx.Done():
		return credential.Renewal{}, errors.New("the process that refreshes the login does not come to an end")
	}
}

// maxRenewal bounds what a child tells and is told.
const maxRenewal = 4 << 20

// renewConfig is what a child's order asks for, as modules of Caddy.
type renewConfig struct {
	TransportRaw json.RawMessage `json:"transport" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
}

// keepAtMost bounds how long a child keeps a token that cannot be stored. Caddy
// keeps it in memory, too.
const keepAtMost = 24 * time.Hour
