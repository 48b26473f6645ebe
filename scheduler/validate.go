package scheduler

import (
	"errors"
	"fmt"
	"time"
)

// Validate says what is wrong with the configuration, all of it at once, nil when nothing is.
// Whether the policy's name exists is for New to say, which is told the policies.
func (c Config) Validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := make(map[BackendID]bool, len(c.Backends))
	for i, b := range c.Backends {
		switch {
		case b.ID == "":
			complain("backend %d (%s) has no ID", i+1, b.Address)
		case seen[b.ID]:
			complain("two backends are called %q; give one of them another name", b.ID)
		}
		seen[b.ID] = true
		if b.Slots < 0 || b.Slots > slotsMax {
			complain("backend %q: slots is %d, must be from 0 (told by the backend) to %d", b.ID, b.Slots, slotsMax)
		}
		errs = append(errs, b.validateLaws()...)
		for _, m := range b.Models {
			if m == "" {
				complain("backend %q lists a model without a name", b.ID)
			}
		}
	}
	if c.Attempts < 0 {
		complain("attempts is %d, must be at least 1, or 0 for the default", c.Attempts)
	}
	if c.Queue.MaxRequests < 0 || c.Queue.MaxBytes < 0 || c.Queue.MaxWait < 0 || c.Queue.MaxPerTenant < 0 {
		complain("the queue's limits must not be negative; 0 means no limit")
	}
	if o := c.Queue.Order; o != "" && o != FIFO && o != ShortestFirst {
		complain("there is no queue order %q; it is %q or %q", o, FIFO, ShortestFirst)
	}
	if c.Breaker.Failures < 0 || c.Breaker.OpenFor < 0 || c.Breaker.MaxOpenFor < 0 {
		complain("the breaker's settings must not be negative; 0 means the default")
	}
	if f := c.Breaker.SlowFactor; f != 0 && !(f > 1 && f <= slowFactorMax) {
		complain("breaker: slow_factor is %v, must be above 1 and at most %d: how many times the predicted time is slow", f, slowFactorMax)
	}
	if !(c.RetryBudget >= 0 && c.RetryBudget <= 1) {
		complain("the retry budget is %v, must be a share from 0 (the default, %v) to 1", c.RetryBudget, defaultRetryBudget)
	}
	if most := c.Breaker.withDefaults(); most.MaxOpenFor < most.OpenFor {
		complain("breaker: max_open_for (%v) is shorter than open_for (%v)", most.MaxOpenFor, most.OpenFor)
	}
	return errors.Join(errs...)
}

// slotsMax bounds what a backend can be told or tell of itself: a number beyond it is a mistake, and
// would have every job bound on arrival.
const slotsMax = 1024

// slowFactorMax is as good as never.
const slowFactorMax = 1000

// The defaults that a zero stands for.
const (
	defaultAttempts = 3
	defaultFailures = 3
	defaultOpenFor  = 5 * time.Second
	defaultMaxOpen  = 60 * time.Second
	// defaultSlowFactor: ordinary noise and the decoder's fallbacks stay below it.
	defaultSlowFactor  = 4.0
	defaultRetryBudget = 0.1
)

func (b Breaker) withDefaults() Breaker {
	if b.Failures == 0 {
		b.Failures = defaultFailures
	}
	if b.OpenFor == 0 {
		b.OpenFor = defaultOpenFor
	}
	if b.MaxOpenFor == 0 {
		b.MaxOpenFor = max(defaultMaxOpen, b.OpenFor)
	}
	if b.SlowFactor == 0 {
		b.SlowFactor = defaultSlowFactor
	}
	return b
}
