package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

const (
	faultKill    = "Caddy killed (kill -9) and started"
	faultReload  = "caddy reload with other accounts"
	faultStorage = "storage out of reach"
	faultRestart = "upstream restarted"
	faultDown    = "network: connections cut and refused"
	faultSlow    = "network: slow link"
	faultDelay   = "network: delay"
	faultReset   = "network: connections reset"
	faultAll     = "all accounts at once: "
)

// own are faults that speak of one account. Any number of accounts may have them while
// another is well.
var own = []fakeclaude.Fault{
	{Name: fakeclaude.Burst, RetryAfter: time.Second},
	{Name: fakeclaude.BurstDate, RetryAfter: time.Second},
	{Name: fakeclaude.BurstMillis, RetryAfter: 500 * time.Millisecond},
	{Name: fakeclaude.Early429, RetryAfter: time.Second},
	{Name: fakeclaude.ClassicSpent, RetryAfter: 2 * time.Second},
	{Name: fakeclaude.WindowFiveHour},
	{Name: fakeclaude.TokenExpired, Times: 1},
	{Name: fakeclaude.InvalidBearer, Times: 1},
	{Name: fakeclaude.RefreshUnavailable},
	{Name: fakeclaude.TokenRateLimited, RetryAfter: time.Second},
}

// shared are faults that may be everybody's: shunt asks one other account, and no
// third. While one account has such a fault, no other has one.
var shared = []string{
	fakeclaude.Overloaded, fakeclaude.Internal, fakeclaude.BadGateway, fakeclaude.Unavailable, fakeclaude.GatewayTimeout,
	fakeclaude.EdgeUnknown, fakeclaude.ResetBeforeHead, fakeclaude.ResetInUpload, fakeclaude.CloseBeforeHead,
	fakeclaude.FirstOverloaded, fakeclaude.FirstAPIError, fakeclaude.EmptyStream, fakeclaude.JSONCut,
	fakeclaude.CutBeforeText, fakeclaude.CutAfterText, fakeclaude.CloseAfterText, fakeclaude.EndAfterText,
	fakeclaude.EndWithoutStop, fakeclaude.StallAfterStart, fakeclaude.StallAfterText, fakeclaude.ErrorAfterStart,
	fakeclaude.ErrorAfterText, fakeclaude.APIErrorAfterText, fakeclaude.LengthShort, fakeclaude.MalformedSSE,
	fakeclaude.CRLF, fakeclaude.UnknownEvent, fakeclaude.TwoDeltas,
	faultRestart, faultDown, faultSlow, faultDelay, faultReset,
}

// driver makes the faults.
type driver struct {
	w    *world
	only *regexp.Regexp
	stop chan struct{}
	wg   sync.WaitGroup

	// process guards Caddy's life: who kills or reloads it, holds it. storage is held
	// while the storage is away: a token that is in no storage would die with Caddy.
	process, storage sync.Mutex

	deck []string // shared faults that are still to come; the goroutine's own

	mu     sync.Mutex
	taken  map[string]bool
	failed []error
}

func newDriver(w *world) *driver {
	return &driver{w: w, only: regexp.MustCompile(*chaosOnly), stop: make(chan struct{}), taken: map[string]bool{}}
}

// every runs do again and again, with pauses of between least and most.
func (d *driver) every(stream uint64, least, most time.Duration, do func(*rand.Rand) error) {
	d.wg.Add(1)
	go func() {
		defer d.wg.Done()
		dice := rand.New(rand.NewPCG(*chaosSeed, stream))
		for d.pause(least + time.Duration(dice.Int64N(int64(most-least)+1))) {
			if err := do(dice); err != nil {
				d.mu.Lock()
				d.failed = append(d.failed, err)
				d.mu.Unlock()
			}
		}
	}()
}

func (d *driver) pause(t time.Duration) bool {
	select {
	case <-d.stop:
		return false
	case <-time.After(t):
		return true
	}
}

