package scheduler

import (
	"errors"
	"fmt"
	"slices"
)

// Invariants checks that what the scheduler counts in several places agrees, nil when it does. It is
// for tests and simulations: it takes time in proportion to everything that is held.
func (s *Scheduler) Invariants() error {
	var errs []error
	claim := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	waiting, waitingBytes, debtors := 0, int64(0), 0
	ofTenant := make(map[*tenant]int)
	for _, c := range s.classes {
		n, short := 0, 0
		for i, f := range c.flows {
			claim(f.index == i && f.class == c && c.flowOf[f.tenant.id] == f && !f.empty(), "a flow of %s is not where it should be, or empty", c.model)
			claim(!f.keyNow().before(f.key) && !f.moved && f.tenant.charged == 0, "a flow of %s is as a round left it", c.model)
			claim(i == 0 || !f.key.before(c.flows[(i-1)/2].key), "the flows of %s are out of order", c.model)
			for j := range f.all() {
				n++
				if j.isShort() {
					short++
				}
				waitingBytes += j.Bytes
				ofTenant[j.tenant]++
				claim(j.queued && len(j.running) == 0 && j.flow == f, "job %d in the queue is marked queued %v, running %d", j.ID, j.queued, len(j.running))
				if j.owes {
					debtors++
				}
				claim(s.jobs[j.ID] == j, "job %d waits and is settled", j.ID)
				claim(j.overtaken <= overtakesMax, "job %d was overtaken %d times", j.ID, j.overtaken)
				claim(j.next == nil || j.next.prev == j && (j.order < j.next.order || j.next.overtaken > 0), "the queue is out of order at job %d", j.ID)
				claim(s.expiries[j.expiryIndex] == j, "job %d is not where its expiry is", j.ID)
			}
		}
		claim(len(c.flowOf) == len(c.flows), "%d flows of %s, %d by tenant", len(c.flows), c.model, len(c.flowOf))
		claim(short == c.shortOnes, "%d short jobs wait for %s, counted %d", short, c.model, c.shortOnes)
		claim(n == c.waiting, "%d jobs wait for %s, counted %d", n, c.model, c.waiting)
		waiting += n
	}
	unsettled := 0
	for i, t := range s.tenants {
		claim(t.number == i && s.tenantByID[t.id] == t && t.jobs > 0, "tenant %d is not where it should be, or has no jobs", i)
		claim(t.waiting == ofTenant[t], "%d jobs of a tenant wait, counted %d", ofTenant[t], t.waiting)
		unsettled += t.jobs
	}
	claim(unsettled == len(s.jobs) && len(s.tenants) == len(s.tenantByID), "%d jobs of tenants, %d in all", unsettled, len(s.jobs))
	claim(waiting == s.waiting, "%d jobs wait, counted %d", waiting, s.waiting)
	claim(waitingBytes == s.waitingBytes, "%d bytes wait, counted %d", waitingBytes, s.waitingBytes)
	claim(len(s.expiries) == s.waiting, "%d expiries of %d jobs", len(s.expiries), s.waiting)
	s.claimRunning(claim)
	claim(debtors == s.budget.debtors, "%d jobs wait for the retry budget, counted %d", debtors, s.budget.debtors)
	claim(s.budget.tokens >= 0 && s.budget.tokens <= budgetMax, "%v tokens", s.budget.tokens)
	held := int64(0)
	for _, j := range s.jobs {
		held += j.Bytes
	}
	claim(held == s.heldBytes, "%d bytes held, counted %d", held, s.heldBytes)
	running := 0
	for _, b := range s.pool {
		running += len(b.running)
		claim(!b.draining || len(b.running) > 0, "backend %s drained and is still there", b.ID)
		claim(s.byID[b.ID] == b, "backend %s is not found by its ID", b.ID)
		for _, a := range b.running {
			claim(a.backend == b && s.attempts[a.id] == a && (a.trial && b.trial == a || slices.Contains(a.job.running, a)), "attempt %d is not its job's or its backend's", a.id)
		}
	}
	claim(running == len(s.attempts), "%d attempts on backends, counted %d", running, len(s.attempts))
	claim(len(s.byID) == len(s.pool), "%d backends by ID, %d in the pool", len(s.byID), len(s.pool))
	return errors.Join(errs...)
}

// claimRunning checks what runs: attempts of jobs, and trials.
func (s *Scheduler) claimRunning(claim func(ok bool, format string, args ...any)) {
	trials := 0
	for _, b := range s.pool {
		if b.trial != nil {
			trials++
			claim(b.trial.trial && b.trial.backend == b && s.attempts[b.trial.id] == b.trial, "the trial of %s is not its own, or has ended", b.ID)
		}
		claim(b.cold >= 0 && b.cold <= slowStartJobs, "backend %s starts slowly for %d jobs", b.ID, b.cold)
	}
	run := 0
	for _, j := range s.jobs {
		run += len(j.running)
		claim(j.queued != (len(j.running) > 0) && len(j.running) <= 2, "job %d is queued %v and has %d attempts", j.ID, j.queued, len(j.running))
	}
	claim(run+trials == len(s.attempts), "%d attempts of jobs and %d trials, %d in all", run, trials, len(s.attempts))
}
