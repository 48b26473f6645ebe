package estimator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// fleet is backends of one class, unequal in speed, whose jobs cost what a law says.
type fleet struct {
	cards []*card
	rnd   *rand.Rand
}

func newFleet(law Cost, seed uint64, speeds func(*Shape) *Speed) *fleet {
	f := &fleet{rnd: rand.New(rand.NewPCG(seed, 2))}
	shape := new(Shape)
	for i := range 4 {
		c := newCard(0.05*float64(1+i), 0.15, seed+uint64(i))
		c.cost, c.speed = law, speeds(shape)
		f.cards = append(f.cards, c)
	}
	return f
}

// run lets jobs run on random members and returns the rms of the log errors of what was predicted for them.
func (f *fleet) run(jobs int) float64 {
	sum, n := 0.0, 0
	for range jobs {
		c := f.cards[f.rnd.IntN(len(f.cards))]
		audio := min(3600, math.Exp(math.Log(12)+1.2*f.rnd.NormFloat64()))
		took := c.theta * c.cost.Of(audio) * math.Exp(c.sigma*f.rnd.NormFloat64())
		if c.speed.Known() {
			e := math.Log(took / (c.speed.Theta(1) * c.speed.Cost.Of(audio)))
			sum, n = sum+e*e, n+1
		}
		c.now += time.Duration(took * 1e9)
		if c.speed.Observe(Observation{Now: c.now, Elapsed: time.Duration(took * 1e9), AudioSeconds: audio, Occupancy: 1}) {
			for _, o := range f.cards {
				o.speed.Adopt()
			}
		}
	}
	return math.Sqrt(sum / float64(max(n, 1)))
}

// TestShapeIsChosenByWhatItForetells: whatever jobs really cost by, the best of the shapes that are tried is
// found within a hundred jobs of four backends, and no other is better than it by much.
func TestShapeIsChosenByWhatItForetells(t *testing.T) {
	for name, c := range map[string]struct {
		law  Cost
		most float64 // rms error; 0.15 is the noise
	}{
		"by seconds":                 {Cost{4, 1, 0}, 0.17},
		"by seconds, little fixed":   {Cost{0.5, 1, 0}, 0.17},
		"by seconds, much fixed":     {Cost{12, 1, 0}, 0.18},
		"an H100 of the notes":       {Cost{8, 1, 0}, 0.17},
		"by windows":                 {Cost{4, 0, 30}, 0.17},
		"by windows and nothing":     {Cost{0, 0, 30}, 0.17},
		"by windows and seconds":     {Cost{4, 0.7, 9}, 0.17},
		"an encoder of half the job": {Cost{1, 0.5, 15}, 0.18},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				f := newFleet(c.law, seed, New)
				f.run(120)
				late := f.run(400)
				fixed := newFleet(c.law, seed, func(*Shape) *Speed { return New(&Shape{n: -1 << 40}) }) // never changes
				fixed.run(120)
				never := fixed.run(400)
				t.Logf("rms log error %.3f, %.3f with the shape that is assumed at first", late, never)
				if late > c.most || late > 1.05*never {
					t.Errorf("seed %d: rms log error %.3f, want at most %.2f, and not more than without choosing, %.3f", seed, late, c.most, never)
				}
			}
		})
	}
}

// TestRightLawIsKept: a prior that tells the shape is not given up for another that fits as well.
func TestRightLawIsKept(t *testing.T) {
	for seed := range uint64(20) {
		f := newFleet(Cost{2.16, 1, 0}, seed, func(shape *Shape) *Speed {
			return FromLaw(120*time.Millisecond, 55556*time.Microsecond, shape)
		})
		if rms := f.run(400); rms > 0.20 {
			t.Errorf("seed %d: rms log error %.3f", seed, rms)
		}
	}
}