// run makes faults until the time is over, then leaves everything well.
func (d *driver) run(length time.Duration) {
	rounds := make(chan struct{}, 1) // held by what makes shared faults
	d.every(1, 100*time.Millisecond, 500*time.Millisecond, func(dice *rand.Rand) error {
		rounds <- struct{}{}
		defer func() { <-rounds }()
		return d.sharedFault(dice)
	})
	for i := range uint64(2) {
		d.every(10+i, 200*time.Millisecond, time.Second, d.ownFault)
	}
	d.every(2, 20*time.Second, 30*time.Second, func(dice *rand.Rand) error {
		rounds <- struct{}{}
		defer func() { <-rounds }()
		return d.everybody(dice)
	})
	d.every(3, 3*time.Second, 6*time.Second, d.reload)
	d.every(4, 10*time.Second, 18*time.Second, d.kill)
	d.every(5, 10*time.Second, 20*time.Second, d.loseStorage)
	time.Sleep(length)
	close(d.stop)
	d.wg.Wait()
}

// claim takes an account for a fault, so that no two are made on one.
func (d *driver) claim(dice *rand.Rand, from []string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range 20 {
		if name := from[dice.IntN(len(from))]; !d.taken[name] {
			d.taken[name] = true
			return name
		}
	}
	return ""
}

func (d *driver) release(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.taken, name)
}

func (d *driver) ownFault(dice *rand.Rand) error {
	name := d.claim(dice, faulty)
	if name == "" {
		return nil
	}
	defer d.release(name)
	f := own[dice.IntN(len(own))]
	if f.Times == 0 {
		f.Times = -1
	}
	isLogin := strings.HasPrefix(name, "l")
	if !isLogin && (f.Name == fakeclaude.TokenExpired || f.Name == fakeclaude.InvalidBearer || f.Name == fakeclaude.WindowFiveHour ||
		f.Name == fakeclaude.RefreshUnavailable || f.Name == fakeclaude.TokenRateLimited) {
		f = own[0]
		f.Times = -1
	}
	end := d.w.truth.begin(name, f.Name)
	defer end()
	d.w.fake.SetFault(name, f)
	d.pause(time.Duration(500+dice.IntN(2500)) * time.Millisecond)
	d.w.fake.SetFault(name)
	return nil
}

// inARow is how many shared faults an account has before it is another's turn.
const inARow = 4

// sharedFault gives one account the next faults of the deck. Then requests that met one
// there come to their end before another account gets one.
func (d *driver) sharedFault(dice *rand.Rand) error {
	name := d.claim(dice, faulty)
	if name == "" {
		return nil
	}
	defer d.release(name)
	for range inARow {
		if len(d.deck) == 0 {
			d.deck = slices.DeleteFunc(slices.Clone(shared), func(name string) bool { return !d.only.MatchString(name) })
			if len(d.deck) == 0 {
				return errors.New("no fault matches -chaos.only")
			}
			dice.Shuffle(len(d.deck), func(i, j int) { d.deck[i], d.deck[j] = d.deck[j], d.deck[i] })
		}
		what := d.deck[0]
		d.deck = d.deck[1:]
		end := d.w.truth.begin(name, what)
		met, err := d.suffer(name, what, time.Duration(300+dice.IntN(400))*time.Millisecond)
		end()
		if err != nil {
			return err
		}
		if !met {
			d.w.truth.unmet(what)
			d.deck = append(d.deck, what)
			break // the account rests; another may be asked
		}
	}
	d.pause(linger)
	return nil
}

const (
	// enough requests have met a fault of an account's answers; it then ends.
	enough = 3
	// tired is when nobody is waited for any more who might meet it.
	tired = 2 * time.Second
)

// suffer makes one fault, of the network for that time. It reports whether as many
// requests as are enough have met it; who meets the network is not known.
func (d *driver) suffer(name, what string, length time.Duration) (met bool, err error) {
	if !slices.Contains(ofTheWay, what) {
		d.w.fake.SetFault(name, fakeclaude.Times(what, enough))
		for end := time.Now().Add(tired); time.Now().Before(end) && len(d.w.fake.Faults(name)) > 0; {
			if !d.pause(20 * time.Millisecond) {
				break
			}
		}
		met = len(d.w.fake.Faults(name)) == 0
		d.w.fake.SetFault(name)
		return met, nil
	}
	return true, d.block(name, what, length)
}

// ofTheWay are the faults between Caddy and upstream.
var ofTheWay = []string{faultRestart, faultDown, faultSlow, faultDelay, faultReset}

