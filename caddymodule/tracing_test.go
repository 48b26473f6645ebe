package caddymodule

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/whisperpool/whisperpool/scheduler"
)

// traces receives what Caddy's tracing exports, by OTLP over HTTP.
type traces struct {
	mu    sync.Mutex
	spans []*tracev1.Span
}

func newTraces(t *testing.T) *traces {
	t.Helper()
	got := &traces{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			t.Errorf("%s is no export of traces", r.URL.Path)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got.mu.Lock()
		defer got.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				got.spans = append(got.spans, scope.Spans...)
			}
		}
		answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "otlp",
		"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_TRACES_SAMPLER": "parentbased_always_on", "OTEL_PROPAGATORS": "tracecontext,baggage",
	} {
		t.Setenv(name, value)
	}
	return got
}

// of waits until so many spans of a trace were exported, and lists them in order of their beginnings.
func (g *traces) of(t *testing.T, trace string, count int) (spans []*tracev1.Span) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d spans of the trace %s", count, trace), func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		spans = nil
		for _, s := range g.spans {
			if hex.EncodeToString(s.TraceId) == trace {
				spans = append(spans, s)
			}
		}
		return len(spans) >= count
	})
	slices.SortFunc(spans, func(a, b *tracev1.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return spans
}

// attributeOf is a span's attribute as text.
func attributeOf(s *tracev1.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return strings.Trim(strings.SplitN(a.Value.String(), ":", 2)[1], `" `)
		}
	}
	return ""
}

func named(spans []*tracev1.Span, name string) (out []*tracev1.Span) {
	for _, s := range spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// TestTraces: below the span of Caddy's tracing there is one for each stay in the queue and each attempt, and the trace
// goes on in the backends, with identifiers alone.
func TestTraces(t *testing.T) {
	got := newTraces(t)
	var asked atomic.Int32
	answer := func(w http.ResponseWriter, r *http.Request, got sent) {
		if asked.Add(1) == 1 {
			http.Error(w, canary, http.StatusInternalServerError)
			return
		}
		speak(w, r, got)
	}
	a, b := newWhisper(t, func(s *whisper) { s.answer = answer }), newWhisper(t, func(s *whisper) { s.answer = answer })
	pool := fmt.Sprintf("backend %s H100 {\n\tname a\n}\nbackend %s T4 {\n\tname b\n}", a.address(), b.address())
	p := newProxy(t, pool)
	p.mustLoad(strings.Replace(site(p.url, pool), "{\n", "{\n\ttracing {\n\t\tspan transcription\n\t}\n", 1))
	p.ready(2)
	post := func(id, parent string, clip []byte) response {
		t.Helper()
		r, err := p.postWith(t.Context(), transcriptions, http.Header{
			"X-Request-Id": {id}, "Traceparent": {parent}, "Tracestate": {"vendor=state"}, "Baggage": {"who=" + canary},
		}, clip, "model=base", "prompt="+canary)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const sampled, unsampled, refused = "0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319d", "0af7651916cd43dd8448eb211c80319e"
	if r := post("traced", "00-"+sampled+"-b7ad6b7169203331-01", canaryWAV(2)); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	spans := got.of(t, sampled, 5)
	root, queues, attempts := named(spans, "transcription"), named(spans, "queue"), named(spans, "attempt")
	if len(spans) != 5 || len(root) != 1 || len(queues) != 2 || len(attempts) != 2 {
		t.Fatalf("%v", spans)
	}
	for key, want := range map[string]string{"whisperpool.pool": "default", "whisperpool.request_id": "traced", "whisperpool.outcome": "served", "whisperpool.attempts": "2"} {
		if has := attributeOf(root[0], key); has != want {
			t.Errorf("%s is %q, not %q", key, has, want)
		}
	}
	for i, s := range append(queues, attempts...) {
		if string(s.ParentSpanId) != string(root[0].SpanId) || s.StartTimeUnixNano < root[0].StartTimeUnixNano || s.EndTimeUnixNano > root[0].EndTimeUnixNano {
			t.Errorf("number %d is not within Caddy's span: %v", i, s)
		}
		if attributeOf(s, "whisperpool.backend") == "" || attributeOf(s, "whisperpool.reason") == "" || attributeOf(s, "whisperpool.predicted_seconds") == "" {
			t.Errorf("it does not tell what was chosen: %v", s)
		}
	}
	if attributeOf(attempts[0], "whisperpool.result") != "failed" || attempts[0].Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR ||
		attributeOf(attempts[1], "whisperpool.result") != "success" || attributeOf(attempts[1], "gen_ai.request.model") != "base" ||
		attributeOf(attempts[1], "whisperpool.audio_seconds") == "" || attempts[1].Kind != tracev1.Span_SPAN_KIND_CLIENT {
		t.Errorf("attempts: %v", attempts)
	}
	requests := append(a.requests(), b.requests()...)
	for _, s := range attempts {
		want := fmt.Sprintf("00-%s-%x-01", sampled, s.SpanId)
		if !slices.ContainsFunc(requests, func(r sent) bool { return r.header.Get("Traceparent") == want }) {
			t.Errorf("no backend was sent %s", want)
		}
	}
	for _, r := range requests {
		if r.header.Get("Tracestate") != "" || r.header.Get("Baggage") != "" {
			t.Errorf("a client's own fields are passed on: %v", r.header)
		}
	}
	if text := fmt.Sprint(spans[1:]); strings.Contains(text, canary) || strings.Contains(text, "secret-name") {
		t.Errorf("what the client wrote is in the spans: %s", text)
	}

	// One that is not sampled makes no spans, and its backend makes none either.
	if r := post("not-traced", "00-"+unsampled+"-b7ad6b7169203331-00", wav(1)); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	requests = append(a.requests(), b.requests()...)
	if !slices.ContainsFunc(requests, func(r sent) bool {
		return strings.HasPrefix(r.header.Get("Traceparent"), "00-"+unsampled+"-") && strings.HasSuffix(r.header.Get("Traceparent"), "-00")
	}) {
		t.Error("the backend was not told that the trace is not sampled")
	}
	// One that is refused after a wait has waited in vain.
	for _, id := range []string{"a", "b"} {
		if err := p.pool().drain(scheduler.BackendID(id), true); err != nil {
			t.Fatal(err)
		}
	}
	if r := post("refused", "00-"+refused+"-b7ad6b7169203331-01", wav(1)); r.status != http.StatusServiceUnavailable {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	vain := named(got.of(t, refused, 2), "queue")
	if len(vain) != 1 || vain[0].Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR || vain[0].Status.GetMessage() != "no_backend" {
		t.Errorf("%v", vain)
	}
	if spans := got.of(t, unsampled, 0); len(spans) != 0 {
		t.Errorf("spans of a trace that is not sampled: %v", spans)
	}
}

// TestWithoutTracing: what a client says of traces goes nowhere.
func TestWithoutTracing(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	p.ready(1)
	r, err := p.postWith(t.Context(), transcriptions, http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}, wav(1), "model=base")
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, r.status, r.body)
	}
	if got := backend.requests(); len(got) != 1 || got[0].header.Get("Traceparent") != "" {
		t.Errorf("the backend was sent %v", got)
	}
}
