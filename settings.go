package shunt

import (
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/internal/failpoint"
)

func (h *Handler) setDefaults() {
	if h.Pool == "" {
		h.Pool = DefaultPool
	}
	if h.Upstream == "" {
		h.Upstream = DefaultUpstream
	}
	if h.User == "" {
		h.User = DefaultUser
	}
	h.now = failpoint.Now
	if h.Hold == nil {
		h.Hold = new(Hold)
	}
	if h.Hold.Timeout == 0 {
		h.Hold.Timeout = caddy.Duration(DefaultHold)
	}
	if h.Hold.Queue == 0 {
		h.Hold.Queue = DefaultQueue
	}
	h.pingEvery = keepAliveEvery
	if h.MaxBody == 0 {
		h.MaxBody = DefaultMaxBody
	}
	if h.StallTimeout == 0 {
		h.StallTimeout = caddy.Duration(DefaultStallTimeout)
	}
	if h.FirstEventTimeout == 0 {
		h.FirstEventTimeout = caddy.Duration(DefaultFirstEvent)
	}
	if h.Retries == 0 {
		h.Retries = DefaultRetries
	}
}

// Validate checks what can be checked without side effects.
func (h *Handler) Validate() error {
	if h.MaxBody < 0 {
		return fmt.Errorf("max_body: must not be negative")
	}
	if h.Retries < 1 {
		return fmt.Errorf("retries: must be at least 1")
	}
	if h.StallTimeout < 0 {
		return fmt.Errorf("stall_timeout: must not be negative")
	}
	if h.FirstEventTimeout < 0 {
		return fmt.Errorf("first_event_timeout: must not be negative")
	}
	if h.Hold.Queue < 0 {
		return fmt.Errorf("hold: queue must not be negative")
	}
	if err := h.Hold.check(); err != nil {
		return err
	}
	if err := h.Instances.check(); err != nil {
		return err
	}
	if h.ResourceAccount != "" && !h.hasAccount(h.ResourceAccount) {
		return fmt.Errorf("resource_account: there is no account %q", h.ResourceAccount)
	}
	return validPoolName(h.Pool)
}

// zoneOf finds a time zone by its name.
func zoneOf(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("time_zone: %q is not known; expected a name such as Europe/Berlin", name)
	}
	return zone, nil
}

// readPrices is the table of a file, or the built-in one.
func readPrices(file string) (*anthropic.Prices, error) {
	if file == "" {
		return anthropic.BuiltInPrices, nil
	}
	path, err := resolve("prices", file)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file that the operator names
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	prices, err := anthropic.ParsePrices(data)
	if err != nil {
		return nil, fmt.Errorf("prices: reading %s: %w", path, err)
	}
	return prices, nil
}

func (h *Handler) hasAccount(name string) bool {
	for _, a := range h.Accounts {
		if a.Name == name {
			return true
		}
	}
	return false
}