// block makes a fault of an account's way to upstream for that time.
func (d *driver) block(name, what string, length time.Duration) error {
	door := d.w.doors[name]
	switch what {
	case faultRestart:
		door.shut()
		d.pause(length)
		return door.open()
	case faultDown:
		door.toxic.Stop()
		d.pause(length)
		door.toxic = toxiproxy.NewProxy(toxicServer, door.toxic.Listen, door.toxic.Listen, door.addr)
		return door.toxic.Start()
	case faultSlow:
		return d.poison(door, length, `{"name":"x","type":"bandwidth","stream":"downstream","toxicity":1,"attributes":{"rate":20}}`)
	case faultDelay:
		return d.poison(door, length, `{"name":"x","type":"latency","stream":"downstream","toxicity":1,"attributes":{"latency":200,"jitter":150}}`)
	case faultReset:
		return d.poison(door, length, `{"name":"x","type":"reset_peer","stream":"downstream","toxicity":0.7,"attributes":{"timeout":20}}`)
	default:
		return fmt.Errorf("%q is no fault of the way", what)
	}
}

func (d *driver) poison(door *door, length time.Duration, toxic string) error {
	if _, err := door.toxic.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		return fmt.Errorf("adding a toxic: %w", err)
	}
	d.pause(length)
	if err := door.toxic.Toxics.RemoveToxic(d.w.t.Context(), "x"); err != nil {
		return fmt.Errorf("removing a toxic: %w", err)
	}
	return nil
}

// recovery is how long after the end of a fault of all accounts requests may still be
// answered by an honest error.
const recovery = 10 * time.Second

// everybody makes all accounts sick at once: then errors are right, if they are honest.
func (d *driver) everybody(dice *rand.Rand) error {
	names := append([]string{steady}, faulty...)
	faults := []fakeclaude.Fault{
		{Name: fakeclaude.Burst, Times: -1, RetryAfter: time.Second}, {Name: fakeclaude.Overloaded, Times: -1},
		{Name: fakeclaude.Unavailable, Times: -1}, {Name: fakeclaude.ClassicSpent, Times: -1, RetryAfter: 2 * time.Second},
		{Name: fakeclaude.CutAfterText, Times: -1}, {Name: fakeclaude.ResetBeforeHead, Times: -1},
	}
	f := faults[dice.IntN(len(faults))]
	var ends []func()
	for _, name := range names {
		what := faultAll + f.Name
		if name == steady {
			ends = append(ends, d.w.truth.beginLong(name, what))
		} else {
			ends = append(ends, d.w.truth.beginLong(name, ""))
		}
		d.w.fake.SetFault(name, f)
	}
	d.pause(time.Duration(1500+dice.IntN(2000)) * time.Millisecond)
	for i, name := range names {
		d.w.fake.SetFault(name)
		ends[i]()
	}
	d.pause(recovery)
	return nil
}

func (d *driver) reload(*rand.Rand) error {
	d.process.Lock()
	defer d.process.Unlock()
	end := d.w.truth.beginOurs(faultReload, 3*time.Second)
	defer end()
	d.w.variant++
	return d.w.caddy.reload(d.w.config(d.w.variant))
}

func (d *driver) kill(*rand.Rand) error {
	d.storage.Lock()
	defer d.storage.Unlock()
	d.process.Lock()
	defer d.process.Unlock()
	if !d.w.caddy.alive() {
		return fmt.Errorf("caddy has ended by itself: %s", tail(d.w.caddy.logs(), 4000))
	}
	end := d.w.truth.beginOurs(faultKill, 500*time.Millisecond)
	defer end()
	d.w.caddy.kill()
	return d.w.caddy.start()
}

// loseStorage puts a file where shunt's folder of the storage was: whatever is read or
// written there fails, for root too.
func (d *driver) loseStorage(dice *rand.Rand) error {
	d.storage.Lock()
	defer d.storage.Unlock()
	folder := filepath.Join(d.w.caddy.home, "data", "caddy", "shunt")
	end := d.w.truth.begin("", faultStorage)
	defer end()
	if err := os.Rename(folder, folder+".away"); err != nil {
		return err
	}
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		return err
	}
	d.pause(time.Duration(500+dice.IntN(3000)) * time.Millisecond)
	if err := os.Remove(folder); err != nil {
		return err
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		return err
	}
	// What could not be written is kept and written now.
	d.pause(storageRecovery)
	return nil
}

// storageRecovery is how long shunt may take to write what it could not write.
const storageRecovery = 5 * time.Second
