package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// Where a site has Caddy's directive tracing, a request that is sampled gets spans of ours below Caddy's: one for each
// stay in the queue, and one for each attempt. Where there is none, nothing is done. The attributes are documented in
// docs/logs.md; nothing that a client wrote is in them but the request's id, and the model where its name is known.

// tracerName is the instrumentation scope of our spans.
const tracerName = "github.com/whisperpool/whisperpool"

// spans are those of one request; the zero value makes none.
type spans struct {
	ctx    context.Context // with Caddy's span
	tracer trace.Tracer    // nil: the request is not traced

	mu     sync.Mutex
	queued time.Time // since when it waits; zero while it does not
}

// traceFrom begins the spans of a request, where it is sampled.
func (t *transcription) traceFrom(ctx context.Context) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return
	}
	t.spans.ctx, t.spans.tracer = ctx, parent.TracerProvider().Tracer(tracerName)
	parent.SetAttributes(attribute.String("whisperpool.pool", t.pool.name), attribute.String("whisperpool.request_id", t.requestID))
}

// wait tells that the request waits in the queue from now on.
func (s *spans) wait() {
	if s.tracer == nil {
		return
	}
	s.mu.Lock()
	s.queued = time.Now()
	s.mu.Unlock()
}

// leaveQueue ends a stay in the queue at a moment; problem is why it ended with nothing, "" for none.
func (s *spans) leaveQueue(at time.Time, problem string, attributes ...attribute.KeyValue) {
	if s.tracer == nil {
		return
	}
	s.mu.Lock()
	since := s.queued
	s.queued = time.Time{}
	s.mu.Unlock()
	if since.IsZero() { // a second attempt beside the first
		return
	}
	_, span := s.tracer.Start(s.ctx, "queue", trace.WithTimestamp(since), trace.WithAttributes(attributes...))
	if problem != "" {
		span.SetStatus(codes.Error, problem)
	}
	span.End(trace.WithTimestamp(at))
}

// traceAttempt begins an attempt's span. The context that it returns has it, so that the backend's spans are below.
func (t *transcription) traceAttempt(ctx context.Context, a dispatcher.Attempt, class string, at time.Time) (context.Context, trace.Span) {
	if t.spans.tracer == nil {
		return ctx, nil
	}
	chosen := []attribute.KeyValue{
		attribute.String("whisperpool.backend", string(a.Backend)),
		attribute.String("whisperpool.class", class),
		attribute.String("whisperpool.reason", a.Reason.String()),
		attribute.Float64("whisperpool.predicted_seconds", a.Predicted.Seconds()),
	}
	var candidates []string
	for _, c := range a.Considered.Candidates {
		candidates = append(candidates, fmt.Sprintf("%s %.3f", c.Backend, (c.FreeIn+c.Predicted).Seconds()))
	}
	t.spans.leaveQueue(at, "", append(chosen, attribute.StringSlice("whisperpool.candidates", candidates))...)
	return t.spans.tracer.Start(ctx, "attempt", trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(append(chosen,
		attribute.String("gen_ai.request.model", a.Model),
		attribute.Float64("whisperpool.audio_seconds", t.request.AudioSeconds),
		attribute.Int("whisperpool.attempt", a.Number),
		attribute.Bool("whisperpool.hedge", a.Reason == scheduler.Hedging),
	)...))
}

// endAttempt ends an attempt's span, which may be nil.
func (t *transcription) endAttempt(span trace.Span, o scheduler.Outcome) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.String("whisperpool.result", o.Result.String()))
	switch o.Result {
	case scheduler.Success:
	case scheduler.Aborted: // which is nobody's fault
		span.SetAttributes(attribute.String("whisperpool.detail", o.Detail))
	default:
		span.SetStatus(codes.Error, o.Detail)
	}
	span.End()
	t.spans.wait() // unless the request is over
}

// traceEnd tells the spans how the request ended.
func (t *transcription) traceEnd(s scheduler.Settle, outcome string) {
	if t.spans.tracer == nil {
		return
	}
	trace.SpanFromContext(t.spans.ctx).SetAttributes(attribute.String("whisperpool.outcome", outcome), attribute.Int("whisperpool.attempts", s.Attempts))
	switch s.Reason {
	case scheduler.Served, scheduler.Refused, scheduler.Exhausted, scheduler.Poison: // an attempt ended it
	default:
		t.spans.leaveQueue(time.Now(), outcome)
	}
}

// propagate names the present span to a backend, as W3C's Trace Context has it, so that the trace goes on there. Only
// identifiers are in it; tracestate and baggage, which may be a client's, are not passed on. Without tracing there is
// nothing, whatever the client sent.
func propagate(ctx context.Context, h http.Header) {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		h.Set("Traceparent", fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags()&trace.FlagsSampled))
	}
}
