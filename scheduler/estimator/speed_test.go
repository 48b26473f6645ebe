package estimator

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const second = time.Second

// card is a backend whose jobs take theta seconds per unit of cost, with lognormal noise.
type card struct {
	speed *Speed
	cost  Cost
	theta float64
	sigma float64
	now   time.Duration
	rnd   *rand.Rand
}

func newCard(theta, sigma float64, seed uint64) *card {
	return &card{speed: New(new(Shape)), cost: Cost{Fixed: fixedAtFirst, PerSecond: 1}, theta: theta, sigma: sigma, rnd: rand.New(rand.NewPCG(seed, 1))}
}

func (c *card) run(jobs int) {
	for range jobs {
		audio := math.Exp(math.Log(12) + 1.2*c.rnd.NormFloat64())
		elapsed := time.Duration(c.theta * c.cost.Of(audio) * math.Exp(c.sigma*c.rnd.NormFloat64()) * 1e9)
		c.now += elapsed
		c.speed.Observe(Observation{Now: c.now, Elapsed: elapsed, AudioSeconds: audio, Occupancy: 1})
	}
}

func (c *card) off() float64 { return math.Abs(math.Log(c.speed.Theta(1) / c.theta)) }

// job is an observation of a job of that cost.
func job(s *Speed, now, elapsed time.Duration, cost, occupancy, best float64) Observation {
	return Observation{Now: now, Elapsed: elapsed, AudioSeconds: (cost - s.Cost.Fixed) / s.Cost.PerSecond, Occupancy: occupancy, Best: best}
}

func TestLearnsFromTheFirstJobs(t *testing.T) {
	var after3 []float64
	for seed := range uint64(200) {
		c := newCard(0.05, 0.15, seed)
		c.run(3)
		after3 = append(after3, c.off())
	}
	slices.Sort(after3)
	if p95 := after3[190]; p95 > 0.3 {
		t.Errorf("after 3 jobs 1 of 20 backends is off by %.2f in the logarithm, want under 0.3", p95)
	}
}

func TestSteadyDespiteOutliers(t *testing.T) {
	sum, count := 0.0, 0
	for seed := range uint64(50) {
		c := newCard(0.05, 0.15, seed)
		c.run(30)
		for range 200 {
			if c.rnd.Float64() < 0.03 {
				c.theta *= 4
				c.run(1)
				c.theta /= 4
			} else {
				c.run(1)
			}
			sum, count = sum+c.off()*c.off(), count+1
		}
	}
	if rms := math.Sqrt(sum / float64(count)); rms > 0.1 {
		t.Errorf("rms error %.3f with 3 %% of jobs 4 x slower, want at most 0.1", rms)
	}
}

func TestFindsAStep(t *testing.T) {
	for _, step := range []float64{2, 0.5, 20} {
		var needed []int
		for seed := range uint64(200) {
			c := newCard(0.05, 0.15, seed)
			c.run(30)
			c.theta *= step
			n := 0
			for ; c.off() > math.Log(1.2) && n < 50; n++ {
				c.run(1)
			}
			needed = append(needed, n)
		}
		slices.Sort(needed)
		if median := needed[len(needed)/2]; median > 4 {
			t.Errorf("a step of x%v is within 20 %% after %d jobs in the median, want at most 4", step, median)
		}
	}
}

func TestSpreadIsLearned(t *testing.T) {
	for _, sigma := range []float64{0.15, 0.5} {
		c := newCard(0.05, sigma, 1)
		c.run(400)
		if got := c.speed.Spread(); got < sigma*0.7 || got > sigma*1.3 {
			t.Errorf("spread %.2f, want about %.2f", got, sigma)
		}
	}
}

func TestUnfinishedJobsOnlyRaise(t *testing.T) {
	s := New(new(Shape))
	for range 10 {
		s.Observe(job(s, 0, 2*second, 20, 1, 0))
	}
	s.Exceeded(job(s, 0, second, 20, 1, 0))
	if got := s.Theta(1); math.Abs(got-0.1) > 1e-9 {
		t.Errorf("a job cancelled before its time moved theta to %v", got)
	}
	s.Exceeded(job(s, 0, 8*second, 20, 1, 0))
	s.Exceeded(job(s, 0, 8*second, 20, 1, 0))
	s.Exceeded(job(s, 0, 8*second, 20, 1, 0))
	if got := s.Theta(1); got < 0.3 {
		t.Errorf("three jobs given up at 4 x the prediction left theta at %v, want it near 0.4", got)
	}
}

func TestUnfinishedJobsBoundAnUnknownSpeed(t *testing.T) {
	s := New(new(Shape))
	s.Exceeded(job(s, 0, 40*second, 20, 1, 0))
	if s.Known() || s.AtLeast() != 2 {
		t.Errorf("known %v, at least %v; want unknown, at least 2", s.Known(), s.AtLeast())
	}
}

func TestLawIsBelievedUntilTheFirstJob(t *testing.T) {
	s := FromLaw(120*time.Millisecond, 50*time.Millisecond, new(Shape))
	if !s.Known() || s.Observations() != 0 {
		t.Fatal("a law makes a speed known, without observations")
	}
	if got := s.Theta(1) * s.Cost.Of(10); math.Abs(got-0.62) > 1e-9 {
		t.Fatalf("10 s of audio predicted as %v s, want 0.62", got)
	}
	s.Observe(job(s, 0, 1240*time.Millisecond, s.Cost.Of(10), 1, 0))
	if got := s.Theta(1) * s.Cost.Of(10); math.Abs(got-1.24) > 1e-9 {
		t.Errorf("after one job of 1.24 s predicted as %v s", got)
	}
}

