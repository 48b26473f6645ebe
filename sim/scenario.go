package sim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/sim/peers"
	"github.com/whisperpool/whisperpool/sim/recording"
)

// Scenario is everything that a run is made of.
type Scenario struct {
	// Policy is a placement policy of the scheduler (package policies) or a peer (package peers).
	Policy string
	Told   Told // what the scheduler is told of the cards' speeds
	// Discover: the scheduler is not told how many slots the cards have and finds out how many are
	// useful; a card refuses jobs beyond those that it has.
	Discover bool
	Model    string // whose law the classes follow, and what the jobs ask for
	Cards    []Card // one a backend
	Load     Load
	Audio    Audio
	// SizeError is the standard deviation of the log of told / true seconds of audio; SizeUnknown:
	// nothing is told.
	SizeError   float64
	SizeUnknown bool
	// What is measured: Jobs jobs, or those that arrive within Duration, after the first WarmUp.
	Jobs     int
	Duration time.Duration
	WarmUp   int
	Faults   []Fault
	// MaxWait is the longest that a job may wait in the scheduler's queue, 0 for ever. Peers know no such thing.
	MaxWait time.Duration
	Senders []Sender // who sends the jobs; none: one who is not told apart
	Leaving Leaving
	Seed    uint64
	// Recorded, if not nil, is the jobs of a recording, at their times, in place of Load and Audio: all of them
	// are measured. See Replay.
	Recorded *recording.Workload
}

// Told says what the scheduler is told of the cards' speeds before it has seen any job.
type Told string

// What can be told.
const (
	ToldNothing Told = "nothing"
	ToldClass   Told = "class" // what package gpu says of the class and the model, as the proxy does
	ToldLaw     Told = "law"   // the truth
)

// Card is one GPU behind one address.
type Card struct {
	Name  string
	Class string
	Law   *Law // nil: that of the class and the model, with its own chance
	Slots int
	// Gain bounds what jobs side by side get done together: min(k^0.7, Gain) jobs' worth, as package
	// gpu has it; 0: the class's own where the class's law is used, else they don't slow each other down.
	Gain float64
	// Recorded is the backend of a recording that it stands for, with laws by model in place of Law.
	Recorded *recording.Card
}

// Law is how long a job takes alone on a card: Fixed seconds and PerSecond for each second of audio,
// times a chance that is lognormal of mean 1 with Sigma the standard deviation of its log, and
// OutlierFactor for a share of the jobs, OutlierShare.
//
// The chance belongs to the job: what makes a transcription take longer is in the recording, and meets
// it on every card. For whoever sees a job once that is the same as chance per attempt, and it lets a
// bound be computed from what really happened.
type Law struct {
	Fixed, PerSecond            float64
	Sigma                       float64
	OutlierShare, OutlierFactor float64
}

// Load is how jobs come: one of the fields is not zero.
type Load struct {
	Clients int           // closed: so many clients, each with one job at a time
	Think   time.Duration // closed: from an answer to the client's next job, on average (exponential)
	Share   float64       // open, Poisson: of what the pool does when all its slots work on average jobs
	Rate    float64       // open, Poisson: jobs a second
	Burst   int           // so many at once, after the warm-up has left the pool idle; Jobs is not used
	Changes []LoadChange  // open: of the rate
}

// Audio is how long the recordings are, in seconds: one of the fields is set.
type Audio struct {
	Fixed     float64
	Lognormal *Lognormal
	Pareto    *Pareto
	List      []float64 // one after the other, again and again
}

// Lognormal has a median, the standard deviation of its log, and a cap (0: none).
type Lognormal struct{ Median, Sigma, Cap float64 }

// Pareto has the probability (Min / x)^Alpha for more than x seconds, and a cap (0: none).
type Pareto struct{ Alpha, Min, Cap float64 }

// Fault is what happens to a card at a time, counted from the end of the warm-up.
type Fault struct {
	At      time.Duration
	Card    string
	Becomes Condition
	Factor  float64 // with Slow
	Share   float64 // with Failing: of the jobs, 0: all of them
	// RetryAfter, with Busy, is for how long it wants to be left alone.
	RetryAfter time.Duration
}

// Condition is how a card is.
type Condition string

