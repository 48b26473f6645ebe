package recording

import (
	"math"
	"slices"
)

// Figures are what is told of a number of times, in seconds. Quantiles are by the nearest rank.
type Figures struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean_s"`
	P50  float64 `json:"p50_s"`
	P95  float64 `json:"p95_s"`
	P99  float64 `json:"p99_s"`
	Max  float64 `json:"max_s"`
}

// figuresOf sorts the times.
func figuresOf(times []float64) Figures {
	n := len(times)
	if n == 0 {
		return Figures{}
	}
	slices.Sort(times)
	at := func(q float64) float64 { return times[min(max(int(math.Ceil(q*float64(n))), 1), n)-1] }
	sum := 0.0
	for _, t := range times {
		sum += t
	}
	return Figures{N: n, Mean: sum / float64(n), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: times[n-1]}
}

// Summary is what happened in a recording.
type Summary struct {
	Files   []string `json:"files"`
	Records int      `json:"records"`
	Span    float64  `json:"span_s"` // from the first record to the last
	// Begins says whether the recording begins with a start, so that everything is known: else jobs that came
	// before are not counted.
	Begins bool   `json:"begins"`
	Cut    *Place `json:"cut,omitempty"` // what could not be read at the end

	Jobs     int            `json:"jobs"`
	Settled  map[string]int `json:"settled"`           // by how they ended, see scheduler.SettleReason
	Open     int            `json:"unsettled"`         // at the end
	Earlier  int            `json:"earlier,omitempty"` // settled, and come before the recording began
	Unknown  int            `json:"size_unknown"`      // jobs whose length was not known, or guessed from bytes
	Attempts int            `json:"attempts"`          // of jobs
	Retried  int            `json:"retried"`           // jobs that had more than one
	Audio    float64        `json:"audio_s"`           // of the jobs served
	Tenants  int            `json:"tenants,omitempty"` // with jobs
	Waiting  Figures        `json:"waiting"`           // of served jobs, in the queue, over all attempts
	Service  Figures        `json:"service"`           // from the last dispatch to the last byte
	Response Figures        `json:"response"`          // from arrival to the last byte
	Configs  int            `json:"configurations"`    // that were in force, one after the other
	Policies []string       `json:"policies"`          // of these
	Models   []ModelSummary `json:"models"`            // most jobs first
	Backends []Backend      `json:"backends"`          // as configured
	Decided  Decided        `json:"decided"`           //
}

// ModelSummary is the jobs for one model.
type ModelSummary struct {
	Model    string  `json:"model"`
	Jobs     int     `json:"jobs"`
	Served   int     `json:"served"`
	Audio    float64 `json:"audio_s"` // of the jobs served
	Response float64 `json:"response_mean_s"`
}

// Backend is one backend's part.
type Backend struct {
	Name     string         `json:"name"`
	Class    string         `json:"class,omitempty"`
	Slots    int            `json:"slots"`
	Attempts int            `json:"attempts"`
	Ended    map[string]int `json:"ended"` // by how, see scheduler.Result
	Share    float64        `json:"share"` // of the jobs served
	Busy     float64        `json:"busy"`  // share of its slots' time, over the span
	// Speed is the seconds of audio that a second of its service got done; 0: none.
	Speed  float64       `json:"speed"`
	Speeds []LearnedBy   `json:"learned,omitempty"`
	Laws   []MeasuredLaw `json:"laws,omitempty"`
}

// LearnedBy is what the scheduler had learned of a backend with a model at the end.
type LearnedBy struct {
	Model string  `json:"model"`
	Speed float64 `json:"speed"` // seconds of audio a second, for a clip of ten seconds
	Jobs  int     `json:"jobs"`
}

// Decided compares what the scheduler of this program decides with what was decided.
type Decided struct {
	// Compared is how many records were; 0 where the recording does not begin with a start.
	Compared   int         `json:"compared"`
	Difference *Difference `json:"difference,omitempty"` // the first; nil: none
}

// Difference is an event at which another decision is made now.
type Difference struct {
	Place
	At    float64 `json:"at_s"` // since the start
	Event string  `json:"event"`
	Then  string  `json:"then"`
	Now   string  `json:"now"`
}
