package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/policies"
)

// Study is what a file asks for: a scenario at one or several levels of its load, each with several
// seeds.
type Study struct {
	About string // what it shows, in the file's own words
	Scenario
	Levels []float64 // of the load: clients, jobs at once, share of the capacity, or jobs a second
	Seeds  int       // Scenario.Seed and those after it
}

// At is the scenario of one level and seed; the seeds are numbered from 0.
func (st Study) At(level float64, seed int) Scenario {
	sc := st.Scenario
	sc.Load = sc.Load.at(level)
	sc.Seed += uint64(seed)
	return sc
}

func (l Load) at(level float64) Load {
	switch {
	case l.Clients != 0:
		l.Clients = int(level)
	case l.Burst != 0:
		l.Burst = int(level)
	case l.Share != 0:
		l.Share = level
	default:
		l.Rate = level
	}
	return l
}

// Word says what a level of the load counts.
func (l Load) Word() string {
	switch {
	case l.Clients != 0:
		return "clients"
	case l.Burst != 0:
		return "jobs at once"
	case l.Share != 0:
		return "load"
	default:
		return "jobs a second"
	}
}

// The form of a file. Times are in seconds, as their names say.
type (
	studyFile struct {
		About       string       `json:"about"`
		Policy      string       `json:"policy"`
		Told        Told         `json:"told"`
		Discover    bool         `json:"discover"`
		Model       string       `json:"model"`
		Pool        []cardFile   `json:"pool"`
		Load        loadFile     `json:"load"`
		Audio       audioFile    `json:"audio"`
		SizeError   float64      `json:"size_error"`
		SizeUnknown bool         `json:"size_unknown"`
		Jobs        int          `json:"jobs"`
		Duration    float64      `json:"duration_s"`
		WarmUp      *int         `json:"warm_up"`
		Faults      []faultFile  `json:"faults"`
		MaxWait     float64      `json:"max_wait_s"`
		Senders     []senderFile `json:"senders"`
		Leaving     leavingFile  `json:"leaving"`
		Seed        uint64       `json:"seed"`
		Seeds       int          `json:"seeds"`
	}
	cardFile struct {
		Name  string   `json:"name"`
		Class string   `json:"class"`
		Count *int     `json:"count"`
		Law   *lawFile `json:"law"`
		Slots int      `json:"slots"`
		Gain  float64  `json:"gain"`
	}
	// lawFile is fixed_s + audio / speed.
	lawFile struct {
		Fixed    float64      `json:"fixed_s"`
		Speed    float64      `json:"speed"`
		Sigma    float64      `json:"sigma"`
		Outliers *outlierFile `json:"outliers"`
	}
	outlierFile struct {
		Share  float64 `json:"share"`
		Factor float64 `json:"factor"`
	}
	loadFile struct {
		Closed   levels       `json:"closed"`
		Think    float64      `json:"think_s"`
		Open     levels       `json:"open"`
		OpenRate levels       `json:"open_rate"`
		Burst    levels       `json:"burst"`
		Changes  []changeFile `json:"changes"`
	}
	audioFile struct {
		Fixed     float64        `json:"fixed_s"`
		Lognormal *lognormalFile `json:"lognormal"`
		Pareto    *paretoFile    `json:"pareto"`
		List      []float64      `json:"list_s"`
	}
	lognormalFile struct {
		Median float64 `json:"median_s"`
		Sigma  float64 `json:"sigma"`
		Cap    float64 `json:"cap_s"`
	}
	paretoFile struct {
		Alpha float64 `json:"alpha"`
		Min   float64 `json:"min_s"`
		Cap   float64 `json:"cap_s"`
	}
	faultFile struct {
		At         float64   `json:"at_s"`
		Backend    string    `json:"backend"`
		Becomes    Condition `json:"becomes"`
		Factor     float64   `json:"factor"`
		Share      float64   `json:"share"`
		RetryAfter float64   `json:"retry_after_s"`
	}
)

// levels is one number or a list of them.
type levels []float64

func (l *levels) UnmarshalJSON(text []byte) error {
	var one float64
	if json.Unmarshal(text, &one) == nil {
		*l = levels{one}
		return nil
	}
	var several []float64
	if err := json.Unmarshal(text, &several); err != nil || len(several) == 0 {
		return errors.New("a level of the load must be a number or a list of numbers")
	}
	*l = several
	return nil
}

// The defaults of a file.
const (
	defaultModel         = "base"
	defaultSeeds         = 5
	defaultWarmUpPerSlot = 20
	seedsMax             = 1000
)

// Parse reads a study from a file's text. The error says all that is wrong with it.
func Parse(text []byte) (Study, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var f studyFile
	if err := d.Decode(&f); err != nil {
		return Study{}, explain(err, text)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Study{}, errors.New("something follows the scenario's closing brace; a file holds one scenario")
	}
	return f.study()
}

// explain says where in the text an error of the decoder is.
func explain(err error, text []byte) error {
	at := func(offset int64) string {
		before := text[:min(max(offset, 0), int64(len(text)))]
		line := 1 + bytes.Count(before, []byte("\n"))
		return fmt.Sprintf("line %d, column %d", line, len(before)-bytes.LastIndexByte(before, '\n'))
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at %s: %w", at(syntax.Offset), err)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %s is a %s, must be %s", at(kind.Offset), kind.Field, kind.Value, wanted(kind.Type.Kind()))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the file ends before its closing brace")
	}
	message := strings.TrimPrefix(err.Error(), "json: ")
	if strings.HasPrefix(message, "unknown field") {
		message += "; docs/simulate.md lists those there are"
	}
	return errors.New(message)
}

