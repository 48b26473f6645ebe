package journal

import (
	"fmt"

	"github.com/whisperpool/whisperpool/scheduler"
)

// nameOfEvent is the name of an event in the journal, "" for one that is not known.
func nameOfEvent(ev scheduler.Event) string {
	switch ev.(type) {
	case scheduler.Arrived:
		return "arrived"
	case scheduler.Canceled:
		return "canceled"
	case scheduler.Committed:
		return "committed"
	case scheduler.Finished:
		return "finished"
	case scheduler.Probed:
		return "probed"
	case scheduler.Reported:
		return "reported"
	case scheduler.Configured:
		return "configured"
	case scheduler.Restored:
		return "restored"
	case scheduler.Ticked:
		return "ticked"
	}
	return ""
}

func nameOfDecision(d scheduler.Decision) string {
	switch d.(type) {
	case scheduler.Dispatch:
		return "dispatch"
	case scheduler.Abort:
		return "abort"
	case scheduler.Settle:
		return "settle"
	case scheduler.Probe:
		return "probe"
	case scheduler.Judged:
		return "judged"
	}
	return ""
}

func parseEvent(t tagged) (scheduler.Event, error) {
	switch t.Is {
	case "arrived":
		return read[scheduler.Arrived](t)
	case "canceled":
		return read[scheduler.Canceled](t)
	case "committed":
		return read[scheduler.Committed](t)
	case "finished":
		return readFinished(t)
	case "probed":
		return read[scheduler.Probed](t)
	case "reported":
		return read[scheduler.Reported](t)
	case "configured":
		c, err := read[scheduler.Configured](t)
		if err == nil {
			err = c.Config.Validate()
		}
		return c, err
	case "restored":
		return read[scheduler.Restored](t)
	case "ticked":
		return read[scheduler.Ticked](t)
	}
	return nil, fmt.Errorf("journal: there is no event %q", t.Is)
}

func parseDecision(t tagged) (scheduler.Decision, error) {
	switch t.Is {
	case "dispatch":
		return read[scheduler.Dispatch](t)
	case "abort":
		return read[scheduler.Abort](t)
	case "settle":
		return read[scheduler.Settle](t)
	case "probe":
		return read[scheduler.Probe](t)
	case "judged":
		return read[scheduler.Judged](t)
	}
	return nil, fmt.Errorf("journal: there is no decision %q", t.Is)
}

func read[T any](t tagged) (value T, err error) {
	if len(t.Data) > 0 {
		err = strictly(t.Data, &value)
	}
	return value, err
}

// readFinished checks the result, which the scheduler takes for granted.
func readFinished(t tagged) (scheduler.Event, error) {
	f, err := read[scheduler.Finished](t)
	if r := f.Outcome.Result; err == nil && (r < scheduler.Success || r > scheduler.Aborted) {
		err = fmt.Errorf("journal: there is no result %d", r)
	}
	return f, err
}
