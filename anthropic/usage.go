package anthropic

import "github.com/tidwall/gjson"

// Usage is what one answer says it consumed, in tokens. A field that the answer
// did not mention is zero.
//
// Field meanings follow the Messages API: the whole prompt is
// InputTokens + CacheReadTokens + CacheWriteTokens, and CacheWriteTokens is the
// sum of its five-minute and one-hour parts.
type Usage struct {
	InputTokens      int64 `json:"input_tokens"`
	OutputTokens     int64 `json:"output_tokens"`
	CacheReadTokens  int64 `json:"cache_read_tokens"`
	CacheWriteTokens int64 `json:"cache_write_tokens"`
	// CacheWrite1hTokens is the part of CacheWriteTokens that lives for one hour.
	CacheWrite1hTokens int64 `json:"cache_write_1h_tokens,omitempty"`
	WebSearches        int64 `json:"web_searches,omitempty"`
	WebFetches         int64 `json:"web_fetches,omitempty"`
}

// PromptTokens is the size of the whole prompt, cached or not.
func (u Usage) PromptTokens() int64 {
	return u.InputTokens + u.CacheReadTokens + u.CacheWriteTokens
}

// Total is every token, in and out.
func (u Usage) Total() int64 { return u.PromptTokens() + u.OutputTokens }

// IsZero reports whether nothing was counted.
func (u Usage) IsZero() bool { return u == Usage{} }

// Add adds v to u. It is for summing answers, never for the parts of one
// stream: those are cumulative, see [Usage.Merge].
func (u *Usage) Add(v Usage) {
	u.InputTokens += v.InputTokens
	u.OutputTokens += v.OutputTokens
	u.CacheReadTokens += v.CacheReadTokens
	u.CacheWriteTokens += v.CacheWriteTokens
	u.CacheWrite1hTokens += v.CacheWrite1hTokens
	u.WebSearches += v.WebSearches
	u.WebFetches += v.WebFetches
}

// Merge takes over every field that the JSON object usage mentions with a
// number; null and missing fields keep their value. The counts of a stream are
// cumulative (Messages API, streaming), so the last value of each field holds.
func (u *Usage) Merge(usage gjson.Result) {
	if !usage.IsObject() {
		return
	}
	usage.ForEach(func(key, value gjson.Result) bool {
		switch key.Str {
		case "input_tokens":
			take(&u.InputTokens, value)
		case "output_tokens":
			take(&u.OutputTokens, value)
		case "cache_read_input_tokens":
			take(&u.CacheReadTokens, value)
		case "cache_creation_input_tokens":
			take(&u.CacheWriteTokens, value)
		case "cache_creation":
			take(&u.CacheWrite1hTokens, value.Get("ephemeral_1h_input_tokens"))
		case "server_tool_use":
			take(&u.WebSearches, value.Get("web_search_requests"))
			take(&u.WebFetches, value.Get("web_fetch_requests"))
		}
		return true
	})
}

// maxTokens bounds what a single count may say, so that sums cannot overflow.
const maxTokens = 1 << 40

func take(field *int64, value gjson.Result) {
	if value.Type != gjson.Number {
		return
	}
	if n := value.Int(); n >= 0 && n <= maxTokens {
		*field = n
	}
}
