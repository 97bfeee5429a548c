package shunt

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Defaults and bounds of the settings of instances.
const (
	DefaultInterval  = 5 * time.Second
	shortestInterval = 100 * time.Millisecond
)

// Instances says how the Caddy processes that share one storage share what they
// know of the pool.
type Instances struct {
	// How often this instance tells the others what has changed, and looks for what
	// they told; what others should know at once goes out sooner. Default: 5s; at
	// least 100ms.
	Interval caddy.Duration `json:"interval,omitempty"`
	// What this instance is called in storage. It must be another one for each
	// instance, and the same after a restart; it may be a placeholder. A change
	// takes a restart. Default: Caddy's instance id, which is kept in the data
	// directory.
	Name string `json:"name,omitempty"`
}

// longestInstance leaves room for a number behind the name of an instance.
const longestInstance = 56

// instanceSyntax is what the names of instances look like in storage.
var instanceSyntax = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?$`)

func (i *Instances) check() error {
	if i == nil {
		return nil
	}
	if i.Interval != 0 && time.Duration(i.Interval) < shortestInterval {
		return fmt.Errorf("instances: interval: %s; expected at least %s", time.Duration(i.Interval), shortestInterval)
	}
	if i.Name == "" || strings.Contains(i.Name, "{") {
		return nil
	}
	return validInstance(i.Name)
}

func validInstance(name string) error {
	if !instanceSyntax.MatchString(name) || len(name) > longestInstance {
		return fmt.Errorf("instances: the name %q is not up to %d letters and digits, with . _ @ - inside", name, longestInstance)
	}
	return nil
}

// resolved are the settings with defaults, and the name without placeholders;
// empty stands for Caddy's instance id.
func (i *Instances) resolved() (interval time.Duration, name string, err error) {
	if i == nil {
		return DefaultInterval, "", nil
	}
	if interval = time.Duration(i.Interval); interval == 0 {
		interval = DefaultInterval
	}
	if i.Name == "" {
		return interval, "", nil
	}
	if name, err = resolve("instances: name", i.Name); err != nil {
		return 0, "", err
	}
	return interval, name, validInstance(name)
}

// poolMeans is what a configuration lends to a pool.
type poolMeans struct {
	storage  certmagic.Storage
	logger   *zap.Logger
	interval time.Duration
	instance string // the configured name, empty for Caddy's instance id
	zone     *time.Location
}

// poolMeans are those that the handler's configuration lends to its pool.
func (h *Handler) poolMeans(logger *zap.Logger) *poolMeans {
	return &poolMeans{storage: h.storage, logger: logger, interval: h.interval, instance: h.instance, zone: h.zone}
}

func parseInstances(h *Handler, d *caddyfile.Dispenser) error {
	if err := noArg(d, "instances"); err != nil {
		return err
	}
	h.Instances = new(Instances)
	return eachWord(d, "instances", nil, []string{"interval", "name"}, func(word string) error {
		if word == "interval" {
			arg, err := oneArg(d, word, "<duration>")
			if err != nil {
				return err
			}
			if h.Instances.Interval, err = duration(d, word, arg); err != nil {
				return err
			}
		} else {
			name, err := oneArg(d, word, "<name>")
			if err := nonEmpty(d, word, name, err); err != nil {
				return err
			}
			h.Instances.Name = name
		}
		if err := h.Instances.check(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	})
}

// agrees reports how two handlers of one pool contradict each other. One that says
// nothing goes by what the other says.
func (i *Instances) agrees(other *Instances) error {
	if i != nil && other != nil && *i != *other {
		return fmt.Errorf("instances: two handlers share the pool and say different things; expected the same settings, or one of them")
	}
	return nil
}
