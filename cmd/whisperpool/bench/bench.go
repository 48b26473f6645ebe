// Package bench loads a transcription endpoint and tells what came of it. A [Load] says when requests
// start (all at once, so many clients in a loop, or at random moments whatever comes back), an
// [Audio] what each uploads, [Run] does it, and a [Report] sums it up. [Client] is the real thing
// that sends; the rest knows nothing of HTTP.
//
// It is the measuring part of `whisperpool bench` and of the comparison with other balancers.
//
// Latencies are measured from when a request was meant to start, not from when the generator got
// round to it, so that a stalled generator or server is seen in every request that it delayed
// (what is known as coordinated omission). How late the generator itself was is reported beside.
package bench

import (
	"fmt"
	"time"
)

// Job is one request that is to be made.
type Job struct {
	Index   int           // from 0, in the order of their starts
	At      time.Duration // meant start, since the load's; 0 but in an open loop
	Seconds float64       // of audio
	Clip    int           // which recording; of generated speech, where in it to begin
}

// Class is how a request ended.
type Class int

// The classes. A refusal is an endpoint that protects itself, as it should; a failure is none of
// its plans.
const (
	OK        Class = iota
	Refused         // 429 or 503
	Failed          // any other status, a broken connection, an answer without a transcript
	Abandoned       // stopped by the generator, because it was told to end
)

var classNames = [...]string{"ok", "refused", "failed", "abandoned"}

func (c Class) String() string { return classNames[c] }

// Outcome is what came back for a job.
type Outcome struct {
	Class   Class
	What    string        // of a refusal or failure, in few words that are the same for all of its kind: "status 503"
	Detail  string        // the endpoint's or the system's own words, for the first of each What
	Backend string        // who served it, where the answer says; else ""
	Service time.Duration // how long the backend took by the answer's Server-Timing; 0 when it does not say
}

// Sample is a job with what came of it. Times are since the start of the load.
type Sample struct {
	Job
	Outcome
	Sent time.Duration // when the generator began with it
	Done time.Duration // last byte of the answer, or the failure
}

// Latency is the time from the meant start to the answer's last byte.
func (s Sample) Latency() time.Duration { return s.Done - s.meant() }

// Lag is how late the generator was.
func (s Sample) Lag() time.Duration { return s.Sent - s.meant() }

// meant is the start that was due: in a closed loop whenever the client came to it.
func (s Sample) meant() time.Duration {
	if s.At < 0 {
		return s.Sent
	}
	return s.At
}

// whenever is the At of jobs of a closed loop.
const whenever time.Duration = -1

// Load says when requests start. Exactly one of Burst, Clients and Rate is set.
type Load struct {
	Burst   int     // that many requests at once
	Clients int     // that many clients, each of which asks again when it has its answer
	Rate    float64 // requests a second, at random moments (a Poisson process)

	Requests int           // of Clients and Rate: that many in all, or
	Duration time.Duration // new ones for so long

	// Sustain measures a closed loop as it goes on: further requests that are not counted come before
	// the counted ones, and keep all clients busy until the last of these has its answer. Without it
	// the first and the last requests find fewer others, and the mean is lower.
	Sustain bool
}

// most bounds what is kept in memory: a sample is some 150 bytes.
const most = 5_000_000

// Check says what is wrong with the load, nil when nothing is.
func (l Load) Check() error {
	kinds := 0
	for _, set := range []bool{l.Burst != 0, l.Clients != 0, l.Rate != 0} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return fmt.Errorf("choose one of a burst, a number of clients, or a rate")
	case l.Burst < 0 || l.Clients < 0 || !(l.Rate >= 0 && l.Rate <= 1e6) || l.Requests < 0 || l.Duration < 0:
		return fmt.Errorf("numbers of requests, clients, rates and durations must be positive")
	case l.Burst > 0 && (l.Requests > 0 || l.Duration > 0):
		return fmt.Errorf("a burst has neither another number of requests nor a duration")
	case l.Sustain && (l.Clients == 0 || l.Requests == 0):
		return fmt.Errorf("only a number of requests in a closed loop can be sustained")
	case l.Burst == 0 && (l.Requests > 0) == (l.Duration > 0):
		return fmt.Errorf("say how many requests in all, or for how long; one of them")
	case max(l.Burst, l.Requests) > most || l.Rate*l.Duration.Seconds() > most:
		return fmt.Errorf("at most %d requests can be kept count of", most)
	}
	return nil
}

// openMost is how many connections are prepared for in an open loop, which has no bound of its own.
const openMost = 1000

// Most is how many requests are under way at once at most; of an open loop, as far as one can guess.
func (l Load) Most() int {
	switch {
	case l.Burst > 0:
		return l.Burst
	case l.Clients > 0:
		return l.Clients
	case l.Requests > 0:
		return min(openMost, l.Requests)
	}
	return openMost
}

// Total is how many requests the load makes, 0 when that depends on the answers or on chance.
func (l Load) Total() int { return l.Burst + l.Requests }

func (l Load) String() string {
	var text string
	switch {
	case l.Burst > 0:
		return fmt.Sprintf("burst of %d", l.Burst)
	case l.Clients == 1:
		text = "closed loop of 1 client"
	case l.Clients > 0:
		text = fmt.Sprintf("closed loop of %d clients", l.Clients)
	default:
		text = fmt.Sprintf("open loop of %.4g/s", l.Rate)
	}
	if l.Requests > 0 {
		return text + fmt.Sprintf(", %d requests", l.Requests)
	}
	return text + fmt.Sprintf(", %v", l.Duration)
}
