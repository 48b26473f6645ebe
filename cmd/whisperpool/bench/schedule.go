package bench

import (
	"math/rand/v2"
	"time"
)

// Audio is what jobs upload.
type Audio interface {
	// Pick chooses for the next job.
	Pick(rng *rand.Rand) (seconds float64, clip int)
	// Clip is what a job that Pick chose for uploads.
	Clip(job Job) Clip
	// String describes it for a person.
	String() string
}

// Schedule is the sequence of a load's jobs. The same load, audio and seed make the same sequence,
// whatever the endpoint does; that is what makes runs comparable.
type Schedule struct {
	load    Load
	audio   Audio
	lengths *rand.Rand
	gaps    *rand.Rand // apart, so that the same lengths come at any rate
	made    int        // in all
	counted int        // without further ones
	at      time.Duration
}

// NewSchedule begins a sequence. The load must be one that [Load.Check] finds nothing wrong with.
func NewSchedule(load Load, audio Audio, seed uint64) *Schedule {
	return &Schedule{
		load: load, audio: audio,
		lengths: rand.New(rand.NewPCG(seed, 1)), gaps: rand.New(rand.NewPCG(seed, 2)),
	}
}

// Next is the next job; ok is false after the last. How long a closed loop goes on that is bounded
// by time is for its driver to know.
func (s *Schedule) Next() (job Job, ok bool) {
	if total := s.load.Total(); total > 0 && s.counted == total {
		return Job{}, false
	}
	at := whenever
	switch {
	case s.load.Burst > 0:
		at = 0
	case s.load.Rate > 0:
		s.at += time.Duration(s.gaps.ExpFloat64() / s.load.Rate * float64(time.Second))
		if s.load.Duration > 0 && s.at >= s.load.Duration {
			return Job{}, false
		}
		at = s.at
	}
	s.counted++
	return s.make(at), true
}

func (s *Schedule) make(at time.Duration) Job {
	seconds, clip := s.audio.Pick(s.lengths)
	s.made++
	return Job{Index: s.made - 1, At: at, Seconds: seconds, Clip: clip}
}

// further is a job that is not one of the load's requests.
func (s *Schedule) further() Job { return s.make(whenever) }

// Jobs are all that are left, of a load whose end does not depend on the answers.
func (s *Schedule) Jobs() []Job {
	var jobs []Job
	for job, ok := s.Next(); ok; job, ok = s.Next() {
		jobs = append(jobs, job)
	}
	return jobs
}
