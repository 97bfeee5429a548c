package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// storm makes one account at a time misbehave for a while.
type storm struct {
	fake     *fakeclaude.Server
	accounts []Account
	interval time.Duration
	dice     *rand.Rand
	logger   *zap.Logger
}

func newStorm(fake *fakeclaude.Server, accounts []Account, interval time.Duration, logger *zap.Logger) *storm {
	return &storm{fake, accounts, interval, rand.New(rand.NewPCG(1, 0x5708)), logger}
}

// troubles are what storms bring, all of a kind that a pool can get round.
var troubles = []struct{ fault, words string }{
	{fakeclaude.Overloaded, "is overloaded (529)"},
	{fakeclaude.Burst, "asks to slow down (429 with a short retry-after)"},
	{fakeclaude.ResetBeforeHead, "resets its connections"},
	{fakeclaude.Internal, "has errors of its own (500)"},
}

// longest is how long one trouble lasts at most.
const longest = 8 * time.Second

// blow brings trouble until the context ends. The kinds take turns; the account
// is drawn by lot from those at work, because trouble that nobody meets shows
// nothing. Faults that somebody has set by hand are left alone.
func (s *storm) blow(ctx context.Context) {
	served := s.served()
	for turn := 0; wait(ctx, s.interval); turn++ {
		before := served
		served = s.served()
		var busy []string
		for _, account := range s.accounts {
			if served[account.Name] > before[account.Name] && len(s.fake.Faults(account.Name)) == 0 {
				busy = append(busy, account.Name)
			}
		}
		if len(busy) == 0 {
			continue
		}
		account := busy[s.dice.IntN(len(busy))]
		trouble := troubles[turn%len(troubles)]
		lasts := min(s.interval/2, longest)
		s.fake.SetFault(account, fakeclaude.Fault{Name: trouble.fault, Times: -1, For: lasts})
		s.logger.Info(fmt.Sprintf("account %s %s for %v", account, trouble.words, lasts))
	}
}

// served counts the requests of each account so far.
func (s *storm) served() map[string]int64 {
	counts := map[string]int64{}
	for name, ledger := range s.fake.Books() {
		counts[name] = ledger.Requests
	}
	return counts
}
