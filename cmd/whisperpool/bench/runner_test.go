package bench

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// server is an endpoint with so many slots that takes so long for each request, in virtual time.
type server struct {
	mu      sync.Mutex
	free    chan struct{}
	service time.Duration
	busy    int
	busiest int
}

func newServer(slots int, service time.Duration) *server {
	s := &server{free: make(chan struct{}, slots), service: service}
	for range slots {
		s.free <- struct{}{}
	}
	return s
}

func (s *server) send(ctx context.Context, _ Job) Outcome {
	s.mu.Lock()
	s.busy++
	s.busiest = max(s.busiest, s.busy)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return Outcome{Class: Abandoned}
	case <-s.free:
	}
	defer func() { s.free <- struct{}{} }()
	select {
	case <-ctx.Done():
		return Outcome{Class: Abandoned}
	case <-time.After(s.service):
		return Outcome{Backend: "one"}
	}
}

func speech(t *testing.T) Audio { return NewSpeech(mustLengths(t, "5"), MuLaw) }

// latencies are in ascending order, in milliseconds.
func latencies(r Result) []int64 {
	var ms []int64
	for _, s := range r.Samples {
		ms = append(ms, s.Latency().Milliseconds())
	}
	slices.Sort(ms)
	return ms
}

func TestBurstIsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(2, time.Second)
		watch := NewProgress(5)
		r := Run(t.Context(), NewSchedule(Load{Burst: 5}, speech(t), 1), s.send, watch)
		if got, want := latencies(r), []int64{1000, 1000, 2000, 2000, 3000}; !slices.Equal(got, want) {
			t.Errorf("latencies %v, want %v", got, want)
		}
		if s.busiest != 5 || r.Wall != 3*time.Second || r.Interrupted {
			t.Errorf("%d at once, %v in all, interrupted %v", s.busiest, r.Wall, r.Interrupted)
		}
		if done := watch.finished.Load(); done != 5 {
			t.Errorf("%d counted", done)
		}
	})
}

func TestClosedLoopKeepsItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(10, time.Second)
		r := Run(t.Context(), NewSchedule(Load{Clients: 3, Requests: 10}, speech(t), 1), s.send, nil)
		if len(r.Samples) != 10 || s.busiest != 3 || r.Wall != 4*time.Second {
			t.Errorf("%d requests, %d at once, %v in all", len(r.Samples), s.busiest, r.Wall)
		}
		for _, sample := range r.Samples {
			if sample.Latency() != time.Second || sample.Lag() != 0 {
				t.Errorf("latency %v, lag %v", sample.Latency(), sample.Lag())
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // for a time: the last begins before the end of it
		s := newServer(10, time.Second)
		r := Run(t.Context(), NewSchedule(Load{Clients: 2, Duration: 2500 * time.Millisecond}, speech(t), 1), s.send, nil)
		if len(r.Samples) != 6 || r.Wall != 3*time.Second {
			t.Errorf("%d requests, %v in all", len(r.Samples), r.Wall)
		}
	})
}

// Two clients of a server with one slot: each counted request waits for the other's, from the first
// to the last. Without Sustain the first would take one second, and the last have the server to itself.
func TestSustainedLoopsStayFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(1, time.Second)
		r := Run(t.Context(), NewSchedule(Load{Clients: 2, Requests: 4, Sustain: true}, speech(t), 1), s.send, nil)
		if got, want := latencies(r), []int64{2000, 2000, 2000, 2000}; !slices.Equal(got, want) || r.Wall != 8*time.Second {
			t.Errorf("latencies %v in %v, want %v", got, r.Wall, want)
		}
		var further []int
		for _, f := range r.Further {
			further = append(further, f.Index)
		}
		slices.Sort(further)
		if !slices.Equal(further, []int{0, 1, 2, 3, 8}) {
			t.Errorf("not counted are %v, want four before and one after", further)
		}
	})
}

// A server that stands still for ten seconds delays what comes meanwhile, and all of that is seen:
// the requests start when they are due, and count from then.
func TestOpenLoopSeesAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		stalled := 10 * time.Second
		send := func(context.Context, Job) Outcome {
			if since := time.Since(start); since < stalled {
				time.Sleep(stalled - since)
			}
			time.Sleep(time.Millisecond)
			return Outcome{}
		}
		r := Run(t.Context(), NewSchedule(Load{Rate: 100, Duration: 20 * time.Second}, speech(t), 1), send, nil)
		for _, s := range r.Samples {
			if s.Lag() != 0 {
				t.Fatalf("request %d began %v late", s.Index, s.Lag())
			}
			if want := max(time.Millisecond, stalled+time.Millisecond-s.At); s.Latency() != want {
				t.Fatalf("request %d at %v took %v, want %v", s.Index, s.At, s.Latency(), want)
			}
		}
		// Half of the requests came during the stall; its mean is five seconds.
		if s := Summarize(r); s.Latency.Mean < 2.3 || s.Latency.Mean > 2.7 {
			t.Errorf("mean %v, want about 2.5 s", s.Latency.Mean)
		}
	})
}

func TestAnEndedContextAbandons(t *testing.T) {
	for _, load := range []Load{{Burst: 50}, {Clients: 5, Requests: 50}, {Rate: 5, Requests: 50}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			s := newServer(1, time.Second)
			r := Run(ctx, NewSchedule(load, speech(t), 1), s.send, nil)
			sum := Summarize(r)
			if !r.Interrupted || sum.OK != 2 || sum.Requests != 2 || sum.Abandoned == 0 || r.Wall != 2500*time.Millisecond {
				t.Errorf("%v: %+v after %v", load, sum, r.Wall)
			}
		})
	}
}
