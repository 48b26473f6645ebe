package caddymodule

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// explained asks what is remembered of a request.
func explained(t *testing.T, admin *proxy, id string) (all []explanation, text string) {
	t.Helper()
	r := admin.get("/whisper_pool/explain?request_id=" + url.QueryEscape(id))
	var got struct{ Requests []explanation }
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != http.StatusOK || len(got.Requests) == 0 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	return got.Requests, r.body
}

func (p *proxy) postAs(id string, file []byte, fields ...string) response {
	p.t.Helper()
	return p.persist(func() (response, error) {
		return p.postWith(p.t.Context(), transcriptions, http.Header{"X-Request-Id": {id}}, file, fields...)
	})
}

// TestExplain: a request that failed on one backend and was served by another says so, with what each placement was
// chosen from and what was learned since; nothing else that its client wrote is told.
func TestExplain(t *testing.T) {
	var asked atomic.Int32
	first := func(w http.ResponseWriter, r *http.Request, got sent) {
		if asked.Add(1) == 1 {
			http.Error(w, canary, http.StatusInternalServerError)
			return
		}
		speak(w, r, got)
	}
	a, b := newWhisper(t, func(s *whisper) { s.answer = first }), newWhisper(t, func(s *whisper) { s.answer = first })
	c := newWhisper(t, func(s *whisper) { s.models = []string{"large-v3"} })
	p, admin := adminProxy(t, fmt.Sprintf("backend %s H100 {\n\tname a\n}\nbackend %s T4 {\n\tname b\n}\nbackend %s {\n\tname c\n}", a.address(), b.address(), c.address()))
	p.ready(3)
	r := p.postAs("order-66", canaryWAV(2), "model=base", "prompt="+canary)
	if r.status != http.StatusOK || r.header.Get("X-Whisperpool-Attempts") != "2" {
		t.Fatalf("status %d, %v: %s", r.status, r.header, r.body)
	}
	eventually(t, "the request is over", func() bool { all, _ := explained(t, admin, "order-66"); return all[0].Outcome == "served" })
	all, text := explained(t, admin, "order-66")
	e := all[0]
	if len(all) != 1 || e.Pool != "default" || e.Model != "base" || e.Audio < 1.9 || e.Audio > 2.1 || len(e.Attempts) != 2 {
		t.Fatalf("%s", text)
	}
	failed, served := e.Attempts[0], e.Attempts[1]
	if failed.Result != "failed" || !strings.Contains(failed.Detail, "500") || failed.Backend == served.Backend || served.Result != "success" || served.Took <= 0 {
		t.Errorf("%+v", e.Attempts)
	}
	if len(failed.Candidates) != 2 || failed.Candidates[0].Backend != failed.Backend || failed.Candidates[0].Service <= 0 ||
		len(failed.Absent) != 1 || failed.Absent[0] != (absenceTold{"c", "does not serve the model"}) {
		t.Errorf("the first was chosen from %+v, and not %+v", failed.Candidates, failed.Absent)
	}
	learned := false
	for _, now := range e.Since {
		if now.Backend == served.Backend {
			learned = now.Samples == 1 && now.Service > 0 && now.Predicted == served.Predicted && now.Took == served.Took
		}
	}
	if !learned || len(e.Since) != 2 {
		t.Errorf("learned since: %+v", e.Since)
	}
	for _, words := range []string{string(failed.Backend) + ": failed", "Then went to " + string(served.Backend), "c could not take it"} {
		if !strings.Contains(e.InWords, words) && !strings.Contains(e.InWords, strings.Replace(words, "Then went to", "Went to", 1)) {
			t.Errorf("%q is not in %q", words, e.InWords)
		}
	}
	if strings.Contains(text, canary) || strings.Contains(text, "secret-name") {
		t.Errorf("what the client or a backend wrote is told: %s", text)
	}
	last := p.pool().lastPlacements(10)
	if len(last) != 1 || last[0].RequestID != "order-66" || last[0].Backend != served.Backend || last[0].Outcome != "served" ||
		last[0].Result != "success" || last[0].Number != 2 || last[0].Running || last[0].Model != "base" || last[0].Why == "" || last[0].InWords == "" {
		t.Errorf("the last placements: %+v", last)
	}
	// A reload keeps it, and a second request of the same id is told, too, first.
	p.mustLoad(site(p.url, fmt.Sprintf("backend %s H100 {\n\tname a\n}", a.address())))
	if r := p.postAs("order-66", wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if all, text := explained(t, admin, "order-66"); len(all) != 2 || len(all[0].Attempts) != 1 || len(all[1].Attempts) != 2 {
		t.Errorf("%s", text)
	}
}

// TestExplainWhileItRuns: one that runs and one that waits are told as such.
func TestExplainWhileItRuns(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.answer = held(gate) })
	p, admin := adminProxy(t, "backend "+backend.address()+" {\n\tname a\n}")
	p.ready(1)
	done := make(chan response, 2)
	for i, id := range []string{"runs", "waits"} {
		go func() {
			r, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {id}}, wav(1), "model=base")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		eventually(t, id, func() bool {
			s := p.pool().dispatcher.Snapshot()
			return s.Running+s.Queued == i+1
		})
	}
	eventually(t, "both are told", func() bool {
		return len(p.pool().memory.told("runs")) == 1 && len(p.pool().memory.told("waits")) == 1 && len(p.pool().lastPlacements(5)) == 1
	})
	if all, text := explained(t, admin, "runs"); all[0].Outcome != "running" || all[0].Attempts[0].Result != "running" || !strings.Contains(all[0].InWords, "It has run for") {
		t.Errorf("%s", text)
	}
	if last := p.pool().lastPlacements(5); !last[0].Running || last[0].Outcome != "" || last[0].Result != "" || last[0].Job == 0 {
		t.Errorf("%+v", last)
	}
	all, text := explained(t, admin, "waits")
	if all[0].Outcome != "waiting" || len(all[0].Attempts) != 0 || len(all[0].Since) != 1 || all[0].Since[0].Idle || !strings.Contains(all[0].InWords, "Has waited") {
		t.Errorf("%s", text)
	}
	close(gate)
	for range 2 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}

