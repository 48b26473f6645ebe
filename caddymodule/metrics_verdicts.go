package caddymodule

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/whisperpool/whisperpool/scheduler"
)

// seriesKept is for how long the counters of a backend stay after it has gone from the configuration. Where backends
// are found by DNS their names come and go without end.
const seriesKept = time.Hour

// verdicts counts what the scheduler comes to believe of backends, and has the counters of a pool and of its
// backends begin at zero, or the first of a kind would not show as a rise. It is called under the dispatcher's lock.
type verdicts struct {
	pool    string
	classes map[scheduler.BackendID]string
	gone    map[scheduler.BackendID]scheduler.Instant // since when those are that were configured
}

// Observed is told of every step.
func (v *verdicts) Observed(now scheduler.Instant, ev scheduler.Event, ds []scheduler.Decision) {
	if c, ok := ev.(scheduler.Configured); ok {
		v.configured(now, c.Config.Backends)
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

func (v *verdicts) configured(now scheduler.Instant, backends []scheduler.Backend) {
	if v.classes == nil {
		for _, r := range scheduler.SettleReasons {
			requestsTotal.WithLabelValues(v.pool, r.String())
		}
		for _, code := range []string{"queue_full", "tenant_full", "wait_too_long", "deadline_passed", "no_backend", "upstream_failed", "poison"} {
			refusalsTotal.WithLabelValues(v.pool, code)
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
		transitionsTotal.WithLabelValues(v.pool, string(b.ID), b.Class, scheduler.Closed.String(), "")
	}
	v.clear(now, classes)
	v.classes = classes
}

// clear removes the series of backends that have gone for good.
func (v *verdicts) clear(now scheduler.Instant, classes map[scheduler.BackendID]string) {
	if v.gone == nil {
		v.gone = map[scheduler.BackendID]scheduler.Instant{}
	}
	for id := range v.classes {
		if _, stays := classes[id]; !stays {
			v.gone[id] = now
		}
	}
	for id, since := range v.gone {
		if _, back := classes[id]; back {
			delete(v.gone, id)
		} else if now.Sub(since) > seriesKept {
			delete(v.gone, id)
			go forgetSeries(v.pool, string(id)) // it looks at all series, and the dispatcher waits
		}
	}
}

func forgetSeries(pool, upstream string) {
	labels := prometheus.Labels{"pool": pool, "upstream": upstream}
	for _, c := range collectors() {
		if vec, ok := c.(interface{ DeletePartialMatch(prometheus.Labels) int }); ok {
			vec.DeletePartialMatch(labels)
		}
	}
}
