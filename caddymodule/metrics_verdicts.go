package caddymodule

import "github.com/whisperpool/whisperpool/scheduler"

// verdicts counts what the scheduler comes to believe of backends, and has the counters of a pool and of its
// backends begin at zero, or the first of a kind would not show as a rise. It is called under the dispatcher's lock.
type verdicts struct {
	pool    string
	classes map[scheduler.BackendID]string
}

// Observed is told of every step.
func (v *verdicts) Observed(_ scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) {
	if c, ok := ev.(scheduler.Configured); ok {
		v.configured(c.Config.Backends)
	}
	for _, d := range ds {
		if j, ok := d.(scheduler.Judged); ok {
			if class, ok := v.classes[j.Backend]; ok { // else it is no longer configured
				cause := ""
				if j.Cause != 0 {
					cause = j.Cause.String()
				}
				transitionsTotal.WithLabelValues(v.pool, string(j.Backend), class, j.Verdict.String(), cause).Inc()
			}
		}
	}
}

func (v *verdicts) configured(backends []scheduler.Backend) {
	if v.classes == nil {
		for _, r := range scheduler.SettleReasons {
			requestsTotal.WithLabelValues(v.pool, r.String())
		}
		for _, r := range []scheduler.Result{scheduler.Failed, scheduler.Died, scheduler.Busy, scheduler.Loading} {
			retriesTotal.WithLabelValues(v.pool, r.String())
		}
		for _, result := range []string{hedgeWon, hedgeLost, hedgeFailed} {
			hedgesTotal.WithLabelValues(v.pool, result)
		}
	}
	classes := make(map[scheduler.BackendID]string, len(backends))
	for _, b := range backends {
		classes[b.ID] = b.Class
		if class, known := v.classes[b.ID]; known && class == b.Class {
			continue
		}
		for _, r := range scheduler.Results {
			attemptsTotal.WithLabelValues(v.pool, string(b.ID), b.Class, r.String())
		}
		for _, c := range scheduler.Causes {
			transitionsTotal.WithLabelValues(v.pool, string(b.ID), b.Class, scheduler.Opened.String(), c.String())
		}
	}
	v.classes = classes
}
