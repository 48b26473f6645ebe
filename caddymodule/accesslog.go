package caddymodule

import (
	"context"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/whisperpool/whisperpool/scheduler"
)

// accessField is the object in the lines of Caddy's access log that has what we know of a request. The names in it are
// documented in docs/logs.md; nothing that a client wrote is in it but the request's id.
const accessField = "whisperpool"

// access is that object. It is written out only where a site has an access log.
type access struct {
	pool, id, outcome, code string
	phases                  *[phaseCount]time.Duration // nil: it was not let in
	story                   *story                     // nil: it never got into the queue, through its own fault
	by                      scheduler.AttemptID
}

// logAccess adds what we know of a request to its line in the access log.
func logAccess(ctx context.Context, a *access) {
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object(accessField, a))
	}
}

// access is what is known of the request when it is over.
func (t *transcription) access(phases [phaseCount]time.Duration) *access {
	a := &access{pool: t.pool.name, id: t.requestID, outcome: t.outcome, code: t.code, phases: &phases, story: t.story}
	if answer := t.answer.Load(); answer != nil {
		a.by = answer.attempt.Attempt
	}
	return a
}

// MarshalLogObject writes it.
func (a *access) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("pool", a.pool)
	to.AddString("request_id", a.id)
	to.AddString("outcome", a.outcome)
	if a.code != "" {
		to.AddString("code", a.code)
	}
	if a.phases != nil {
		for phase, took := range a.phases {
			addMS(to, phaseNames[phase]+"_ms", took)
		}
	}
	if a.story == nil {
		return nil
	}
	return a.story.log(to, a.by)
}

// log writes what a story has; by is the attempt that gave the answer, 0 for none.
func (s *story) log(to zapcore.ObjectEncoder, by scheduler.AttemptID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.AddString("model", s.job.Model)
	if s.job.AudioSeconds > 0 {
		to.AddFloat64("audio_s", s.job.AudioSeconds)
	}
	to.AddInt("attempts", len(s.attempts)+s.leftOut)
	if err := addList(to, "backends", s.found, logProspect); err != nil || len(s.attempts) == 0 {
		return err
	}
	told := s.attempts[len(s.attempts)-1]
	var failed []*chapter
	for _, c := range s.attempts {
		if c.Attempt == by {
			told = c
		}
		if c.result != 0 && c.result != scheduler.Success {
			failed = append(failed, c)
		}
	}
	to.AddString("backend", string(told.Backend))
	to.AddString("class", told.class)
	to.AddString("reason", told.Reason.String())
	addMS(to, "predicted_ms", told.Predicted)
	if d := told.considered.Declined; d.For != "" {
		_ = to.AddObject("left_idle", zapcore.ObjectMarshalerFunc(func(to zapcore.ObjectEncoder) error { // it never fails
			to.AddString("backend", string(d.Idle))
			addMS(to, "finish_ms", d.IdleIn)
			to.AddString("waited_for", string(d.For))
			addMS(to, "finish_there_ms", d.In)
			return nil
		}))
	}
	if err := addList(to, "candidates", told.considered.Candidates, logCandidate); err != nil {
		return err
	}
	if err := addList(to, "could_not_take_it", told.absent, logAbsence); err != nil {
		return err
	}
	return addList(to, "failed", failed, logFailure)
}

func logCandidate(to zapcore.ObjectEncoder, c scheduler.Candidate) {
	to.AddString("backend", string(c.Backend))
	to.AddBool("idle", c.Idle)
	addMS(to, "free_in_ms", c.FreeIn)
	addMS(to, "service_ms", c.Predicted)
	addMS(to, "finish_ms", c.FreeIn+c.Predicted)
}

func logAbsence(to zapcore.ObjectEncoder, a absence) {
	to.AddString("backend", string(a.backend))
	to.AddString("why", a.why)
}

func logFailure(to zapcore.ObjectEncoder, c *chapter) {
	to.AddString("backend", string(c.Backend))
	to.AddString("class", c.class)
	to.AddString("result", c.result.String())
	to.AddString("detail", c.detail)
	addMS(to, "took_ms", c.took)
}

func logProspect(to zapcore.ObjectEncoder, p scheduler.Prospect) {
	to.AddString("backend", string(p.Backend))
	if p.Lacks != "" {
		to.AddString("lacks", p.Lacks)
		return
	}
	to.AddBool("idle", p.Idle)
	addMS(to, "free_in_ms", p.FreeIn)
	addMS(to, "service_ms", p.Predicted)
}

// addMS adds milliseconds, to a tenth.
func addMS(to zapcore.ObjectEncoder, key string, d time.Duration) {
	to.AddFloat64(key, float64(d.Round(100*time.Microsecond))/float64(time.Millisecond))
}

// addList adds a list of objects, unless it is empty.
func addList[T any](to zapcore.ObjectEncoder, key string, list []T, log func(zapcore.ObjectEncoder, T)) error {
	if len(list) == 0 {
		return nil
	}
	return to.AddArray(key, zapcore.ArrayMarshalerFunc(func(to zapcore.ArrayEncoder) error {
		for _, one := range list {
			object := zapcore.ObjectMarshalerFunc(func(to zapcore.ObjectEncoder) error {
				log(to, one)
				return nil
			})
			if err := to.AppendObject(object); err != nil {
				return err
			}
		}
		return nil
	}))
}
