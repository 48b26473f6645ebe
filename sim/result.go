package sim

import (
	"math"
	"slices"
)

// Result is what a run measured. Times are in seconds of the simulation; they are those of the jobs that
// were served, the warm-up left out.
type Result struct {
	Policy string `json:"policy"`
	Told   Told   `json:"told,omitempty"` // empty for peers, which are told by hand
	Seed   uint64 `json:"seed"`

	Jobs   int `json:"jobs"`
	Errors int `json:"errors"` // jobs that got no transcript
	// Left are the jobs whose clients went before they were served, as they did in the recording; no errors.
	Left int `json:"left,omitempty"`

	Mean float64 `json:"mean_s"` // from arrival to answer
	P50  float64 `json:"p50_s"`
	P95  float64 `json:"p95_s"`
	P99  float64 `json:"p99_s"`
	Max  float64 `json:"max_s"`
	Wait float64 `json:"wait_s"` // mean, from arrival until a card began

	Elapsed    float64 `json:"elapsed_s"` // from the first measured arrival to the first that is not, or to the end
	Throughput float64 `json:"throughput_per_s"`

	Bound Bound   `json:"bound"`
	Ratio float64 `json:"ratio"` // Mean / Bound.Mean
	// Eta is the work done by the prices of the bound, as a share of what the pool could have done
	// (section 4.5d of the scheduling notes): at most 1, and not to be had by doing the short jobs first.
	Eta float64 `json:"eta"`

	Backends     []BackendResult `json:"backends"`
	Reasons      []Count         `json:"reasons,omitempty"`    // of placements
	Prediction   *Prediction     `json:"prediction,omitempty"` // nil for peers
	SpeedChanges []SpeedChange   `json:"speed_changes,omitempty"`
	// Violations are the contracts that were broken, with their times; none in a sound scheduler.
	Violations []string `json:"violations,omitempty"`
}

// BackendResult is one card's part, over the time that Elapsed tells.
type BackendResult struct {
	Name   string  `json:"name"`
	Class  string  `json:"class,omitempty"`
	Sent   int     `json:"sent"`
	Served int     `json:"served"`
	Busy   float64 `json:"busy"`            // share of its slots' time
	Slots  int     `json:"slots,omitempty"` // that the scheduler counts on at the end; 0 for peers
}

// Count is how often something happened.
type Count struct {
	What  string `json:"what"`
	Times int    `json:"times"`
}

// Prediction compares service times with what the scheduler had predicted: quantiles of actual / predicted.
type Prediction struct {
	Jobs int     `json:"jobs"`
	P10  float64 `json:"p10"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
}

// SpeedChange is a fault that made a card slower or faster, and how many of its jobs that began after
// it had to end before the prediction was within 20 % of the new speed.
type SpeedChange struct {
	Card   string  `json:"card"`
	At     float64 `json:"at_s"`
	Factor float64 `json:"factor"` // of the service time, against that before
	Found  bool    `json:"found"`
	Jobs   int     `json:"jobs"`
}

// speedFound is how near a prediction must be to a changed speed to have found it.
const speedFound = 0.2

func (e *engine) result() Result {
	r := Result{Policy: e.sc.Policy, Seed: e.sc.Seed, Jobs: len(e.measured)}
	var took []float64
	waited := 0.0
	for _, j := range e.measured {
		if j.served {
			took = append(took, j.took)
			waited += j.waited
		} else if j.left {
			r.Left++
		}
	}
	r.Errors = r.Jobs - len(took) - r.Left
	if len(took) > 0 {
		q := quantiles(took)
		r.Mean, r.P50, r.P95, r.P99, r.Max = mean(took), q(0.5), q(0.95), q(0.99), q(1)
		r.Wait = waited / float64(len(took))
	}
	r.Elapsed = e.end.Sub(e.start).Seconds()
	if r.Elapsed > 0 {
		r.Throughput = float64(len(e.done)) / r.Elapsed
	}
	for _, c := range e.cards {
		b := BackendResult{Name: c.Name, Class: c.Class, Sent: c.counted.sent, Served: c.counted.served}
		if r.Elapsed > 0 {
			b.Busy = c.counted.busy / (float64(c.Slots) * r.Elapsed)
		}
		r.Backends = append(r.Backends, b)
	}
	e.judge(&r)
	e.front.describe(&r)
	r.Violations = e.front.finish()
	return r
}

// judge compares with the bound.
func (e *engine) judge(r *Result) {
	p := e.price(e.priced())
	r.Bound = e.bound(p)
	if r.Bound.Mean > 0 {
		r.Ratio = r.Mean / r.Bound.Mean
	}
	if r.Elapsed > 0 {
		work := 0.0
		for _, j := range e.done {
			work += p.work(j)
		}
		for _, part := range e.before {
			work -= part.share * p.work(part.job)
		}
		for _, part := range e.beyond {
			work += part.share * p.work(part.job)
		}
		r.Eta = work / (p.speed(e.atOnce()) * r.Elapsed)
	}
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

// quantiles returns the function that gives the quantiles of xs, by the nearest rank. Requires: some.
func quantiles(xs []float64) func(q float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	return func(q float64) float64 {
		rank := int(math.Ceil(q * float64(len(sorted))))
		return sorted[min(max(rank, 1), len(sorted))-1]
	}
}