// TestExplainRefused: one that was turned away tells what each backend lacked.
func TestExplainRefused(t *testing.T) {
	a, b := newWhisper(t), newWhisper(t, func(s *whisper) { s.models = []string{"tiny"} })
	p, admin := adminProxy(t, fmt.Sprintf("backend %s H100 {\n\tname a\n}\nbackend %s {\n\tname b\n}", a.address(), b.address()))
	p.ready(2)
	if r := admin.adminPost("/whisper_pool/pools/default/backends/a/drain"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	r := p.postAs("nobody", wav(1), "model=base")
	if r.status != http.StatusServiceUnavailable {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	all, text := explained(t, admin, "nobody")
	e := all[0]
	if e.Outcome != "no_backend" || len(e.Attempts) != 0 || len(e.Backends) != 2 {
		t.Fatalf("%s", text)
	}
	for _, found := range e.Backends {
		if want := map[scheduler.BackendID]string{"a": "drained by an operator", "b": "does not serve the model"}[found.Backend]; found.Lacks != want {
			t.Errorf("%s lacks %q, not %q", found.Backend, found.Lacks, want)
		}
	}
	if !strings.Contains(e.InWords, "Not served (no_backend)") || !strings.Contains(e.InWords, "a could not take it (drained by an operator)") {
		t.Error(e.InWords)
	}
	if r := p.postAs("nonsense", []byte("no audio"), "model=base", "response_format=no"); r.status != http.StatusBadRequest {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	for path, want := range map[string]struct {
		status int
		words  string
	}{
		"?request_id=nonsense":            {http.StatusNotFound, `nothing is remembered of the request \"nonsense\"; pool default: no request has been placed yet`},
		"":                                {http.StatusBadRequest, "say which request: ?request_id="},
		"?request_id=%3Cscript%3E%00%0A%": {http.StatusBadRequest, "say which request"},
	} {
		if r := admin.get("/whisper_pool/explain" + path); r.status != want.status || !strings.Contains(r.body, want.words) {
			t.Errorf("%q: status %d: %s", path, r.status, r.body)
		}
	}
	if r := admin.adminPost("/whisper_pool/explain?request_id=nobody"); r.status != http.StatusMethodNotAllowed {
		t.Errorf("status %d: %s", r.status, r.body)
	}
}

// slim is as long as it says and has few bytes, so that nobody waits for its upload.
func slim(seconds int) []byte {
	clip := wav(float64(seconds) / 16)
	binary.LittleEndian.PutUint32(clip[24:], 1000) // samples a second
	binary.LittleEndian.PutUint32(clip[28:], 2000) // bytes a second
	return clip
}

// TestLeftIdle: a request that waits for a fast backend though a slow one is idle says so.
func TestLeftIdle(t *testing.T) {
	gate := make(chan struct{})
	a, b := newWhisper(t, func(s *whisper) { s.answer = held(gate) }), newWhisper(t)
	p, admin := adminProxy(t, fmt.Sprintf("backend %s H100 {\n\tname h100\n}\nbackend %s T4 {\n\tname t4\n}", a.address(), b.address()))
	p.ready(2)
	done := make(chan response, 2)
	for i, clip := range [][]byte{slim(60), slim(600)} { // the sooner the first is to end, the more it is worth to wait
		go func() {
			r, err := p.postWith(t.Context(), transcriptions, http.Header{"X-Request-Id": {fmt.Sprint("long-", i)}}, clip, "model=base")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		eventually(t, "it came", func() bool { s := p.pool().dispatcher.Snapshot(); return s.Running+s.Queued == i+1 })
	}
	close(gate)
	for range 2 {
		if r := <-done; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
	all, text := explained(t, admin, "long-1")
	left := all[0].LeftIdle
	if left == nil || left.Backend != "t4" || left.WaitedFor != "h100" || left.Finish <= left.FinishThere || left.FinishThere <= 0 {
		t.Fatalf("%s", text)
	}
	if !strings.Contains(all[0].InWords, "for h100, which was predicted to finish in") || !strings.Contains(all[0].InWords, "t4 was idle but would have taken") {
		t.Error(all[0].InWords)
	}
}

// TestMemoryIsBounded: the last are kept, and of many attempts the first and the last.
func TestMemoryIsBounded(t *testing.T) {
	m := newMemory()
	attempt := func(n int) dispatcher.Attempt {
		return dispatcher.Attempt{Dispatch: scheduler.Dispatch{Attempt: scheduler.AttemptID(n), Number: n, Backend: "a", Reason: scheduler.Best}}
	}
	none := &look{}
	for i := range 3 * placedKept {
		s := m.begin(fmt.Sprint("r", i), scheduler.Job{Model: "base"})
		s.placed(attempt(1), "", none, time.Now())
		s.over("served", "", 0, nil)
		m.begin(fmt.Sprint("n", i), scheduler.Job{}).over("no_backend", "no_backend", 0, none)
	}
	if len(m.waiting) != 0 || len(m.placed.stories) != placedKept || len(m.refused.stories) != refusedKept {
		t.Errorf("%d wait, %d were placed, %d refused", len(m.waiting), len(m.placed.stories), len(m.refused.stories))
	}
	for id, want := range map[string]int{"r2999": 1, "r2000": 1, "r1999": 0, "n2999": 1, "n2750": 1, "n2749": 0} {
		if got := len(m.told(id)); got != want {
			t.Errorf("%d stories of %s", got, id)
		}
	}
	if newest := m.placed.newestFirst(2); newest[0].id != "r2999" || newest[1].id != "r2998" {
		t.Errorf("the newest are %s and %s", newest[0].id, newest[1].id)
	}
	s := m.begin("often", scheduler.Job{})
	for n := 1; n <= 20; n++ {
		s.placed(attempt(n), "", none, time.Now())
		s.attempted(attempt(n), scheduler.Outcome{Result: scheduler.Died, Detail: strings.Repeat("x", 1000)}, time.Second)
	}
	if len(s.attempts) != attemptsKept || s.leftOut != 20-attemptsKept || s.attempts[0].Number != 1 || s.attempts[attemptsKept-1].Number != 20 ||
		len(s.attempts[0].detail) != detailKept {
		t.Errorf("%d attempts, %d left out", len(s.attempts), s.leftOut)
	}
}

// TestStoriesInWords: what is said of requests, as a person reads it.
func TestStoriesInWords(t *testing.T) {
	now := time.Now()
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	chosen := scheduler.Candidate{Backend: "h100-1", Idle: true, Slots: 1, Predicted: second(1.9), Known: true}
	next := scheduler.Candidate{Backend: "h100-2", Slots: 1, FreeIn: second(.5), Predicted: second(2), Known: true}
	at := func(reason scheduler.Reason, waited float64, result scheduler.Result) *chapter {
		return &chapter{
			Dispatch: scheduler.Dispatch{Backend: "h100-1", Reason: reason, Waited: second(waited), Predicted: second(1.9)}, began: now.Add(-second(2)),
			considered: scheduler.Considered{Candidates: []scheduler.Candidate{chosen, next}}, result: result, took: second(2),
		}
	}
	waited := at(scheduler.Best, 3.2, scheduler.Success)
	waited.considered.Declined = scheduler.Declined{For: "h100-1", In: second(5.1), Idle: "a10g-2", IdleIn: second(12.4)}
	failed := at(scheduler.Near, 0, scheduler.Died)
	failed.detail = "connection reset"
	explored := at(scheduler.Explore, 0, 0)
	explored.considered.Candidates = explored.considered.Candidates[:1]
	explored.absent = []absence{{"t4-1", "its health check fails"}, {"t4-2", "drained by an operator"}}
	for want, s := range map[string]*story{
		"Waited 3.2 s for h100-1, which was predicted to finish in 5.1 s; a10g-2 was idle but would have taken 12.4 s. Then went to h100-1: " +
			"it would be done there first (predicted 1.9 s; on h100-2 2.5 s, with 500 ms until it is free). It took 2.0 s, 105 % of what was predicted.": {attempts: []*chapter{waited}, outcome: "served"},
		"Went to h100-1 at once: its speed was to be learned (at a guess in 1.9 s). It has run for 2.0 s. Before that h100-1: died (connection reset) after 2.0 s. " +
			"t4-1 could not take it: its health check fails. t4-2 could not take it: drained by an operator.": {attempts: []*chapter{failed, explored}},
		"Not served (wait_too_long) after it had waited 4m0s: h100-1 was busy for 5.0 s, and would then have taken 1.9 s; t4-1 could not take it (its health check fails).": {
			outcome: "wait_too_long", waited: 4 * time.Minute, found: []scheduler.Prospect{
				{Backend: "h100-1", FreeIn: second(5), Predicted: second(1.9)}, {Backend: "t4-1", Lacks: "its health check fails"},
			}},
		"Went to h100-1 at once: it was idle, and waiting for another would not have been worth it (predicted 1.9 s; on h100-2 2.5 s, with 500 ms " +
			"until it is free). That ended as died (connection reset) after 2.0 s, and the request as no_backend. When it was given up: h100-1 could not take it (left alone).": {
			attempts: []*chapter{failed}, outcome: "no_backend", found: []scheduler.Prospect{{Backend: "h100-1", Lacks: "left alone"}},
		},
		"Not served (queue_full).": {outcome: "queue_full"},
	} {
		if got := s.inWords(now); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	for _, r := range scheduler.Reasons {
		if r != scheduler.Wait && reasonWords[r] == "" { // which is nobody's reason to dispatch
			t.Errorf("there are no words for %v", r)
		}
	}
}
