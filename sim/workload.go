package sim

import (
	"math"
	"math/rand/v2"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// audioMin is the shortest recording, in seconds: below it whisper.cpp does nothing.
const audioMin = 0.1

// job is one transcription. What is drawn for it hangs on the seed and its number alone, so that
// every policy meets the same jobs.
type job struct {
	number  int
	audio   float64 // seconds, the truth
	told    float64 // what the header says, 0 when nothing
	normal  float64 // its chance: of the lognormal part
	uniform float64 // and of being an outlier
	seed    uint64  // and of what the law of a class draws

	arrived scheduler.Instant
	settled bool
	served  bool
	took    float64 // seconds from arrival to answer
	waited  float64 // seconds of these before the card began
	left    bool    // its client went before it was served, as in the recording

	recorded *recording.Job // nil where jobs are drawn
}

// workload draws the jobs of a scenario.
type workload struct {
	sc    *Scenario
	jobs  []*job
	laws  []gpu.Law // by card; used where the card has no law of its own
	kinds []int     // by card: the first card that is alike
	// recorded are the laws by card and class of jobs, of a recording; infinite where the card does not do them.
	recorded [][]recording.MeasuredLaw
}

func newWorkload(sc *Scenario) *workload {
	w := &workload{sc: sc, laws: make([]gpu.Law, len(sc.Cards)), kinds: make([]int, len(sc.Cards))}
	for i, c := range sc.Cards {
		if c.Recorded != nil {
			w.recorded = append(w.recorded, lawsOf(c.Recorded, sc.Recorded.Classes))
		} else if c.Law == nil {
			w.laws[i], _ = gpu.LawOf(c.Class, sc.Model) // Validate has seen that there is one
		}
		w.kinds[i] = i
		for k := range i {
			if w.kinds[k] == k && alike(c, sc.Cards[k]) {
				w.kinds[i] = k
				break
			}
		}
	}
	return w
}

// alike says whether two cards are the same but for their names.
func alike(a, b Card) bool {
	if a.Recorded != b.Recorded || (a.Law == nil) != (b.Law == nil) || a.Slots != b.Slots || a.Gain != b.Gain {
		return false
	}
	if a.Recorded != nil || a.Law == nil {
		return a.Class == b.Class
	}
	return *a.Law == *b.Law
}

// job is the job of a number, drawn when it is first asked for.
func (w *workload) job(number int) *job {
	for len(w.jobs) <= number {
		w.jobs = append(w.jobs, w.draw(len(w.jobs)))
	}
	return w.jobs[number]
}

// Streams of chance, each of which hangs on the seed alone.
const (
	streamJobs = iota + 1
	streamArrivals
	streamThinking
	streamBalancer
	streamSenders
	streamLeaving
	streamFailures
)

// stream is chance that hangs on the seed, the stream and a number.
func stream(seed, which, number uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mixed(seed^mixed(which)), mixed(number)))
}

// mixed spreads a small number over all bits (the finaliser of splitmix64), so that the generators of
// neighbouring numbers have nothing in common.
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (w *workload) draw(number int) *job {
	if r := w.sc.Recorded; r != nil {
		if number >= len(r.Jobs) {
			panic("sim: a recording has no more jobs")
		}
		j := &r.Jobs[number]
		return &job{number: number, audio: j.Audio, told: j.Told, recorded: j}
	}
	chance := stream(w.sc.Seed, streamJobs, uint64(number))
	j := &job{number: number}
	j.audio = max(audioMin, w.sc.Audio.length(number, chance))
	j.normal, j.uniform, j.seed = chance.NormFloat64(), chance.Float64(), chance.Uint64()
	j.told = j.audio
	switch {
	case w.sc.SizeUnknown:
		j.told = 0
	case w.sc.SizeError > 0:
		j.told = max(audioMin, j.audio*math.Exp(w.sc.SizeError*chance.NormFloat64()))
	}
	return j
}

// id is how the scheduler knows a job; 0 is none.
func (j *job) id() scheduler.JobID { return scheduler.JobID(j.number) + 1 }

