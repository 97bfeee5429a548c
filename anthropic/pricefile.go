package anthropic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// priceFile is a table of prices as JSON.
type priceFile struct {
	AsOf      string   `json:"as_of"`
	WebSearch *float64 `json:"web_search_per_1000"`
	// Cache prices that are left out follow the usual rule: 1.25 and 2 times the price
	// of input for writes, a tenth of it for reads (prompt caching guide).
	Models []struct {
		Price
		CacheWrite5m *float64 `json:"cache_write_5m"`
		CacheWrite1h *float64 `json:"cache_write_1h"`
		CacheRead    *float64 `json:"cache_read"`
	} `json:"models"`
}

// ParsePrices reads a table of prices and lays it over the built-in one: what it says
// of a model takes the place of all that is built in for it. Errors name the entry and
// the field.
func ParsePrices(data []byte) (*Prices, error) {
	var file priceFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the table")
	}
	if _, err := time.Parse(time.DateOnly, file.AsOf); err != nil {
		return nil, fmt.Errorf("as_of: %q; expected a day such as 2026-11-10", file.AsOf)
	}
	webSearch := BuiltInPrices.WebSearch
	if file.WebSearch != nil {
		webSearch = *file.WebSearch
		if webSearch < 0 || webSearch > 1e6 {
			return nil, fmt.Errorf("web_search_per_1000: %g; expected US dollars", webSearch)
		}
	}
	type ref struct{ model, from string }
	seen := make(map[ref]bool)
	prices := make([]Price, 0, len(file.Models))
	for i := range file.Models {
		m := &file.Models[i]
		p := m.Price
		p.CacheWrite5m, p.CacheWrite1h, p.CacheRead = orElse(m.CacheWrite5m, 1.25*p.Input), orElse(m.CacheWrite1h, 2*p.Input), orElse(m.CacheRead, p.Input/10)
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("models[%d] (%s): %w", i, p.Model, err)
		}
		if seen[ref{p.Model, p.From}] {
			return nil, fmt.Errorf("models[%d] (%s): is there twice; expected another from", i, p.Model)
		}
		seen[ref{p.Model, p.From}] = true
		prices = append(prices, p)
	}
	return BuiltInPrices.with(file.AsOf, webSearch, prices), nil
}

func orElse(v *float64, otherwise float64) float64 {
	if v == nil {
		return otherwise
	}
	return *v
}
