package recording

import (
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// Workload is the jobs of a recording and the cards that did them, to be simulated.
type Workload struct {
	Jobs    []Job // in order of arrival
	Classes []Class
	Cards   []Card
	// Config has the limits that were in force at the end, without backends.
	Config scheduler.Config
	Speeds []scheduler.SpeedRecord // known when the first job came
	// What of the recorded jobs is not in the workload: those that a backend refused for what the client wrote, and
	// those that no card could do.
	Wrong, Impossible int
	// Unmeasured are cards and models of which nothing is known, so that the one does not do the other.
	Unmeasured []string

	laws laws
}

// Class is what sets jobs apart: those of one can run on the same cards.
type Class struct {
	Model string
	Needs scheduler.Capability
}

// Job is one recorded job.
type Job struct {
	At       time.Duration // since the first
	Deadline time.Duration // after its arrival; 0: none
	Leaves   time.Duration // after its arrival its client left; 0: it did not
	Audio    float64       // seconds: of the answer, where that said, else Told, else what is guessed of its bytes
	Told     float64       // to the scheduler, 0 when not known
	// Luck is its measured time over the law of the card that did it; 1 where it was not served.
	Luck     float64
	Bytes    int64
	Tenant   scheduler.Tenant
	Class    int32
	own      int32 // card that served it, -1: none
	beside   float32
	Priority scheduler.Priority
	Guessed  bool // Told is
	Words    bool // the answer had some, or there was none
	state    jobState
}

// jobState is what became of a job in the recording.
type jobState uint8

const (
	unsettled jobState = iota
	served
	gone
	wrong
	lost // refused or failed
)

// Card is a backend as it was.
type Card struct {
	Backend scheduler.Backend // as configured last, with its slots
	Load    scheduler.Load    // as reported last
	Laws    map[string]MeasuredLaw
	Gain    float64 // see sim.Card
	// Away are the times at which it went and came back, in turn, since the first job; the first is 0 when it was
	// not there then.
	Away []time.Duration
}

// Can says whether a card does jobs of a class.
func (c *Card) Can(class Class) bool {
	models := c.Backend.Models
	if models == nil {
		models = c.Load.Models
	}
	if models != nil && !slices.Contains(models, class.Model) {
		return false
	}
	can, told := c.Load.Can[class.Model]
	if !told {
		can, told = c.Load.Can[""]
	}
	if told && can&class.Needs != class.Needs {
		return false
	}
	_, known := c.Laws[class.Model]
	return known
}

// Like is a card of a class of GPU that the recording has none of; false when nothing is known of it.
func (w *Workload) Like(class string) (*Card, bool) {
	c := &Card{Backend: scheduler.Backend{Class: class, Slots: 1}, Laws: map[string]MeasuredLaw{}}
	for _, k := range w.Classes {
		law, ok := w.laws.of(class, k.Model, priorOf(class, k.Model))
		if !ok {
			return nil, false
		}
		c.Laws[k.Model] = law
		if c.Backend.Priors == nil {
			c.Backend.Priors = map[string]scheduler.Law{}
		}
		c.Backend.Priors[k.Model] = priorOf(class, k.Model)
	}
	return c, len(w.Classes) > 0
}

// Served says whether a job was served in the recording.
func (j *Job) Served() bool { return j.state == served }

// Left says whether its client left before that.
func (j *Job) Left() bool { return j.state == gone }

// finish makes the workload of what was collected.
func (w *Workload) finish() {
	n := 0
	for _, j := range w.Jobs {
		class := w.Classes[j.Class]
		switch {
		case j.state == wrong:
			w.Wrong++
			continue
		case !slices.ContainsFunc(w.Cards, func(c Card) bool { return c.Can(class) }):
			w.Impossible++
			continue
		}
		if j.own >= 0 {
			c := &w.Cards[j.own]
			if law, ok := c.Laws[class.Model]; ok && law.Of(j.Audio) > 0 && j.Luck > 0 {
				j.Luck *= pace(float64(j.beside), c.Gain) / law.Of(j.Audio)
			} else {
				j.Luck = 1
			}
		}
		w.Jobs[n] = j
		n++
	}
	w.Jobs = w.Jobs[:n]
	if n > 0 {
		first := w.Jobs[0].At
		for i := range w.Jobs {
			w.Jobs[i].At -= first
		}
		for i := range w.Cards {
			w.Cards[i].since(first)
		}
	}
}

// since counts the times at which a card was away from an instant on.
func (c *Card) since(first time.Duration) {
	passed := 0
	for _, at := range c.Away {
		if at <= first {
			passed++
		}
	}
	away := passed%2 == 1
	c.Away = slices.Clone(c.Away[passed:])
	for i := range c.Away {
		c.Away[i] -= first
	}
	if away {
		c.Away = slices.Insert(c.Away, 0, 0)
	}
}
