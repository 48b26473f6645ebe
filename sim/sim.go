// Package sim is a discrete-event simulation of a pool of whisper servers, in virtual time. It drives
// the scheduler and the policies that serve in production, or a re-implementation of another load
// balancer (package peers), over cards that follow a law of service time, and measures what clients
// would see, beside the least that any scheduler could reach (see bounds.go). Runs are single-threaded
// and hang on their seed alone: the same [Scenario] gives the same [Result], byte for byte.
//
// It knows no network, no uploads and no proxy: what it measures is the placing.
package sim

import (
	"fmt"

	"github.com/whisperpool/whisperpool/sim/peers"
)

// Run simulates a scenario. The checkers watch beside those that every run has, if the policy is one
// of the scheduler's; what they complain about is in the result. The error says what is wrong with the
// scenario, or that the run cannot come to an end.
func Run(sc Scenario, watch ...Checker) (Result, error) {
	e, err := simulate(sc, watch...)
	if err != nil {
		return Result{}, err
	}
	return e.result(), nil
}

func simulate(sc Scenario, watch ...Checker) (*engine, error) {
	if err := sc.Validate(); err != nil {
		return nil, err
	}
	e := newEngine(&sc)
	if p, ok := peers.ByName(sc.Policy); ok {
		e.front = newBalancer(e, p)
	} else {
		c, err := newCore(e, watch)
		if err != nil {
			return nil, err
		}
		e.front = c
	}
	if err := e.run(); err != nil {
		return nil, fmt.Errorf("%s with seed %d: %w", sc.Policy, sc.Seed, err)
	}
	return e, nil
}
