package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// Pool describes the cards behind an endpoint, so that what is measured can be put beside what is
// possible.
type Pool struct {
	Cards []Card `json:"cards"`
}

// Card is one card, or Count equal ones. How long it takes for a clip is either told, as Fixed +
// PerSecond for each second of audio, or follows from the law of its Class and Model (package gpu).
type Card struct {
	Name      string  `json:"name,omitempty"`
	Count     int     `json:"count,omitempty"` // 0: 1
	Slots     int     `json:"slots,omitempty"` // jobs side by side; 0: 1
	Fixed     float64 `json:"fixed_s,omitempty"`
	PerSecond float64 `json:"per_second_s,omitempty"`
	Class     string  `json:"class,omitempty"`
	Model     string  `json:"model,omitempty"`
	Speedup   float64 `json:"speed_up,omitempty"` // divides the law's times, as an emulator's --speed-up; 0: 1
}

// ReadPool reads a description from a JSON file. The error says what is wrong with it.
func ReadPool(path string) (Pool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Pool{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var p Pool
	if err := decoder.Decode(&p); err != nil {
		return Pool{}, fmt.Errorf("%s: %w", path, err)
	}
	for i := range p.Cards {
		if err := p.Cards[i].fill(); err != nil {
			return Pool{}, fmt.Errorf("%s: card %d: %w", path, i+1, err)
		}
	}
	if len(p.Cards) == 0 {
		return Pool{}, fmt.Errorf(`%s: there is no card; write {"cards": [{"class": "T4", "model": "base", "slots": 1}, ...]}, or fixed_s and per_second_s instead of class and model`, path)
	}
	return p, nil
}

func (c *Card) fill() error {
	if c.Count == 0 {
		c.Count = 1
	}
	if c.Slots == 0 {
		c.Slots = 1
	}
	if c.Speedup == 0 {
		c.Speedup = 1
	}
	timed := c.Fixed > 0 || c.PerSecond > 0
	_, known := gpu.LawOf(c.Class, c.Model)
	switch {
	case c.Count < 0 || c.Slots < 0 || c.Fixed < 0 || c.PerSecond < 0 || !(c.Speedup > 0):
		return errors.New("numbers must not be negative")
	case c.Count*c.Slots > 100_000:
		return fmt.Errorf("%d times %d slots are too many", c.Count, c.Slots)
	case timed && c.Model != "":
		return errors.New("say how long it takes, or its class and model; not both")
	case !timed && !known:
		return fmt.Errorf("nothing is known of the speed of model %q on class %q; set fixed_s and per_second_s", c.Model, c.Class)
	}
	return nil
}

// seconds is how long a clip takes in one of the card's slots while the others are busy too. With
// told times that is what was told; by the law, slots share the card.
func (c Card) seconds(audio float64) float64 {
	if c.Model == "" {
		return c.Fixed + c.PerSecond*audio
	}
	law, _ := gpu.LawOf(c.Class, c.Model) // fill has seen that there is one
	return law.Mean(gpu.Job{Seconds: audio, Speech: 1}).Seconds() / law.Pace(c.Slots) / c.Speedup
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
	for _, c := range p.Cards {
		kind := Kind{Slots: c.Count * c.Slots}
		for _, s := range jobs {
			kind.Seconds = append(kind.Seconds, c.seconds(s.Seconds))
		}
		kinds = append(kinds, kind)
	}
	return Bounds(load, kinds, arrived)
}
