package shunt

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/anthropic"
	"github.com/caddy-shunt/caddy-shunt/pool"
)

// useAuto, as null does, gives the choice back.
const useAuto = "auto"

// useChoice is what the body of POST /use asks for; a nil field is not asked for,
// and an empty one gives the choice back.
type useChoice struct {
	account, policy *string
}

// useAnswer says what holds after POST /use.
type useAnswer struct {
	Pinned     *string `json:"pinned"`
	Policy     string  `json:"policy"`
	Configured string  `json:"policy_configured"`
}

func (h *Handler) serveUse(w http.ResponseWriter, r *http.Request) error {
	if !takes(w, r, http.MethodPost) {
		return nil
	}
	who, refusal := h.admin(r, "choosing the account or the policy")
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	answer, refusal := h.use(w, r, who.words())
	if refusal != nil {
		refusal.Write(w)
		return nil
	}
	return writeJSON(w, http.StatusOK, answer)
}

// use does what the request's body says, all of it or nothing.
func (h *Handler) use(w http.ResponseWriter, r *http.Request, by string) (*useAnswer, *anthropic.Error) {
	choice, refusal := readUse(w, r)
	if refusal == nil {
		refusal = h.checkUse(choice)
	}
	if refusal != nil {
		return nil, refusal
	}
	if err := h.apply(choice, by); err != nil {
		return nil, &anthropic.Error{Status: http.StatusNotFound, Message: err.Error()}
	}
	v := h.group.View()
	return &useAnswer{Pinned: optional(v.Pinned), Policy: v.Policy, Configured: v.Configured}, nil
}

// readUse reads the body.
func readUse(w http.ResponseWriter, r *http.Request) (choice useChoice, refusal *anthropic.Error) {
	const help = `expected {"account": "<name>"}, {"policy": "<name>"} or both, with "auto" to give the choice back`
	var fields map[string]json.RawMessage
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if err := decoder.Decode(&fields); err != nil {
		return choice, badUse("the body is not a JSON object; " + help)
	}
	for _, field := range []struct {
		name  string
		value **string
	}{{"account", &choice.account}, {"policy", &choice.policy}} {
		raw, ok := fields[field.name]
		if !ok {
			continue
		}
		name := new(string)
		if err := json.Unmarshal(raw, &name); err != nil {
			return choice, badUse(field.name + ": not a string; " + help)
		}
		switch {
		case name == nil:
			name = new(string)
		case *name == "":
			return choice, badUse(field.name + ": empty; " + help)
		case *name == useAuto:
			*name = ""
		}
		*field.value = name
	}
	if choice.account == nil && choice.policy == nil {
		return choice, badUse("account, policy: missing; " + help)
	}
	return choice, nil
}

func badUse(message string) *anthropic.Error {
	return &anthropic.Error{Status: http.StatusBadRequest, Message: message}
}

// checkUse refuses names that are not known. The configured policy is given back
// when it is asked for by its name.
func (h *Handler) checkUse(choice useChoice) *anthropic.Error {
	if choice.account != nil && *choice.account != "" {
		known := make([]string, len(h.accounts))
		for i, a := range h.accounts {
			known[i] = a.member.Name
		}
		if !slices.Contains(known, *choice.account) {
			return notKnown("account", *choice.account, known)
		}
	}
	if choice.policy != nil && *choice.policy != "" {
		if *choice.policy == h.policy.Name() {
			*choice.policy = ""
			return nil
		}
		if _, ok := pool.Policies[*choice.policy]; !ok {
			known := append(slices.Collect(maps.Keys(pool.Policies)), h.policy.Name())
			slices.Sort(known)
			return notKnown("policy", *choice.policy, slices.Compact(known))
		}
	}
	return nil
}

func notKnown(field, name string, known []string) *anthropic.Error {
	return &anthropic.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("%s: %q is not known in this pool; expected one of %s, or %s", field, truncate(name), strings.Join(known, ", "), useAuto)}
}

// apply makes the choice hold and tells the operator who made it.
func (h *Handler) apply(choice useChoice, by string) error {
	if choice.policy != nil {
		if err := h.live.state.SwitchPolicy(*choice.policy); err != nil {
			return err
		}
		h.logger.Info("policy changed", logPool(h.Pool), zap.String("policy", h.group.View().Policy), zap.String("by", by))
	}
	if choice.account != nil {
		h.live.state.Pin(*choice.account)
		h.logger.Info("pin changed", logPool(h.Pool), zap.String("account", *choice.account), zap.String("by", by))
	}
	return nil
}
