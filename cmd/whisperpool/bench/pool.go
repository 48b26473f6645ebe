package bench

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/sim"
)

// Pool is the cards behind an endpoint, so that what is measured can be put beside what is possible.
type Pool struct {
	cards   []sim.Card
	model   string
	speedUp float64
}

// ReadPool takes the pool out of a file as `whisperpool simulate` reads it; the load and the audio in
// it are not looked at. All times are divided by speedUp, as those of emulated cards are. The error
// says what is wrong with the file.
func ReadPool(path string, speedUp float64) (Pool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Pool{}, err
	}
	study, err := sim.Parse(text)
	if err != nil {
		return Pool{}, fmt.Errorf("%s: %w", path, err)
	}
	return Pool{cards: study.Cards, model: study.Model, speedUp: speedUp}, nil
}

// seconds is how long a clip takes in one of a card's slots on average, while the others are busy
// too: where slots share a card, each is slower.
func (p Pool) seconds(c sim.Card, audio float64) float64 {
	var alone float64
	pace := 1.0
	if l := c.Law; l != nil {
		alone = (l.Fixed + l.PerSecond*audio) * (1 + l.OutlierShare*(l.OutlierFactor-1))
	} else {
		law, _ := gpu.LawOf(c.Class, p.model) // Parse has seen that there is one
		alone, pace = law.Mean(gpu.Job{Seconds: audio, Speech: 1}).Seconds(), law.Pace(c.Slots)
	}
	if c.Gain > 0 {
		pace = gpu.Law{GainMax: c.Gain}.Pace(c.Slots)
	}
	return alone / pace / p.speedUp
}

// Bound is the best that could have been done with what a load's jobs turned out to be; nil when none
// ended.
func (p Pool) Bound(load Load, samples []Sample) *Bound {
	jobs := slices.Clone(samples)
	jobs = slices.DeleteFunc(jobs, func(s Sample) bool { return s.Class == Abandoned })
	if len(jobs) == 0 {
		return nil
	}
	slices.SortFunc(jobs, func(a, b Sample) int { return a.Index - b.Index })
	var arrived []time.Duration
	for _, s := range jobs {
		arrived = append(arrived, s.meant())
	}
	var kinds []Kind
	for _, c := range p.cards {
		kind := Kind{Slots: c.Slots}
		for _, s := range jobs {
			kind.Seconds = append(kind.Seconds, p.seconds(c, s.Seconds))
		}
		kinds = append(kinds, kind)
	}
	return Bounds(load, kinds, arrived)
}
