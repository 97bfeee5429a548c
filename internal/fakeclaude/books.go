package fakeclaude

// Usage counts the tokens of one answer or of many, as they are charged.
type Usage struct {
	Input        int64 `json:"input_tokens"`
	Output       int64 `json:"output_tokens"`
	CacheRead    int64 `json:"cache_read_tokens"`
	CacheWrite5m int64 `json:"cache_write_5m_tokens"`
	CacheWrite1h int64 `json:"cache_write_1h_tokens"`
	WebSearches  int64 `json:"web_searches"`
}

func (u *Usage) add(v Usage) {
	u.Input += v.Input
	u.Output += v.Output
	u.CacheRead += v.CacheRead
	u.CacheWrite5m += v.CacheWrite5m
	u.CacheWrite1h += v.CacheWrite1h
	u.WebSearches += v.WebSearches
}

// Prompt is the size of the whole prompt.
func (u Usage) Prompt() int64 { return u.Input + u.CacheRead + u.CacheWrite5m + u.CacheWrite1h }

// Ledger is what one account was charged. It is the truth that a proxy's own
// books are compared with: cancelled streams are in it with what was emitted.
type Ledger struct {
	// Requests counts messages requests that were begun, not those refused.
	Requests int64 `json:"requests"`
	Refused  int64 `json:"refused"`
	Usage
	// Units is the cost that was charged, to windows or as extra usage.
	Units float64 `json:"units"`
	// Extra is the part of Units that was paid for as extra usage.
	Extra float64 `json:"extra"`
}

// Books returns what each account was charged so far.
func (s *Server) Books() map[string]Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	books := make(map[string]Ledger, len(s.accounts))
	for _, a := range s.accounts {
		books[a.Name] = a.ledger
	}
	return books
}

// weights of model families relative to sonnet.
var weights = map[string]float64{
	"opus": 5.0 / 3, "sonnet": 1, "haiku": 1.0 / 3, "fable": 10.0 / 3, "mythos": 10.0 / 3, "other": 1,
}

// units is the cost of usage: published price ratios, input of sonnet being 1.
func units(modelID string, u Usage) float64 {
	return weights[family(modelID)] * (float64(u.Input) +
		0.1*float64(u.CacheRead) +
		1.25*float64(u.CacheWrite5m) +
		2*float64(u.CacheWrite1h) +
		5*float64(u.Output))
}

// charge books usage on the account of the exchange.
func (ex *exchange) charge(u Usage) {
	ex.s.mu.Lock()
	defer ex.s.mu.Unlock()
	now := ex.s.opts.Clock()
	a := ex.acct
	cost := units(ex.prompt.model, u)
	ex.rec.Usage.add(u)
	ex.s.announce()
	a.ledger.add(u)
	a.ledger.Units += cost
	if !a.subscription() {
		ex.s.bucketsOf(a, ex.prompt.model, now).take(u)
		return
	}
	if a.ExtraUsage > 0 && a.shut(now, family(ex.prompt.model)) {
		a.extra += cost
		a.ledger.Extra += cost
		return
	}
	a.fiveHour.charge(now, cost)
	a.week.charge(now, cost)
	if w := a.modelWeek[family(ex.prompt.model)]; w != nil {
		w.charge(now, cost)
	}
}