// TestAdoptingKeepsThePrediction: an ordinary job is predicted the same in another shape.
func TestAdoptingKeepsThePrediction(t *testing.T) {
	s := New(new(Shape))
	for range 30 {
		s.Observe(Observation{Now: time.Minute, Elapsed: 2 * second, AudioSeconds: 12, Occupancy: 1})
		s.Observe(Observation{Now: time.Minute, Elapsed: 4 * second, AudioSeconds: 12, Occupancy: 2})
	}
	before, beside := s.Theta(1)*s.Cost.Of(12), s.Theta(2)*s.Cost.Of(12)
	for shape := range shapes {
		s.shape.best = shape
		s.Adopt()
		if got := s.Theta(1) * s.Cost.Of(12); math.Abs(got/before-1) > 0.05 {
			t.Errorf("shape %d: %.3f s, before %.3f s", shape, got, before)
		}
		if got := s.Theta(2) * s.Cost.Of(12); math.Abs(got/beside-1) > 0.05 {
			t.Errorf("shape %d, two side by side: %.3f s, before %.3f s", shape, got, beside)
		}
	}
}

func TestStateIsRestored(t *testing.T) {
	for seed := range uint64(10) {
		f := newFleet(Cost{4, 0, 30}, seed, New)
		f.run(200)
		for _, c := range f.cards {
			c.speed.Observe(Observation{Now: c.now, Elapsed: 9 * second, AudioSeconds: 12, Occupancy: 4})
			st := c.speed.State()
			if err := st.Validate(); err != nil {
				t.Fatal(err)
			}
			again := New(new(Shape))
			again.Restore(st, c.now)
			for _, audio := range []float64{1, 29, 31, 600} {
				for _, beside := range []int{1, 3, 4} {
					want, got := c.speed.Theta(beside)*c.speed.Cost.Of(audio), again.Theta(beside)*again.Cost.Of(audio)
					if math.Abs(got/want-1) > 1e-9 {
						t.Errorf("%v s, %d side by side: %.4f s, %.4f s before", audio, beside, got, want)
					}
				}
			}
			if again.Observations() != c.speed.Observations() || again.LastSeen() != c.now || math.Abs(again.Spread()-c.speed.Spread()) > 1e-9 {
				t.Errorf("restored %+v from %+v", again.State(), st)
			}
			again.Observe(Observation{Now: c.now + second, Elapsed: second, AudioSeconds: 10, Occupancy: 1})
		}
	}
}

// TestRestoreUnderAnotherLaw: the prior has changed since, what was learned holds.
func TestRestoreUnderAnotherLaw(t *testing.T) {
	s := FromLaw(100*time.Millisecond, 50*time.Millisecond, new(Shape))
	for range 5 {
		s.Observe(Observation{Elapsed: 3 * second, AudioSeconds: 10, Occupancy: 1})
	}
	again := FromLaw(10*time.Millisecond, 90*time.Millisecond, new(Shape))
	again.Restore(s.State(), 0)
	if got := again.Theta(1) * again.Cost.Of(10); math.Abs(got-3) > 0.01 {
		t.Errorf("10 s of audio predicted as %.2f s, learned as 3 s", got)
	}
}

func TestStatesThatMakeNoSense(t *testing.T) {
	good := func() State {
		return State{Cost: Cost{4, 1, 0}, Observations: 3, Levels: []Level{{Occupancy: 1, Theta: 0.05, Spread: 0.2, Observations: 3}}}
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*State){
		"no cost":       func(s *State) { s.Cost = Cost{} },
		"negative cost": func(s *State) { s.Cost.PerSecond = -1 },
		"cost NaN":      func(s *State) { s.Cost.Fixed = math.NaN() },
		"not learned":   func(s *State) { s.Observations = 0 },
		"no levels":     func(s *State) { s.Levels = nil },
		"theta 0":       func(s *State) { s.Levels[0].Theta = 0 },
		"theta Inf":     func(s *State) { s.Levels[0].Theta = math.Inf(1) },
		"spread NaN":    func(s *State) { s.Levels[0].Spread = math.NaN() },
		"occupancy 0":   func(s *State) { s.Levels[0].Occupancy = 0 },
		"fastest NaN":   func(s *State) { s.Fastest = math.NaN() },
		"sharing":       func(s *State) { s.BesideOne = 0.5 },
		"sharing NaN":   func(s *State) { s.BesideOne = math.NaN() },
	} {
		st := good()
		if spoil(&st); st.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