// The conditions.
const (
	Healthy Condition = "healthy"
	Slow    Condition = "slow"    // takes Factor times as long
	Dead    Condition = "dead"    // refuses connections; what runs there dies
	Hung    Condition = "hung"    // accepts and never answers; its health check does
	Failing Condition = "failing" // answers 500 after 5 ms, or a share of the jobs; its health check is fine
	Busy    Condition = "busy"    // answers 503 with a Retry-After; its health check is fine
	// Gone takes no jobs any more, and its health check fails; what runs there ends. Of recordings only.
	Gone Condition = "gone"
)

// Bounds that keep a mistake in a file from running for ever.
const (
	jobsMax  = 10_000_000
	cardsMax = 10_000
)

// Validate says what is wrong with the scenario, all of it at once, nil when nothing is.
func (sc Scenario) Validate() error {
	c := complaints{}
	_, isPolicy := policies.ByName(sc.Policy)
	_, isPeer := peers.ByName(sc.Policy)
	c.unless(isPolicy || isPeer, "there is no policy %q; there are %s", sc.Policy, strings.Join(append(policies.Names(), peers.Names()...), ", "))
	switch sc.Told {
	case ToldNothing, ToldClass, ToldLaw:
	default:
		c.add("told is %q, must be %q, %q or %q", sc.Told, ToldNothing, ToldClass, ToldLaw)
	}
	c.unless(len(sc.Cards) > 0, "the pool is empty; list at least one card")
	c.unless(len(sc.Cards) <= cardsMax, "the pool has %d cards, at most %d are simulated", len(sc.Cards), cardsMax)
	names := map[string]bool{}
	for _, card := range sc.Cards {
		c.unless(!names[card.Name], "two cards are called %q; give one of them another name", card.Name)
		names[card.Name] = true
		card.validate(&c, sc.Model)
	}
	if sc.Recorded == nil {
		sc.Load.validate(&c)
		sc.Audio.validate(&c)
	}
	sc.validateClients(&c)
	c.unless(sc.SizeError >= 0 && finite(sc.SizeError), "size_error is %v, must not be negative", sc.SizeError)
	c.unless(sc.WarmUp >= 0 && sc.WarmUp <= jobsMax, "warm_up is %d, must be from 0 to %d jobs", sc.WarmUp, jobsMax)
	if sc.Load.Burst == 0 && (sc.Recorded == nil || len(sc.Recorded.Jobs) != sc.Jobs) {
		c.unless((sc.Jobs > 0) != (sc.Duration > 0), "say how much is measured: either jobs or duration_s, above 0")
		c.unless(sc.Jobs <= jobsMax, "jobs is %d, at most %d are simulated", sc.Jobs, jobsMax)
	}
	for _, f := range sc.Faults {
		if f.Becomes != Gone || sc.Recorded == nil {
			f.validate(&c, names)
		}
	}
	return errors.Join(c...)
}

type complaints []error

func (c *complaints) add(format string, args ...any) { *c = append(*c, fmt.Errorf(format, args...)) }

