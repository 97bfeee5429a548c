package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// spanCollector takes spans as OTLP over HTTP.
type spanCollector struct {
	mu    sync.Mutex
	spans []*trace.Span
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	export := new(collector.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, export)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not an export of traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range export.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

func (c *spanCollector) named(name string) (found []*trace.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

func attributeOf(s *trace.Span, key string) any {
	for _, kv := range s.Attributes {
		if kv.Key != key {
			continue
		}
		if text := kv.Value.GetStringValue(); text != "" {
			return text
		}
		return kv.Value.GetIntValue()
	}
	return nil
}

// TestTracesReachACollector: behind Caddy's tracing, a collector gets the request's
// span with one child for each try, in the client's trace; upstream gets nothing of it.
func TestTracesReachACollector(t *testing.T) {
	const traceID, clientSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	spans := new(spanCollector)
	receiver := httptest.NewServer(spans)
	t.Cleanup(receiver.Close)
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	config := strings.Replace(global+block, "\tshunt {", "\ttracing {\n\t\tspan request\n\t\tspan_attributes {\n\t\t\tperson {http.auth.user.id}\n\t\t\toutput {http.shunt.tokens_out}\n\t\t}\n\t}\n\tshunt {", 1)
	s := newSite(t, up, config, append([]string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + receiver.URL + "/v1/traces", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
		"OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_PROPAGATORS=tracecontext,baggage,b3multi,jaeger",
	}, secrets...)...)
	s.start()
	s.do(http.MethodPost, s.url+"/use", `{"account":"a"}`, "X-Api-Key", annKey).mustServe(t)
	up.SetFault("a", fakeclaude.Always(fakeclaude.SpendCap))
	before := len(up.Requests())
	s.ask(annKey, helloStream, "Traceparent", "00-"+traceID+"-"+clientSpan+"-01", "Tracestate", "team=secret", "Baggage", "project=secret").mustServe(t)

	var request *trace.Span
	eventually(t, "the request's span", 10*time.Second, func() bool {
		for _, span := range spans.named("request") {
			if hex.EncodeToString(span.TraceId) == traceID {
				request = span
			}
		}
		return request != nil && len(spans.named("shunt attempt")) == 2
	})
	if hex.EncodeToString(request.ParentSpanId) != clientSpan {
		t.Error("the request's span is not in the client's trace")
	}
	tries := spans.named("shunt attempt")
	var output int64
	for _, ledger := range up.Books() {
		output += ledger.Output
	}
	for i, want := range []map[string]any{
		{"shunt.account": "a", "shunt.attempt": int64(1), "shunt.verdict": "spend_limit", "http.response.status_code": int64(429), "shunt.reason": "pinned"},
		{"shunt.attempt": int64(2), "shunt.verdict": "served", "http.response.status_code": int64(200), "gen_ai.request.model": "claude-sonnet-5", "gen_ai.usage.output_tokens": output},
	} {
		if hex.EncodeToString(tries[i].TraceId) != traceID || hex.EncodeToString(tries[i].ParentSpanId) != hex.EncodeToString(request.SpanId) {
			t.Errorf("try %d is not a child of the request's span", i+1)
		}
		for key, value := range want {
			if got := attributeOf(tries[i], key); got != value {
				t.Errorf("try %d: %s is %v, want %v", i+1, key, got, value)
			}
		}
	}
	if tries[0].Status.GetCode() != trace.Status_STATUS_CODE_ERROR || tries[1].Status.GetCode() == trace.Status_STATUS_CODE_ERROR {
		t.Errorf("the tries' states are %v and %v", tries[0].Status, tries[1].Status)
	}
	if attributeOf(request, "person") != "ann" || attributeOf(request, "shunt.attempts") != int64(2) || attributeOf(request, "shunt.verdict") != "served" || attributeOf(request, "output") == "" {
		t.Errorf("the request's span: %v", request.Attributes)
	}
	asked := up.Requests()[before:]
	if len(asked) != 2 {
		t.Fatalf("upstream was asked %d times", len(asked))
	}
	for _, r := range asked {
		for name := range r.Header {
			for _, of := range []string{"trace", "baggage", "b3"} {
				if strings.Contains(strings.ToLower(name), of) {
					t.Errorf("%s went upstream: %v", name, r.Header[name])
				}
			}
		}
	}
}
