package scheduler_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/scheduler"
)

// serve has a backend serve a job of 10 s of audio that takes as long as told, and returns what was predicted.
func serve(t *testing.T, s *scheduler.Scheduler, id scheduler.JobID, at time.Duration, model string, took time.Duration) time.Duration {
	t.Helper()
	for _, d := range s.Step(scheduler.Instant(at), scheduler.Arrived{Job: scheduler.Job{ID: id, Model: model, AudioSeconds: 10}}) {
		if d, ok := d.(scheduler.Dispatch); ok {
			s.Step(scheduler.Instant(at+took), scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
			return d.Predicted
		}
	}
	t.Fatalf("job %d was not dispatched", id)
	return 0
}

func TestPriorsPerModel(t *testing.T) {
	b := scheduler.Backend{ID: "a", Prior: scheduler.Law{Fixed: time.Second}, Priors: map[string]scheduler.Law{"large": {Fixed: time.Second, PerSecond: time.Second}}}
	s := newScheduler(t, b)
	if got := serve(t, s, 1, 0, "base", time.Second); got != time.Second {
		t.Errorf("base is predicted by %v, want by the prior for all", got)
	}
	if got := serve(t, s, 2, 2*time.Second, "large", 30*time.Second); got != 11*time.Second {
		t.Errorf("large is predicted by %v, want by its own prior", got)
	}
	// Another prior does not outdo what was learned.
	b.Priors = map[string]scheduler.Law{"large": {Fixed: time.Millisecond}, "tiny": {Fixed: 5 * time.Second}}
	s.Step(scheduler.Instant(40*time.Second), scheduler.Configured{Config: scheduler.Config{Backends: []scheduler.Backend{b}}})
	if got := serve(t, s, 3, 40*time.Second, "large", 30*time.Second).Round(time.Millisecond); got != 30*time.Second {
		t.Errorf("large is predicted by %v after 30 s were seen", got)
	}
	if got := serve(t, s, 4, 80*time.Second, "tiny", time.Second); got != 5*time.Second {
		t.Errorf("tiny is predicted by %v, want by its own prior", got)
	}
	b.Priors["tiny"] = scheduler.Law{Fixed: -1}
	if err := (scheduler.Config{Backends: []scheduler.Backend{b}}).Validate(); err == nil {
		t.Error("a negative prior was accepted")
	}
}

// TestSpeedsSurviveARestart: what a scheduler has learned, written down and read again, holds in another one.
func TestSpeedsSurviveARestart(t *testing.T) {
	backends := []scheduler.Backend{{ID: "a", Address: "10.0.0.1:80", Class: "T4"}, {ID: "b", Address: "10.0.0.2:80", Class: "T4"}}
	first := newScheduler(t, backends[:1]...)
	first.Step(0, scheduler.Reported{Backend: "a", Load: scheduler.Load{Instance: "one"}})
	for i := range 10 {
		serve(t, first, scheduler.JobID(i+1), time.Duration(i)*10*time.Second, "base", 7*time.Second)
	}
	first.Step(scheduler.Instant(107*time.Second), scheduler.Ticked{})
	kept := first.Speeds()
	if len(kept) != 1 || kept[0].Address != "10.0.0.1:80" || kept[0].Class != "T4" || kept[0].Model != "base" || kept[0].Instance != "one" || kept[0].Age != 10*time.Second {
		t.Fatalf("learned %+v", kept)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		backends []scheduler.Backend
		reports  string // the instance, before the speeds are restored
		later    string // after
		learned  bool
	}{
		"the same":                             {backends: backends[:1], reports: "one", learned: true},
		"not asked yet":                        {backends: backends[:1], learned: true},
		"asked later":                          {backends: backends[:1], later: "one", learned: true},
		"another server":                       {backends: backends[:1], reports: "two"},
		"another server, as it turns out":      {backends: backends[:1], later: "two"},
		"another address":                      {backends: []scheduler.Backend{{ID: "a", Address: "10.0.0.9:80", Class: "T4"}}},
		"another class":                        {backends: []scheduler.Backend{{ID: "a", Address: "10.0.0.1:80", Class: "H100"}}},
		"another name":                         {backends: []scheduler.Backend{{ID: "z", Address: "10.0.0.1:80", Class: "T4"}}, learned: true},
		"a prior, which is only what was told": {backends: []scheduler.Backend{{ID: "a", Address: "10.0.0.1:80", Class: "T4", Prior: scheduler.Law{Fixed: time.Second}}}, learned: true},
	} {
		t.Run(name, func(t *testing.T) {
			var again []scheduler.SpeedRecord
			if err := json.Unmarshal(text, &again); err != nil {
				t.Fatal(err)
			}
			s := newScheduler(t, c.backends...)
			id := c.backends[0].ID
			if c.reports != "" {
				s.Step(0, scheduler.Reported{Backend: id, Load: scheduler.Load{Instance: c.reports}})
			}
			s.Step(0, scheduler.Restored{Speeds: again})
			if c.later != "" {
				s.Step(0, scheduler.Reported{Backend: id, Load: scheduler.Load{Instance: c.later}})
			}
			shown := len(s.Snapshot().Backends[0].Speeds) == 1 && s.Snapshot().Backends[0].Speeds[0].Observations == 10
			if got := serve(t, s, 1, time.Second, "base", time.Second); (got.Round(time.Millisecond) == 7*time.Second) != c.learned || shown != c.learned {
				t.Errorf("predicted %v and shown %v, learned from the record: want %v", got, shown, c.learned)
			}
		})
	}
}

// TestSpeedsOfBackendsThatComeLater: discovery may find them after the speeds were restored, or again after they
// were gone.
func TestSpeedsOfBackendsThatComeLater(t *testing.T) {
	one := scheduler.Backend{ID: "a", Address: "10.0.0.1:80"}
	s := newScheduler(t, one)
	serve(t, s, 1, 0, "base", 7*time.Second)
	configure := func(at time.Duration, backends ...scheduler.Backend) {
		s.Step(scheduler.Instant(at), scheduler.Configured{Config: scheduler.Config{Backends: backends}})
	}
	configure(10*time.Second, scheduler.Backend{ID: "other", Address: "10.0.0.2:80"})
	if kept := s.Speeds(); len(kept) != 1 || kept[0].Age != 3*time.Second {
		t.Fatalf("kept %+v of a backend that went", kept)
	}
	configure(20*time.Second, scheduler.Backend{ID: "again", Address: "10.0.0.1:80"})
	if got := serve(t, s, 2, 20*time.Second, "base", time.Second).Round(time.Millisecond); got != 7*time.Second {
		t.Errorf("predicted %v after it came back, learned 7 s", got)
	}
	if kept := s.Speeds(); len(kept) != 1 || kept[0].Learned.Observations != 2 {
		t.Errorf("kept %+v", kept)
	}
	// What is old counts less: the speed drifts as if the backend had been idle since.
	s.Step(scheduler.Instant(30*time.Second), scheduler.Restored{Speeds: []scheduler.SpeedRecord{
		{Address: "10.0.0.3:80", Model: "base", Age: -1, Learned: s.Speeds()[0].Learned},
		{Address: "10.0.0.4:80", Model: "base"},
	}})
	if kept := s.Speeds(); len(kept) != 1 {
		t.Errorf("records that make no sense were kept: %+v", kept)
	}
}

// TestWhatIsRememberedIsBounded: however many backends come and go.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	s := newScheduler(t)
	var records []scheduler.SpeedRecord
	fast := newScheduler(t, scheduler.Backend{ID: "a", Address: "x"})
	serve(t, fast, 1, 0, "base", time.Second)
	learned := fast.Speeds()[0].Learned
	for i := range 5000 {
		records = append(records, scheduler.SpeedRecord{Address: fmt.Sprint(i), Model: "base", Learned: learned})
	}
	s.Step(0, scheduler.Restored{Speeds: records})
	kept := s.Speeds()
	if len(kept) != 4096 || kept[0].Address != "904" {
		t.Errorf("%d records kept, the first of %s", len(kept), kept[0].Address)
	}
}

