package sim

import (
	"runtime"
	"slices"
	"sync"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/sim/peers"
)

// Rival is a policy or a peer that is compared with others.
type Rival struct {
	Policy string
	Told   Told
}

// Name is how a rival is called in tables. What every policy is told needs no words.
func (r Rival) Name() string {
	switch r.Told {
	case ToldLaw:
		return r.Policy + ", told all"
	case ToldClass:
		return r.Policy + ", told the class"
	}
	return r.Policy
}

// Rivals lists all there are: the default policy told nothing and, as the best that is known, told the
// truth; the other policies; the peers.
func Rivals() []Rival {
	all := []Rival{{policies.Default, ToldNothing}, {policies.Default, ToldLaw}}
	for _, name := range policies.Names()[1:] {
		all = append(all, Rival{name, ToldNothing})
	}
	for _, name := range peers.Names() {
		all = append(all, Rival{name, ToldNothing})
	}
	return all
}

// Outcomes are the results of one rival at one level, one a seed.
type Outcomes struct {
	Rival   Rival
	Level   float64
	Results []Result
}

// Spread is the median over the seeds of something measured, and the least and the most.
type Spread struct{ Median, Low, High float64 }

// Of is the spread of what is read from each result.
func (o Outcomes) Of(read func(r Result) float64) Spread {
	var xs []float64
	for _, r := range o.Results {
		xs = append(xs, read(r))
	}
	slices.Sort(xs)
	n := len(xs)
	return Spread{Median: (xs[(n-1)/2] + xs[n/2]) / 2, Low: xs[0], High: xs[n-1]}
}

// Violations are the broken contracts of all results.
func (o Outcomes) Violations() (all []string) {
	for _, r := range o.Results {
		all = append(all, r.Violations...)
	}
	return all
}

// Compare runs the study with each rival at each level with each seed: by level, and in it by rival.
// progress, if not nil, is told how many runs of how many are done, one call at a time.
func (st Study) Compare(rivals []Rival, progress func(done, of int)) ([]Outcomes, error) {
	var scenarios []Scenario
	var all []Outcomes
	for _, level := range st.Levels {
		for _, r := range rivals {
			all = append(all, Outcomes{Rival: r, Level: level})
			for seed := range st.Seeds {
				sc := st.At(level, seed)
				sc.Policy, sc.Told = r.Policy, r.Told
				scenarios = append(scenarios, sc)
			}
		}
	}
	results, err := RunAll(scenarios, progress)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Results = results[i*st.Seeds : (i+1)*st.Seeds]
	}
	return all, nil
}

// RunAll runs scenarios side by side, as many as there are processors; the results are in their order.
func RunAll(scenarios []Scenario, progress func(done, of int)) ([]Result, error) {
	results := make([]Result, len(scenarios))
	var (
		mu         sync.Mutex
		next, done int
		failed     error
		workers    sync.WaitGroup
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || next == len(scenarios) {
			return 0, false
		}
		next++
		return next - 1, true
	}
	report := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if done++; err != nil && failed == nil {
			failed = err
		}
		if progress != nil {
			progress(done, len(scenarios))
		}
	}
	for range min(runtime.GOMAXPROCS(0), len(scenarios), atATime(scenarios)) {
		workers.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				var err error
				results[i], err = Run(scenarios[i])
				report(err)
			}
		})
	}
	workers.Wait()
	return results, failed
}
