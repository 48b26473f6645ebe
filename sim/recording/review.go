package recording

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/scheduler/journal"
)

// Review is what there is to know of a recording.
type Review struct {
	Summary
	Workload *Workload // nil unless asked for
}

// Review reads the recording once: it counts what happened, has the scheduler of this program decide again, and
// collects the jobs if a workload is wanted. Progress, in bytes, may be nil. The error names the file and the line.
//
// It keeps some 100 bytes for each served job, and as much again for each of the workload.
func (r *Recording) Review(workload bool, progress func(done, of int64)) (*Review, error) {
	c := newCollector(workload)
	in := reader{progress: progress}
	player := journal.NewPlayer(policies.ByName)
	begins, ended := r.Files[0].Segment == 0, false
	var difference *Difference
	in.opened = func(h journal.Header) error {
		c.open(h)
		if !begins {
			return nil
		}
		return player.Open(h)
	}
	in.step = func(record journal.Record) error {
		if begins && !ended {
			var err error
			if ended, err = player.Step(record); err != nil {
				return fmt.Errorf("%w; it is no recording of one scheduler from its start", err)
			}
			if ended {
				difference = describe(player.Report().Difference, in.place)
			}
		}
		c.step(record)
		return nil
	}
	cut, err := in.read(r.Files, r.Size())
	if err != nil {
		return nil, err
	}
	if c.Records == 0 {
		return nil, fmt.Errorf("%s: the recording has a beginning and no events", r.Files[0].Path)
	}
	c.Begins, c.Cut = begins, cut
	for _, f := range r.Files {
		c.Files = append(c.Files, f.Path)
	}
	out := &Review{Summary: c.summary(), Workload: c.workload}
	if begins {
		out.Decided = Decided{player.Report().Records, difference}
		out.learned(player.Snapshot())
	}
	return out, nil
}

// learned notes what the scheduler has learned.
func (r *Review) learned(s scheduler.Snapshot) {
	for _, b := range s.Backends {
		i := slices.IndexFunc(r.Backends, func(o Backend) bool { return o.Name == string(b.ID) })
		if i < 0 {
			continue
		}
		for _, speed := range b.Speeds {
			if speed.Observations > 0 && speed.TenSeconds > 0 {
				r.Backends[i].Speeds = append(r.Backends[i].Speeds, LearnedBy{speed.Model, 10 / speed.TenSeconds.Seconds(), speed.Observations})
			}
		}
	}
}

// describe puts a difference into words.
func describe(d *journal.Difference, at Place) *Difference {
	return &Difference{
		Place: at, At: time.Duration(d.At).Seconds(), Event: name(d.Event) + " " + plain(d.Event),
		Then: decisions(d.Decisions), Now: decisions(d.Now),
	}
}

func name(v any) string {
	full := fmt.Sprintf("%T", v)
	return strings.ToLower(full[strings.LastIndexByte(full, '.')+1:])
}

// plainMax bounds what is printed of an event: a configuration can be long.
const plainMax = 400

func plain(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	if len(text) > plainMax {
		return string(text[:plainMax]) + "..."
	}
	return string(text)
}

func decisions(ds []scheduler.Decision) string {
	var all []string
	for _, d := range ds {
		switch d := d.(type) {
		case scheduler.Dispatch:
			all = append(all, fmt.Sprintf("dispatch job %d to %s (%v, predicted %v, timeout %v)", d.Job, d.Backend, d.Reason, d.Predicted, d.Timeout))
		case scheduler.Settle:
			all = append(all, fmt.Sprintf("settle job %d: %v, retry after %v", d.Job, d.Reason, d.RetryAfter))
		default:
			all = append(all, name(d)+" "+plain(d))
		}
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, "; ")
}

// summary closes the books.
func (c *collector) summary() Summary {
	s := c.Summary
	s.Waiting, s.Service, s.Response = figuresOf(c.waiting), figuresOf(c.service), figuresOf(c.response)
	s.Span = c.last.Sub(c.first).Seconds()
	s.Open = len(c.jobs)
	s.Tenants = len(c.tenants)
	for _, m := range c.models {
		if m.Served > 0 {
			m.Response /= float64(m.Served)
		}
		s.Models = append(s.Models, *m)
	}
	slices.SortStableFunc(s.Models, func(a, b ModelSummary) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), strings.Compare(a.Model, b.Model))
	})
	c.findLaws()
	for _, b := range c.backends {
		b.advance(c.last)
		out := b.Backend
		if n := s.Settled[scheduler.Served.String()]; n > 0 {
			out.Share = float64(b.served) / float64(n)
		}
		if b.serving > 0 {
			out.Speed = b.audio / b.serving
		}
		if s.Span > 0 {
			out.Busy = b.area / (float64(out.Slots) * s.Span)
		}
		s.Backends = append(s.Backends, out)
	}
	if c.workload != nil {
		c.workload.finish()
	}
	return s
}

// findLaws fits what was measured, and finds laws for the rest.
func (c *collector) findLaws() {
	known := laws{audio: 1}
	if n := len(c.response); n > 0 {
		known.audio = max(known.audio, c.Audio/float64(n))
	}
	for i := range c.backends {
		b := c.backends[i]
		b.Slots = b.slots()
		most := 0
		for _, model := range sortedKeys(b.seen) {
			all := b.seen[model]
			if len(all) < lawJobs {
				continue
			}
			f := fit(all)
			law := MeasuredLaw{Model: model, Fixed: f.fixed, PerSecond: f.perSecond, From: "measured", Jobs: len(all)}
			if b.Laws = append(b.Laws, law); len(all) > most {
				most, b.gain = len(all), f.gain
			}
			known.measured = append(known.measured, classLaw{law, b.config.Class, priorFor(b.config, model)})
		}
	}
	for i := range c.backends {
		b := c.backends[i]
		for _, model := range sortedKeys(c.models) {
			if slices.ContainsFunc(b.Laws, func(l MeasuredLaw) bool { return l.Model == model }) || !b.does(model) {
				continue
			}
			if law, ok := known.of(b.config.Class, model, priorFor(b.config, model)); ok {
				b.Laws = append(b.Laws, law)
			} else if c.workload != nil {
				c.workload.Unmeasured = append(c.workload.Unmeasured, b.Name+" with "+model)
			}
		}
	}
	if c.workload != nil {
		c.cards(known)
	}
}

// cards makes them of the backends.
func (c *collector) cards(known laws) {
	c.workload.laws = known
	c.workload.Config = c.config
	c.workload.Config.Backends, c.workload.Config.Trials = nil, false
	for _, b := range c.backends {
		card := Card{Backend: b.config, Load: b.load, Laws: map[string]MeasuredLaw{}, Gain: b.gain, Away: b.away}
		card.Backend.Slots, card.Backend.Discover = b.Slots, false
		for _, l := range b.Laws {
			card.Laws[l.Model] = l
		}
		c.workload.Cards = append(c.workload.Cards, card)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
