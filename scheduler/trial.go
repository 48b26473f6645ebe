package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/breaker"
	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// A trial is the driver's own short piece of speech, sent to a backend to see whether it is well, where a
// client's job would be too good for that: see Dispatch.Trial. There is one at a time on a backend,
//
//   - when it is half-open and no short job has become the half-open attempt;
//   - when its last answers were failures, or that it is busy, it is idle, and others can do its work: else the
//     next clients would have to find out whether it goes on so, and who is rarely chosen goes on for long;
//   - when it is suspect: its answers have no words, or it refuses what clients send, and its peers differ;
//   - when a job runs there for far too long, nothing else has come back, and a slot is free;
//   - when it is idle and has become slower than it was or its class is: with faster ones idle as well nobody
//     would ever find out that it has recovered.
//
// A trial that finds words is a success. One that finds none, or is refused, has failed; that leaves the backend
// alone, however well it was thought of.
const (
	trialAudio = 2.0 // seconds, about
	// suspectAfter answers without words, or client faults, running.
	suspectAfter = 5
	// A half-open attempt has giveUpFactor times its prediction and probeSlack; trialUnknown while nothing
	// is known.
	probeSlack   = 2 * time.Second
	trialUnknown = 30 * time.Second
	// One that has become slower than fallenBy times is tried every fallenGap, after fallenOften times every other,
	// and then every fourth; again after fallenAgain when it did better than expected by half. The others are looked
	// at every fallenLook.
	fallenBy    = 1.5
	fallenOften = 8
	fallenGap   = 15 * time.Second
	fallenAgain = time.Second
	fallenLook  = 5 * time.Second
	// fallenLeast is what ten seconds of audio take at least on one that is worth it: below that, who is twice as
	// slow as another differs by what a busy machine or a network does, and nobody would notice.
	fallenLeast = 250 * time.Millisecond
	// doubtGap is between two trials of one that fails.
	doubtGap = 250 * time.Millisecond
)

// suspect takes in whether an attempt's answer is one that only a trial can tell the meaning of.
func (s *Scheduler) suspect(a *attempt, o Outcome) {
	h := &a.backend.health
	switch {
	case o.Result == Success && o.Words:
		h.trusted()
		h.lastWords, h.hadWords = s.now, true
		return
	case o.Result == Success:
		if h.refusedRow = 0; h.suspicion == RefusesAll {
			h.suspicion = 0
		}
		if h.silentRow++; h.silentRow == 1 {
			h.silentFrom = s.now
		}
	case o.Result == ClientError:
		if h.refusedRow++; h.refusedRow == 1 {
			h.refusedAt = s.now
		}
	default:
		return
	}
	if !s.cfg.Trials || h.suspicion != 0 || !h.closed(s.now) {
		return
	}
	switch {
	case h.silentRow >= suspectAfter && s.anyPeer(a, func(o *backend) bool { return o.health.hadWords && o.health.lastWords >= h.silentFrom }):
		h.suspicion = NoWords
	case h.refusedRow >= suspectAfter && s.anyPeer(a, func(o *backend) bool { return o.answeredSince(h.refusedAt) }):
		h.suspicion = RefusesAll
	default:
		return
	}
	s.decide(Judged{Backend: a.backend.ID, Verdict: Suspected, Cause: h.suspicion})
}

// trusted forgets every doubt about a backend's answers.
func (h *health) trusted() { h.silentRow, h.refusedRow, h.suspicion = 0, 0, 0 }

func (h *health) closed(now Instant) bool {
	return h.breaker.State(time.Duration(now)) == breaker.Closed
}

// anyPeer says whether it is so of another backend that serves the attempt's class.
func (s *Scheduler) anyPeer(a *attempt, is func(*backend) bool) bool {
	return slices.ContainsFunc(a.job.class.serving, func(o *backend) bool { return o != a.backend && is(o) })
}

// forClients says whether a backend that takes jobs is to be given clients'.
func (s *Scheduler) forClients(b *backend) bool {
	if !s.cfg.Trials {
		return true
	}
	return b.health.suspicion == 0 && (!b.health.cause.needsTrial() || b.health.closed(s.now))
}

// try starts the trials that are due, after the placement of clients' jobs.
func (s *Scheduler) try() {
	if !s.cfg.Trials {
		return
	}
	for _, b := range s.pool {
		h := &b.health
		if h.suspicion != 0 || h.failing() || !h.breaker.Closed() {
			if at, ok := b.comesBack(s.now); ok {
				s.wakeAt(at)
			}
		} else if len(b.running) == 0 && s.now < b.tryAt || len(b.running) >= b.slots() {
			continue
		}
		if b.trial == nil && s.now >= h.pausedUntil && len(b.running) < b.slots() && b.takes(s.now) && s.trialDue(b) {
			s.startTrial(b)
		}
	}
}

func (s *Scheduler) trialDue(b *backend) bool {
	return b.health.suspicion != 0 || !b.health.breaker.Closed() || b.stalled(s.now) || s.doubtful(b) || s.fallen(b)
}

// failing says whether the last that was heard of a backend whose breaker is closed was a failure, or that it
// is busy.
func (h *health) failing() bool {
	return h.breaker.Closed() && (h.breaker.Row() > 0 || h.busyRow > 0)
}

// doubtful says whether an idle backend is to be tried since it fails.
func (s *Scheduler) doubtful(b *backend) bool {
	if !b.health.failing() || len(b.running) > 0 || !s.relieved(b) {
		return false
	}
	if s.now < b.doubtAt {
		s.wakeAt(b.doubtAt)
		return false
	}
	return true
}

