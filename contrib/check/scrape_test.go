package check

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// sample is one series with its value.
type sample struct {
	labels labels.Labels
	value  float64
}

func (s sample) name() string { return s.labels.Get(model.MetricNameLabel) }

// scrape reads shunt's metrics as Prometheus does, with the labels of a target.
func (c *caddy) scrape() (samples []sample, types map[string]string, err error) {
	resp, err := http.Get("http://" + c.admin + "/metrics")
	if err != nil {
		return nil, nil, fmt.Errorf("scraping: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("scraping: status %d", resp.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the scrape: %w", err)
	}
	types = make(map[string]string)
	for name, f := range families {
		if !strings.HasPrefix(name, "caddy_shunt_") {
			continue
		}
		types[name] = strings.ToLower(f.GetType().String())
		for _, m := range f.GetMetric() {
			samples = append(samples, flatten(name, m)...)
		}
	}
	return samples, types, nil
}

func flatten(name string, m *dto.Metric) []sample {
	series := func(name string, value float64, more ...string) sample {
		b := labels.NewBuilder(labels.FromStrings(more...))
		b.Set(model.MetricNameLabel, name).Set("job", "caddy").Set("instance", "caddy:2019")
		for _, l := range m.GetLabel() {
			b.Set(l.GetName(), l.GetValue())
		}
		return sample{b.Labels(), value}
	}
	h := m.GetHistogram()
	if h == nil {
		return []sample{series(name, m.GetCounter().GetValue()+m.GetGauge().GetValue())}
	}
	all := []sample{series(name+"_count", float64(h.GetSampleCount())), series(name+"_sum", h.GetSampleSum())}
	for _, b := range h.GetBucket() {
		le := fmt.Sprint(b.GetUpperBound())
		if math.IsInf(b.GetUpperBound(), 1) {
			le = "+Inf"
		}
		all = append(all, series(name+"_bucket", float64(b.GetCumulativeCount()), "le", le))
	}
	return all
}
