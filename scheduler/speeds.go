package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/scheduler/estimator"
)

// SpeedRecord is what has been learned of one backend with one model, as plain data to be kept over a
// restart. It holds for the server that it was learned of: the same address, class and instance.
type SpeedRecord struct {
	Address  string
	Class    string
	Model    string
	Instance string          // "" when the backend never told
	Age      time.Duration   // since the last job that it was learned from
	Learned  estimator.State //
}

// rememberedMax bounds what is kept of backends that are not in the pool, the last to go first to be kept.
const rememberedMax = 4096

// remembered is a record of a backend that is not in the pool, or that has not been asked for its speed yet.
type remembered struct {
	SpeedRecord
	last Instant // instead of Age
}

func (r *remembered) of(address, class, model string) bool {
	return r.Address == address && r.Class == class && r.Model == model
}

// Speeds lists what has been learned, as of the last step, backends that went from the pool included.
func (s *Scheduler) Speeds() []SpeedRecord { return s.SpeedsAt(s.now) }

// SpeedsAt lists what has been learned, as of an instant after the last step.
func (s *Scheduler) SpeedsAt(now Instant) []SpeedRecord {
	var out []SpeedRecord
	for _, b := range s.pool {
		for model := range b.speeds {
			if r, ok := s.record(b, model); ok {
				r.Age = now.Sub(r.last)
				out = append(out, r.SpeedRecord)
			}
		}
	}
	for _, r := range s.remembered {
		if !slices.ContainsFunc(out, func(o SpeedRecord) bool { return r.of(o.Address, o.Class, o.Model) }) {
			r.Age = now.Sub(r.last)
			r.Learned.Levels = slices.Clone(r.Learned.Levels)
			out = append(out, r.SpeedRecord)
		}
	}
	return out
}

// record is what has been learned of a backend in the pool.
func (s *Scheduler) record(b *backend, model int) (remembered, bool) {
	speed := b.speeds[model]
	if speed == nil || speed.Observations() == 0 {
		return remembered{}, false
	}
	return remembered{SpeedRecord{
		Address: b.Address, Class: b.Class, Model: s.modelNames[model], Instance: b.instance(), Learned: speed.State(),
	}, Instant(speed.LastSeen())}, true
}

// remember keeps what was learned of a backend that goes from the pool, in case that it comes back.
func (s *Scheduler) remember(b *backend) {
	for model := range b.speeds {
		if r, ok := s.record(b, model); ok {
			s.keep(r)
		}
	}
}

func (s *Scheduler) keep(r remembered) {
	s.remembered = slices.DeleteFunc(s.remembered, func(o remembered) bool { return r.of(o.Address, o.Class, o.Model) })
	if len(s.remembered) >= rememberedMax {
		s.remembered = slices.Delete(s.remembered, 0, 1)
	}
	s.remembered = append(s.remembered, r)
}

// restored takes in what was learned before this process. It holds for backends of which nothing has been
// learned since, those that come later included; what makes no sense is left out.
func (s *Scheduler) restored(e Restored) {
	for _, r := range e.Speeds {
		if r.Learned.Validate() != nil || r.Age < 0 {
			continue
		}
		r.Learned.Levels = slices.Clone(r.Learned.Levels)
		s.keep(remembered{r, s.now.Add(-r.Age)})
	}
	for _, b := range s.pool {
		b.dropUnlearned()
		s.recall(b)
	}
}

// recall takes on what is remembered of a backend.
func (s *Scheduler) recall(b *backend) {
	for i := range s.remembered {
		if r := &s.remembered[i]; r.of(b.Address, b.Class, r.Model) {
			s.speed(b, s.modelIndex(r.Model))
		}
	}
}

// dropUnlearned has speeds that were not learned made anew when they are next asked for, with what is known then;
// but not one that an attempt which runs will teach.
func (b *backend) dropUnlearned() {
	for i, speed := range b.speeds {
		awaited := slices.ContainsFunc(b.running, func(a *attempt) bool { return a.speed == speed })
		if speed != nil && speed.Observations() == 0 && !awaited {
			b.speeds[i] = nil
		}
	}
}

// speed is what is known of the backend with a model; it starts with what was learned before, else with the
// prior, else with nothing.
func (s *Scheduler) speed(b *backend, model int) *estimator.Speed {
	for len(b.speeds) <= model {
		b.speeds = append(b.speeds, nil)
	}
	if b.speeds[model] == nil {
		b.speeds[model] = s.newSpeed(b, model)
	}
	return b.speeds[model]
}

func (s *Scheduler) newSpeed(b *backend, model int) *estimator.Speed {
	name, shape := s.modelNames[model], s.shapeFor(b, model)
	speed := estimator.New(shape)
	if law := b.priorFor(name); law != (Law{}) {
		speed = estimator.FromLaw(law.Fixed, law.PerSecond, shape)
	}
	for i := range s.remembered {
		r := &s.remembered[i]
		if !r.of(b.Address, b.Class, name) {
			continue
		}
		if told := b.instance(); r.Instance == told || told == "" {
			b.presumed = r.Instance
			speed.Restore(r.Learned, time.Duration(r.last))
		}
	}
	return speed
}

// shapeFor is the shape of cost that backends of the same class share, for a model.
func (s *Scheduler) shapeFor(b *backend, model int) *estimator.Shape {
	if b.Class == "" {
		return new(estimator.Shape)
	}
	key := shapeKey{b.Class, model}
	if s.shapes[key] == nil {
		s.shapes[key] = new(estimator.Shape)
	}
	return s.shapes[key]
}

type shapeKey struct {
	class string
	model int
}

// adopt has the speeds that share a shape follow it.
func (s *Scheduler) adopt(shape *estimator.Shape, model int) {
	for _, b := range s.pool {
		if model < len(b.speeds) && b.speeds[model] != nil && b.speeds[model].Shape() == shape {
			b.speeds[model].Adopt()
		}
	}
}

// priorFor is the law to expect of the backend with a model.
func (b *backend) priorFor(model string) Law {
	if law, ok := b.Priors[model]; ok {
		return law
	}
	return b.Prior
}

// instance is the server that answers at the address: the one that was reported, else the one that the speeds
// in use were learned of.
func (b *backend) instance() string {
	if b.load.Instance != "" {
		return b.load.Instance
	}
	return b.presumed
}

// unlearn forgets the speeds of a backend at whose address another server answers now.
func (s *Scheduler) unlearn(b *backend) {
	b.speeds, b.discovery, b.presumed = nil, discovery{}, ""
	s.remembered = slices.DeleteFunc(s.remembered, func(r remembered) bool { return r.Address == b.Address })
}

// validateLaws says what is wrong with a backend's priors.
func (b *Backend) validateLaws() (errs []error) {
	wrong := func(l Law) bool { return l.Fixed < 0 || l.PerSecond < 0 }
	if wrong(b.Prior) {
		errs = append(errs, fmt.Errorf("backend %q: the prior's times must not be negative", b.ID))
	}
	for model, l := range b.Priors {
		if wrong(l) {
			errs = append(errs, fmt.Errorf("backend %q: the times of the prior for %q must not be negative", b.ID, model))
		}
	}
	return errs
}