func (c *complaints) unless(ok bool, format string, args ...any) {
	if !ok {
		c.add(format, args...)
	}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func positive(x float64) bool { return x > 0 && finite(x) }

func (card Card) validate(c *complaints, model string) {
	c.unless(card.Name != "", "a card has neither a name nor a class")
	c.unless(card.Slots >= 1 && card.Slots <= 1024, "card %q: slots is %d, must be from 1 to 1024", card.Name, card.Slots)
	c.unless(card.Gain == 0 || card.Gain >= 1 && finite(card.Gain), "card %q: gain is %v, must be at least 1: what one job gets done alone", card.Name, card.Gain)
	if card.Recorded != nil {
		return
	}
	if l := card.Law; l != nil {
		c.unless(l.Fixed >= 0 && l.PerSecond >= 0 && positive(l.Fixed+l.PerSecond), "card %q: the law takes no time; set fixed_s or speed", card.Name)
		c.unless(l.Sigma >= 0 && l.Sigma <= 3, "card %q: sigma is %v, must be from 0 to 3", card.Name, l.Sigma)
		c.unless(l.OutlierShare >= 0 && l.OutlierShare < 1, "card %q: the share of outliers is %v, must be from 0 to below 1", card.Name, l.OutlierShare)
		c.unless(l.OutlierShare == 0 || positive(l.OutlierFactor), "card %q: the factor of outliers is %v, must be above 0", card.Name, l.OutlierFactor)
	} else if _, ok := gpu.LawOf(card.Class, model); !ok {
		c.add("card %q: no law is known for the class %q with the model %q; give it a law, or one of the classes T4, A10G, H100 and a whisper model", card.Name, card.Class, model)
	}
}

func (l Load) validate(c *complaints) {
	kinds := 0
	for _, set := range []bool{l.Clients != 0, l.Share != 0, l.Rate != 0, l.Burst != 0} {
		if set {
			kinds++
		}
	}
	c.unless(kinds == 1, "the load must be one of closed, open, open_rate and burst")
	c.unless(l.Clients >= 0 && l.Clients <= jobsMax, "closed is %d clients, must be from 1 to %d", l.Clients, jobsMax)
	c.unless(l.Burst >= 0 && l.Burst <= jobsMax, "burst is %d jobs, must be from 1 to %d", l.Burst, jobsMax)
	c.unless(l.Share >= 0 && l.Share <= 10, "open is %v, a share of the pool's capacity: must be above 0, and below 1 for a queue that does not grow", l.Share)
	c.unless(l.Rate >= 0 && finite(l.Rate), "open_rate is %v jobs a second, must be above 0", l.Rate)
	for _, change := range l.Changes {
		c.unless(change.At >= 0 && positive(change.Times) && (l.Share > 0 || l.Rate > 0), "changes of the load go with open and open_rate only; at_s must not be negative, and times above 0")
	}
	c.unless(l.Think >= 0 && (l.Think == 0 || l.Clients > 0), "think_s goes with closed only, and is not negative")
}

func (a Audio) validate(c *complaints) {
	kinds := 0
	for _, set := range []bool{a.Fixed != 0, a.Lognormal != nil, a.Pareto != nil, len(a.List) > 0} {
		if set {
			kinds++
		}
	}
	c.unless(kinds == 1, "audio must be one of fixed_s, lognormal, pareto and list_s")
	c.unless(a.Fixed == 0 || positive(a.Fixed), "audio: fixed_s is %v, must be above 0", a.Fixed)
	if l := a.Lognormal; l != nil {
		c.unless(positive(l.Median), "audio: the median is %v s, must be above 0", l.Median)
		c.unless(l.Sigma >= 0 && l.Sigma <= 5, "audio: sigma is %v, must be from 0 to 5", l.Sigma)
		c.unless(l.Cap == 0 || l.Cap >= l.Median, "audio: the cap %v s is below the median", l.Cap)
	}
	if p := a.Pareto; p != nil {
		c.unless(positive(p.Alpha) && positive(p.Min), "audio: alpha and min_s of pareto must be above 0")
		c.unless(p.Alpha > 1 || p.Cap > 0, "audio: pareto with alpha %v has no mean; set cap_s", p.Alpha)
		c.unless(p.Cap == 0 || p.Cap > p.Min, "audio: cap_s %v of pareto is not above min_s", p.Cap)
	}
	c.unless(!slices.ContainsFunc(a.List, func(x float64) bool { return !positive(x) }), "audio: every length of list_s must be above 0")
}

func (f Fault) validate(c *complaints, names map[string]bool) {
	c.unless(names[f.Card], "a fault of %q: there is no such card in the pool", f.Card)
	c.unless(f.At >= 0, "a fault of %q: at_s is negative", f.Card)
	switch f.Becomes {
	case Slow:
		c.unless(positive(f.Factor), "a fault of %q: slow needs factor, how many times as long it takes", f.Card)
	case Healthy, Dead, Hung, Failing, Busy:
		c.unless(f.Factor == 0, "a fault of %q: factor goes with slow only", f.Card)
	default:
		c.add("a fault of %q: becomes is %q, must be healthy, slow, dead, hung, failing or busy", f.Card, f.Becomes)
	}
	c.unless(f.Share == 0 || f.Becomes == Failing && f.Share > 0 && f.Share <= 1, "a fault of %q: share goes with failing only, and is above 0 and at most 1", f.Card)
	c.unless(f.RetryAfter == 0 || f.Becomes == Busy && f.RetryAfter > 0, "a fault of %q: retry_after_s goes with busy only, and is above 0", f.Card)
}