// fallen says whether an idle backend is to be tried since it has become slower than it was, or its class is.
func (s *Scheduler) fallen(b *backend) bool {
	if s.now < b.tryAt || len(b.running) > 0 || b.lastModel >= len(b.speeds) {
		return false
	}
	b.tryAt = s.now.Add(fallenLook)
	speed := b.speeds[b.lastModel]
	if speed == nil || speed.Observations() < fewObservations {
		return false
	}
	if duration(speed.Theta(1)*speed.Cost.Of(referenceSeconds)) < fallenLeast {
		return false
	}
	if speed.Fallen(s.bestOfClass(b, b.lastModel, speed)) < fallenBy {
		b.fallenTries = 0
		return false
	}
	b.tryAt = s.now.Add(fallenGap << min(b.fallenTries/fallenOften, 2))
	b.fallenTries++
	return true
}

// learnTrial takes in how long a trial took. Clients' jobs teach speeds well enough, but for one that gets none.
func (s *Scheduler) learnTrial(a *attempt, o Outcome) {
	b, elapsed := a.backend, s.now.Sub(a.started)
	if a.expected == 0 || len(b.running) > 0 || b.lastModel >= len(b.speeds) || b.speeds[b.lastModel] != a.speed {
		return
	}
	if 2*elapsed < a.expected {
		b.tryAt, b.fallenTries = s.now.Add(fallenAgain), 0
	}
	seen := estimator.Observation{
		Now: time.Duration(s.now), Elapsed: elapsed, AudioSeconds: trialAudio, Occupancy: b.occupancy(a, s.now),
		Best: s.bestOfClass(b, b.lastModel, a.speed),
	}
	if o.AudioSeconds > 0 && o.AudioSeconds <= audioMax {
		seen.AudioSeconds = o.AudioSeconds
	}
	if a.speed.Observe(seen) {
		s.adopt(a.speed.Shape(), b.lastModel)
	}
}

// chooseTrialModel makes sure that the backend is tried with a model that it has: it may be another server by now. It
// is false while nobody knows of one.
func (s *Scheduler) chooseTrialModel(b *backend) bool {
	served := b.modelsServed()
	if b.lastModel < len(s.modelNames) && (served == nil || slices.Contains(served, s.modelNames[b.lastModel])) {
		return true
	}
	if len(served) == 0 {
		return false
	}
	b.lastModel = s.modelIndex(served[0])
	return true
}

func (s *Scheduler) startTrial(b *backend) {
	if !s.chooseTrialModel(b) {
		return
	}
	s.lastAttempt++
	a := s.spareAttempts.get()
	*a = attempt{
		id: s.lastAttempt, trial: true, job: &s.trialJob, backend: b, started: s.now,
		speed: s.speed(b, b.lastModel), breaker: b.health.breaker,
		doubted: b.health.suspicion == 0 && len(b.running) == 0 && b.health.failing(),
	}
	a.pass = a.breaker.Begin(time.Duration(s.now))
	b.start(a, s.now)
	b.trial, b.doubtAt = a, s.now.Add(doubtGap)
	a.expect()
	a.guess = a.expected
	a.timeout = s.probeTimeout(a)
	s.attempts[a.id] = a
	s.decide(Dispatch{
		Attempt: a.id, Backend: b.ID, Model: s.modelNames[b.lastModel], Reason: Trying, Timeout: a.timeout,
		Predicted: a.guess, Number: 1, Trial: true,
	})
}

// finishTrial takes in how a trial ended.
func (s *Scheduler) finishTrial(a *attempt, o Outcome) {
	b, h, verdict := a.backend, &a.backend.health, breaker.Ignored
	if b.trial == a {
		b.trial = nil
	}
	if a.breaker != h.breaker { // it ran on another machine, which had the name before
		a.breaker.End(time.Duration(s.now), a.pass, verdict)
		return
	}
	switch {
	case o.Result == Success && o.Words:
		verdict = breaker.Good
		s.learnTrial(a, o)
		h.condition, h.strikes, h.busyRow = up, 0, 0
		b.succeeded(s.now)
		if h.suspicion != 0 {
			s.decide(Judged{Backend: b.ID, Verdict: Cleared, Cause: h.suspicion})
		}
		h.trusted()
	case o.Result == Busy:
		if s.pause(b, o.RetryAfter) {
			verdict = breaker.Bad
		}
	case o.Result == Loading:
		h.condition = loading
		h.awayUntil = s.now.Add(awayPause)
		b.warmUp()
	case o.Result == Aborted:
	default:
		// One that fails is left alone after as many failures as ever; one that hangs has shown it.
		if verdict = breaker.Bad; !a.pass.Probe && (!a.doubted || a.gaveUp(s.now, o)) {
			s.failedTrial(b, o)
			verdict = breaker.Ignored
		}
	}
	s.turn(b, h.breaker.End(time.Duration(s.now), a.pass, verdict), o)
}

// failedTrial leaves a backend alone whose breaker was closed, since it has failed a trial.
func (s *Scheduler) failedTrial(b *backend, o Outcome) {
	cause, why := b.health.suspicion, fmt.Sprintf("a piece of speech was answered with: %s", o.Result)
	if cause == 0 {
		cause = Overdue
	}
	switch o.Result {
	case Success:
		why = "found no words in a piece of speech"
	case ClientError:
		why = "refused a piece of speech"
	}
	s.trip(b, cause, why)
}

// probeTimeout is how long a half-open attempt or a trial may take. Requires: the backend counts it.
func (s *Scheduler) probeTimeout(a *attempt) time.Duration {
	if a.speed.Observations() == 0 {
		if a.trial {
			return trialUnknown
		}
		return s.unknownTimeout(a)
	}
	return a.tolerated() + probeSlack
}