// wanted is what a kind of Go value is called in JSON.
func wanted(kind reflect.Kind) string {
	switch kind {
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

func (f studyFile) study() (Study, error) {
	st := Study{About: f.About, Seeds: f.Seeds}
	c := complaints{}
	c.unless(f.Seeds >= 0 && f.Seeds <= seedsMax, "seeds is %d, must be from 1 to %d", f.Seeds, seedsMax)
	if st.Seeds == 0 {
		st.Seeds = defaultSeeds
	}
	c.unless(f.Duration >= 0, "duration_s is negative")
	st.Scenario = Scenario{
		Policy: orElse(f.Policy, policies.Default), Told: Told(orElse(string(f.Told), string(ToldNothing))), Discover: f.Discover,
		Model: orElse(f.Model, defaultModel), SizeError: f.SizeError, SizeUnknown: f.SizeUnknown,
		Jobs: f.Jobs, Duration: duration(f.Duration), Seed: max(f.Seed, 1),
	}
	slots := 0
	for i, card := range f.Pool {
		for _, one := range card.cards(i, &c) {
			slots += max(0, one.Slots)
			st.Cards = append(st.Cards, one)
		}
	}
	st.WarmUp = defaultWarmUpPerSlot * slots
	if f.WarmUp != nil {
		st.WarmUp = *f.WarmUp
	}
	f.Load.into(&st, &c)
	f.clients(&st, &c)
	st.Audio = f.Audio.audio()
	for _, fault := range f.Faults {
		st.Faults = append(st.Faults, Fault{At: duration(fault.At), Card: fault.Backend, Becomes: fault.Becomes, Factor: fault.Factor,
			Share: fault.Share, RetryAfter: duration(fault.RetryAfter)})
	}
	for _, level := range st.Levels {
		for _, err := range unjoin(st.At(level, 0).Validate()) {
			if !slices.ContainsFunc(c, func(o error) bool { return o.Error() == err.Error() }) {
				c = append(c, err)
			}
		}
	}
	return st, errors.Join(c...)
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func (f cardFile) cards(index int, c *complaints) []Card {
	card := Card{Name: f.Name, Class: f.Class, Slots: f.Slots, Gain: f.Gain}
	card.Name = orElse(orElse(card.Name, strings.ToLower(f.Class)), fmt.Sprintf("card%d", index+1))
	if card.Slots == 0 {
		card.Slots = 1
	}
	if l := f.Law; l != nil {
		c.unless(l.Speed >= 0, "card %q: speed is %v seconds of audio a second, must be above 0, or left out where the length does not count", card.Name, l.Speed)
		card.Law = &Law{Fixed: l.Fixed, Sigma: l.Sigma}
		if l.Speed > 0 {
			card.Law.PerSecond = 1 / l.Speed
		}
		if l.Outliers != nil {
			card.Law.OutlierShare, card.Law.OutlierFactor = l.Outliers.Share, l.Outliers.Factor
		}
	}
	if f.Count == nil {
		return []Card{card}
	}
	c.unless(*f.Count >= 1 && *f.Count <= cardsMax, "card %q: count is %d, must be from 1 to %d", card.Name, *f.Count, cardsMax)
	var all []Card
	for n := 1; n <= min(*f.Count, cardsMax); n++ {
		one := card
		one.Name = fmt.Sprintf("%s-%d", card.Name, n)
		all = append(all, one)
	}
	return all
}

func (f loadFile) into(st *Study, c *complaints) {
	kinds := 0
	set := func(of levels, into func(level float64)) {
		if len(of) > 0 {
			kinds++
			st.Levels = of
			into(of[0])
		}
	}
	whole := func(what string) {
		for _, level := range st.Levels {
			c.unless(level == float64(int(level)) && level >= 1, "load: %s is %v, must be a whole number from 1", what, level)
		}
	}
	set(f.Closed, func(level float64) { st.Load.Clients = int(level); whole("closed") })
	set(f.Burst, func(level float64) { st.Load.Burst = int(level); whole("burst") })
	set(f.Open, func(level float64) { st.Load.Share = level })
	set(f.OpenRate, func(level float64) { st.Load.Rate = level })
	st.Load.Think = duration(f.Think)
	for _, change := range f.Changes {
		st.Load.Changes = append(st.Load.Changes, LoadChange{duration(change.At), change.Times})
	}
	if kinds != 1 {
		c.add("load must have one of closed (clients), burst (jobs at once), open (share of the capacity) and open_rate (jobs a second)")
		st.Levels = nil
	}
}

func (f audioFile) audio() Audio {
	a := Audio{Fixed: f.Fixed, List: f.List}
	if l := f.Lognormal; l != nil {
		a.Lognormal = &Lognormal{l.Median, l.Sigma, l.Cap}
	}
	if p := f.Pareto; p != nil {
		a.Pareto = &Pareto{p.Alpha, p.Min, p.Cap}
	}
	return a
}