// TestCostShapeIsLearned: jobs cost by windows of 30 s, and after some of all lengths one of 29 s and one of 31 s
// are told apart, on a backend of the class that has served but a few.
func TestCostShapeIsLearned(t *testing.T) {
	s := newScheduler(t, scheduler.Backend{ID: "a", Class: "T4"})
	law := func(audio float64) time.Duration { return time.Duration(math.Ceil(audio/30)) * time.Second }
	now, id := scheduler.Instant(0), scheduler.JobID(0)
	run := func(audio float64) (predicted time.Duration) {
		id++
		for _, d := range s.Step(now, scheduler.Arrived{Job: scheduler.Job{ID: id, Model: "base", AudioSeconds: audio}}) {
			if d, ok := d.(scheduler.Dispatch); ok {
				now = now.Add(law(audio))
				s.Step(now, scheduler.Finished{Attempt: d.Attempt, Outcome: scheduler.Outcome{Result: scheduler.Success, Words: true}})
				return d.Predicted
			}
		}
		t.Fatal("not dispatched")
		return 0
	}
	for i := range 60 {
		run(float64(2 + 13*i%200))
	}
	s.Step(now, scheduler.Configured{Config: scheduler.Config{Backends: []scheduler.Backend{{ID: "b", Class: "T4"}}}})
	run(100)
	run(100)
	for _, audio := range []float64{3, 29, 31, 61, 200} {
		if got, want := run(audio), law(audio); math.Abs(math.Log(got.Seconds()/want.Seconds())) > 0.1 {
			t.Errorf("%v s of audio predicted as %v, takes %v", audio, got, want)
		}
	}
}
