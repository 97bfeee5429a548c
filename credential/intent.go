package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// An intent is a note beside a record, that somebody is about to spend its
// refresh token. The storage lock alone does not keep two apart: who is paused for
// longer than the lock's lease loses it, with the token server's answer perhaps in
// hand. Writing it also proves, just before the token is spent, that storage can be
// written.
type intent struct {
	Version int `json:"version"`
	// Token is the fingerprint of the refresh token.
	Token string    `json:"token"`
	Since time.Time `json:"since"`
	// By names the refresher.
	By string `json:"by"`
	// Ended is true when the exchange is over and got no answer: the token may be
	// spent, but nobody has its successor.
	Ended bool `json:"ended,omitempty"`

	// newer marks a note of a version that is not known here. What it means is not
	// known either, so it may be of any token; Token then names the note.
	newer bool
}

// intentLife is how long another's intent keeps us from spending the token: more
// than an exchange, the store after it and a long pause of the machine. Who comes
// back later than that still stores what it has.
const intentLife = 60 * time.Second

// intentLook is how soon storage is read again while another's intent stands.
const intentLook = 2 * time.Second

var errIntent = errors.New("another process began to refresh the login and has not said how it ended")

// intentKey is where the intent of a record is kept. The tilde cannot be in an
// account's name, so it is no other account's record.
func intentKey(key string) string { return strings.TrimSuffix(key, ".json") + "~renewing.json" }

// announce notes that the record's refresh token is about to be spent, unless
// somebody else's note says the same: then it fails with a *RetryError. The caller
// holds slot and the storage lock.
func (o *OAuth) announce(rec Record) error {
	key, token := intentKey(o.cfg.Key), fingerprint("refresh", rec.refresh.reveal())
	now := o.cfg.Clock()
	old, err := loadIntent(o.stop, o.cfg.Storage, key)
	if err != nil {
		return o.failStorage(err)
	}
	if old.newer || old.Token == token {
		if until := o.othersTurn(old, now); now.Before(until) {
			return o.standBack(errIntent, min(until.Sub(now), intentLook), now)
		}
		o.mu.Lock()
		o.unanswered = true
		o.mu.Unlock()
	}
	err = storeIntent(o.stop, o.cfg.Storage, key, intent{Token: token, Since: now, By: o.name})
	if err != nil && o.cur.Load().usable(now.Add(mandatory)) {
		return o.failStorage(err)
	}
	if err != nil {
		// There is nothing to send any more, and the lock keeps others out.
		o.note(err)
	}
	return nil
}

// othersTurn is until when another refresher's intent is respected; the zero time
// when it need not be.
func (o *OAuth) othersTurn(i intent, now time.Time) time.Time {
	if !i.newer && (i.Ended || i.By == o.name) {
		return time.Time{}
	}
	since := i.Since
	o.mu.Lock()
	defer o.mu.Unlock()
	if i.newer || since.After(now) { // by a clock that is ahead of ours
		if o.intentSeen.token != i.Token {
			o.intentSeen.token, o.intentSeen.at = i.Token, now
		}
		since = o.intentSeen.at
	}
	return since.Add(intentLife)
}

// standBack starts a short back-off that is nobody's failure.
func (o *OAuth) standBack(why error, wait time.Duration, now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nextTry, o.cause, o.lastErr = now.Add(wait), why, why.Error()
	o.nudge()
	return &RetryError{Next: o.nextTry, Err: why}
}

// settleIntent notes how the exchange ended. It is a courtesy to peers, who
// otherwise wait: its failure changes nothing. The caller holds slot.
func (o *OAuth) settleIntent(rec Record, exchanged error) {
	key := intentKey(o.cfg.Key)
	var ex *exchangeError
	var err error
	if errors.As(exchanged, &ex) && ex.unanswered {
		token := fingerprint("refresh", rec.refresh.reveal())
		err = storeIntent(context.Background(), o.cfg.Storage, key, intent{Token: token, Since: o.cfg.Clock(), By: o.name, Ended: true})
	} else {
		err = remove(context.Background(), o.cfg.Storage, key)
	}
	if err != nil {
		o.note(err)
	}
}

// loadIntent reads an intent; one that is missing or makes no sense is the zero
// value, and one of a newer version says no more than that it is there.
func loadIntent(ctx context.Context, st Storage, key string) (i intent, err error) {
	raw, err := load(ctx, st, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return intent{}, nil
	case err != nil:
		return intent{}, err
	}
	if !json.Valid(raw) {
		return intent{}, nil
	}
	var note struct {
		Version int `json:"version"`
	}
	readable := json.Unmarshal(raw, &note) == nil
	switch {
	case !readable || note.Version < 1:
		return intent{}, nil
	case note.Version > recordVersion:
		return intent{newer: true, Token: fingerprint("intent", string(raw))}, nil
	}
	if json.Unmarshal(raw, &i) != nil {
		i = intent{}
	}
	return i, nil
}

func storeIntent(ctx context.Context, st Storage, key string, i intent) error {
	i.Version = recordVersion
	raw, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("writing an intent: %w", err)
	}
	return store(ctx, st, key, raw)
}