func TestDriftsToTheBestOfTheClass(t *testing.T) {
	s := New(new(Shape))
	for range 5 {
		s.Observe(job(s, 0, 20*second, 20, 1, 0))
	}
	if got := s.Drift(30*second, 0.1); got != 1 {
		t.Errorf("drift %v after 30 s, want none", got)
	}
	if got, want := s.Theta(1)*s.Drift(60*second, 0.1), math.Sqrt(0.1); math.Abs(got-want) > 1e-6 {
		t.Errorf("theta %v half-way in time, want %v", got, want)
	}
	if got := s.Drift(60*second, 2); got != 1 {
		t.Errorf("drift %v though it is the best of its class", got)
	}
}

// TestAChangeForTheWorseIsDoubted: after two jobs that took long the backend is soon worth another try; one that
// gave no answer is not.
func TestAChangeForTheWorseIsDoubted(t *testing.T) {
	s := New(new(Shape))
	for range 30 {
		s.Observe(job(s, 0, second, 20, 1, 0))
	}
	fast := s.Theta(1)
	s.Observe(job(s, 0, 4*second, 20, 1, 0))
	s.Observe(job(s, 0, 4*second, 20, 1, 0))
	slow := s.Theta(1)
	if slow < 3.9*fast {
		t.Fatalf("theta %v after two slow jobs, %v before", slow, fast)
	}
	if got := s.Drift(3*second, 0); got != 1 {
		t.Errorf("drift %v after 3 s", got)
	}
	if got := slow * s.Drift(6*second, 0); math.Abs(got-2*fast) > 1e-6 {
		t.Errorf("theta %v half-way, want %v", got, 2*fast)
	}
	for range 20 { // jobs that confirm it
		s.Observe(job(s, 0, 4*second, 20, 1, 0))
	}
	if got := s.Drift(30*second, 0); got != 1 {
		t.Errorf("drift %v after 30 s though it is sure to be slow", got)
	}
	hung := New(new(Shape))
	for range 30 {
		hung.Observe(job(hung, 0, second, 20, 1, 0))
	}
	for range 3 {
		hung.Exceeded(job(hung, 0, 10*second, 20, 1, 0))
	}
	if got := hung.Drift(30*second, 0); got != 1 {
		t.Errorf("drift %v after 30 s of a backend that did not answer", got)
	}
}

func TestAfterDriftOneJobTells(t *testing.T) {
	slow := func() *Speed {
		s := New(new(Shape))
		for range 5 {
			s.Observe(job(s, 0, second, 20, 1, 0)) // fast once,
		}
		for range 5 {
			s.Observe(job(s, 0, 20*second, 20, 1, 0)) // then slow
		}
		return s
	}
	still := slow()
	still.Observe(job(still, 300*second, 20*second, 20, 1, 0))
	if got := still.Theta(1); got < 0.9 || got > 1.1 {
		t.Errorf("still slow: theta %v, want 1", got)
	}
	recovered := slow()
	recovered.Observe(job(recovered, 300*second, second, 20, 1, 0))
	if got := recovered.Theta(1); got < 0.045 || got > 0.06 {
		t.Errorf("recovered: theta %v, want 0.05", got)
	}
}

func TestOccupancyIsLearnedApart(t *testing.T) {
	s := New(new(Shape))
	s.Observe(job(s, 0, second, 10, 1, 0))
	if got := s.Theta(2) / s.Theta(1); math.Abs(got-1.8) > 1e-9 {
		t.Errorf("two side by side are expected to take %v x as long, want 1.8 as nothing else is known", got)
	}
	for range levelTrusted { // this GPU runs eight at the price of two
		s.Observe(job(s, 0, second, 10, 1, 0))
		s.Observe(job(s, 0, 2*second, 10, 8, 0))
	}
	if got := s.Theta(8); math.Abs(got-0.2) > 1e-9 {
		t.Errorf("eight side by side: theta %v, want 0.2", got)
	}
	if got := s.Theta(1); math.Abs(got-0.1) > 1e-9 {
		t.Errorf("alone: theta %v, want 0.1", got)
	}
	for range 3 { // and then it is throttled
		s.Observe(job(s, 0, 8*second, 10, 8, 0))
	}
	if got := s.Theta(1); got < 0.3 {
		t.Errorf("alone: theta %v, though the same GPU is 4 x slower at eight", got)
	}
}

// TestWhatOnceWasIsNotForgotten however often it is seen to be slow, so that somebody goes on looking.
func TestWhatOnceWasIsNotForgotten(t *testing.T) {
	s := New(new(Shape))
	for range 5 {
		s.Observe(job(s, 0, second, 20, 1, 0))
	}
	if got := s.Fallen(0); got != 1 {
		t.Errorf("%v times slower than it ever was, though it is as it was", got)
	}
	for i := range 20 {
		s.Observe(job(s, time.Duration(15*(i+1))*second, 20*second, 20, 1, 0))
	}
	if got := s.Fallen(0); math.Abs(got-20) > 0.5 {
		t.Errorf("%v times slower than it ever was, want 20", got)
	}
	if got := s.Drift(time.Hour, 0); got < 0.9 {
		t.Errorf("drift %v of what is known to be slow", got)
	}
	if got := s.Fallen(0.01); math.Abs(got-100) > 2.5 {
		t.Errorf("%v times slower than its class, want 100", got)
	}
}