// jobOf is the job that the scheduler knows so.
func (w *workload) jobOf(id scheduler.JobID) *job { return w.job(int(id) - 1) }

// The proxy's own piece of speech, which shows whether a card is well.
const (
	trialNumber = -1
	trialAudio  = 2 // seconds
)

// trial is a job that no client sent, for a card.
func (w *workload) trial(card int) *job {
	j := &job{number: trialNumber, audio: trialAudio, told: trialAudio, uniform: 1}
	if w.sc.Recorded != nil {
		for class, law := range w.recorded[card] {
			if !math.IsInf(law.Fixed, 1) {
				j.recorded = &recording.Job{Class: int32(class), Audio: trialAudio, Told: trialAudio, Luck: 1, Words: true}
				break
			}
		}
	}
	return j
}

func (j *job) trial() bool { return j.number == trialNumber }

// length draws the seconds of audio of the job of a number.
func (a Audio) length(number int, chance *rand.Rand) float64 {
	switch {
	case a.Lognormal != nil:
		return capped(a.Lognormal.Median*math.Exp(a.Lognormal.Sigma*chance.NormFloat64()), a.Lognormal.Cap)
	case a.Pareto != nil:
		return capped(a.Pareto.Min*math.Pow(1-chance.Float64(), -1/a.Pareto.Alpha), a.Pareto.Cap)
	case len(a.List) > 0:
		return a.List[number%len(a.List)]
	default:
		return a.Fixed
	}
}

func capped(x, most float64) float64 {
	if most > 0 {
		return min(x, most)
	}
	return x
}

// alone is how long a job takes alone on a healthy card, in seconds.
func (w *workload) alone(card int, j *job) float64 {
	if r := j.recorded; r != nil {
		return w.recorded[card][r.Class].Of(r.Audio) * r.Luck
	}
	law := w.sc.Cards[card].Law
	if law == nil {
		return w.laws[card].Draw(gpu.Job{Seconds: j.audio, Speech: 1}, rand.New(rand.NewPCG(j.seed, 0))).Seconds()
	}
	seconds := (law.Fixed + law.PerSecond*j.audio) * math.Exp(law.Sigma*j.normal-law.Sigma*law.Sigma/2)
	if j.uniform < law.OutlierShare {
		seconds *= law.OutlierFactor
	}
	return seconds
}

// gain is what k jobs side by side on a card get done together, as a multiple of one alone.
func (w *workload) gain(card, k int) float64 {
	c := w.sc.Cards[card]
	switch {
	case k <= 1:
		return float64(max(k, 0))
	case c.Gain > 0:
		return gpu.Law{GainMax: c.Gain}.Gain(k)
	case c.Law == nil && c.Recorded == nil:
		return w.laws[card].Gain(k)
	default:
		return float64(k)
	}
}

// rateOfNone is that of a card that does none of the jobs: not zero, since balancers divide by it.
const rateOfNone = 1e-9

// rate is how many of the jobs a second a card does with all its slots at work.
func (w *workload) rate(card int, jobs []*job) float64 {
	sum, n := 0.0, 0
	for _, j := range jobs {
		if s := w.alone(card, j); !math.IsInf(s, 1) { // else it does not do such jobs
			sum, n = sum+s, n+1
		}
	}
	if n == 0 {
		return rateOfNone
	}
	return w.gain(card, w.sc.Cards[card].Slots) * float64(n) / sum
}

// capacity is how many of the jobs a second the pool does with all slots at work on average jobs.
func (w *workload) capacity(jobs []*job) float64 {
	total := 0.0
	for card := range w.sc.Cards {
		total += w.rate(card, jobs)
	}
	return total
}

// sample is the jobs that a scenario measures, or as many as tell what its jobs are like where that
// is not known before.
func (w *workload) sample() []*job {
	first, n := w.sc.WarmUp, w.sc.measured()
	if n == 0 {
		n = 10_000
	}
	w.job(first + n - 1)
	return w.jobs[first : first+n]
}

// measured is how many jobs are measured, 0 when time decides.
func (sc *Scenario) measured() int {
	if sc.Load.Burst > 0 {
		return sc.Load.Burst
	}
	return sc.Jobs
}
