package caddymodule

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
)

// judgedKept is how many judgements may wait to be logged. More come only when backends fail by the dozen.
const judgedKept = 256

// judgements takes what the scheduler comes to believe of backends out of the dispatcher's lock, under which
// nobody may wait for a log.
type judgements chan scheduler.Judged

// Observed is told of every step.
func (j judgements) Observed(_ scheduler.Instant, _ scheduler.Event, ds []scheduler.Decision) {
	for _, d := range ds {
		if d, ok := d.(scheduler.Judged); ok {
			select {
			case j <- d:
			default:
			}
		}
	}
}

// logJudged logs them, a line each, until the pool ends.
func (p *Pool) logJudged() {
	for {
		select {
		case <-p.life.Done():
			return
		case j := <-p.judged:
			p.logJudgement(j)
		}
	}
}

func (p *Pool) logJudgement(j scheduler.Judged) {
	fields := []zap.Field{zap.String("backend", string(j.Backend)), zap.Stringer("verdict", j.Verdict)}
	backends := p.dispatcher.Snapshot().Backends
	if i := slices.IndexFunc(backends, func(b scheduler.BackendSnapshot) bool { return b.ID == j.Backend }); i >= 0 {
		fields = append(fields, zap.String("state", backends[i].State), zap.String("why", backends[i].Why))
	}
	if j.Cause != 0 {
		fields = append(fields, zap.Stringer("cause", j.Cause))
	}
	switch j.Verdict {
	case scheduler.Opened:
		p.log().Warn("backend is left alone", append(fields, zap.Duration("for", j.For.Round(time.Millisecond)))...)
	case scheduler.Closed:
		p.log().Info("backend is used again", fields...)
	case scheduler.Penalized:
		p.log().Warn("backend counts as slower than it was learned to be", fields...)
	case scheduler.Suspected:
		p.log().Warn("backend is in doubt and is tried with a piece of speech", fields...)
	case scheduler.Cleared:
		p.log().Info("backend is cleared of doubt", fields...)
	}
}
