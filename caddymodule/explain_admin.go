package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/scheduler"
)

// explanation is a story as the admin API tells it. Times are in seconds, rounded to milliseconds; docs/logs.md has the
// meaning of each.
type explanation struct {
	RequestID    string          `json:"request_id"`
	Pool         string          `json:"pool"`
	InWords      string          `json:"in_words"`
	Came         time.Time       `json:"came"`
	Model        string          `json:"model"`
	Audio        float64         `json:"audio_s"` // 0: not told
	AudioGuessed bool            `json:"audio_guessed,omitempty"`
	Outcome      string          `json:"outcome"` // waiting, running, or as in whisperpool_requests_total
	Code         string          `json:"code,omitempty"`
	Waited       float64         `json:"waited_s"`
	LeftIdle     *leftIdle       `json:"left_idle,omitempty"`
	Attempts     []attemptTold   `json:"attempts"`
	AttemptsNot  int             `json:"attempts_left_out,omitempty"`
	Backends     []prospectTold  `json:"backends,omitempty"` // of one that was turned away: what they were then
	BackendsNot  int             `json:"backends_left_out,omitempty"`
	Since        []prospectSince `json:"now"`
}

// leftIdle is why the request waited though a backend was idle.
type leftIdle struct {
	After       float64             `json:"after_s"` // in the queue
	Backend     scheduler.BackendID `json:"backend"`
	Finish      float64             `json:"finish_s"`
	WaitedFor   scheduler.BackendID `json:"waited_for"`
	FinishThere float64             `json:"finish_there_s"` // the wait for it included
}

type attemptTold struct {
	Number        int                 `json:"number"`
	Backend       scheduler.BackendID `json:"backend"`
	Class         string              `json:"class,omitempty"`
	Reason        string              `json:"reason"`
	Why           string              `json:"why"`
	Began         time.Time           `json:"began"`
	Waited        float64             `json:"waited_s"`
	Predicted     float64             `json:"predicted_s"` // 0: nothing was known
	Took          float64             `json:"took_s"`      // so far, while it runs
	Result        string              `json:"result"`
	Detail        string              `json:"detail,omitempty"`
	Candidates    []candidateTold     `json:"candidates"` // the chosen one, then by finish
	CandidatesNot int                 `json:"candidates_left_out,omitempty"`
	Absent        []absenceTold       `json:"could_not_take_it,omitempty"`
	AbsentNot     int                 `json:"could_not_take_it_left_out,omitempty"`
}

type candidateTold struct {
	Backend scheduler.BackendID `json:"backend"`
	Idle    bool                `json:"idle"`
	Running int                 `json:"running"`
	Slots   int                 `json:"slots"`
	FreeIn  float64             `json:"free_in_s"`
	Service float64             `json:"service_s"`
	Finish  float64             `json:"finish_s"`
	Known   bool                `json:"known"` // the speed was learned, or has a prior
}

type absenceTold struct {
	Backend scheduler.BackendID `json:"backend"`
	Why     string              `json:"why"`
}

type prospectTold struct {
	Backend scheduler.BackendID `json:"backend"`
	Class   string              `json:"class,omitempty"`
	Lacks   string              `json:"lacks,omitempty"`
	Idle    bool                `json:"idle"`
	Running int                 `json:"running"`
	Slots   int                 `json:"slots"`
	FreeIn  float64             `json:"free_in_s"`
	Service float64             `json:"service_s"` // 0: not known
}

// prospectSince is what has been learned since: what the same job would take now, beside what was predicted and what
// it took.
type prospectSince struct {
	prospectTold
	Samples   int     `json:"samples"`                    // that service_s is learned from
	Predicted float64 `json:"predicted_then_s,omitempty"` // of the attempt, or of a candidate
	Took      float64 `json:"took_s,omitempty"`           // of the attempt that succeeded there
}

func inSeconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

func tellProspect(p scheduler.Prospect) prospectTold {
	return prospectTold{p.Backend, p.Class, p.Lacks, p.Idle, p.Outstanding, p.Slots, inSeconds(p.FreeIn), inSeconds(p.Predicted)}
}

// explain tells a story, as of now.
func (p *Pool) explain(s *story) explanation {
	now := time.Now()
	prospects := p.dispatcher.Prospects(s.job)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := explanation{
		RequestID: s.id, Pool: p.name, InWords: s.inWords(now), Came: s.came, Model: s.job.Model, Audio: s.job.AudioSeconds,
		AudioGuessed: s.job.SizeGuessed, Outcome: s.outcome, Code: s.code, Waited: inSeconds(s.waited),
		Attempts: []attemptTold{}, AttemptsNot: s.leftOut, BackendsNot: s.foundNot,
	}
	for _, c := range s.attempts {
		out.Attempts = append(out.Attempts, c.tell(now))
		if d := c.considered.Declined; d.For != "" {
			out.LeftIdle = &leftIdle{inSeconds(d.Waited), d.Idle, inSeconds(d.IdleIn), d.For, inSeconds(d.In)}
		}
	}
	for _, prospect := range s.found {
		out.Backends = append(out.Backends, tellProspect(prospect))
	}
	switch {
	case s.outcome != "":
	case len(s.attempts) > 0:
		last := s.attempts[len(s.attempts)-1]
		out.Outcome, out.Waited = "running", inSeconds(last.Waited)
		if last.result != 0 {
			out.Outcome = "waiting"
		}
	default:
		out.Outcome, out.Waited = "waiting", inSeconds(now.Sub(s.came))
	}
	out.Since = s.since(prospects)
	return out
}

func (c *chapter) tell(now time.Time) attemptTold {
	out := attemptTold{
		Number: c.Number, Backend: c.Backend, Class: c.class, Reason: c.Reason.String(), Why: c.why(), Began: c.began, Waited: inSeconds(c.Waited),
		Predicted: inSeconds(c.Predicted), Took: inSeconds(c.took), Result: "running", Detail: c.detail,
		Candidates: []candidateTold{}, CandidatesNot: c.considered.More, AbsentNot: c.absentNot,
	}
	if c.result != 0 {
		out.Result = c.result.String()
	} else {
		out.Took = inSeconds(now.Sub(c.began))
	}
	for _, o := range c.considered.Candidates {
		out.Candidates = append(out.Candidates, candidateTold{
			o.Backend, o.Idle, o.Outstanding, o.Slots, inSeconds(o.FreeIn), inSeconds(o.Predicted), inSeconds(o.FreeIn + o.Predicted), o.Known,
		})
	}
	for _, a := range c.absent {
		out.Absent = append(out.Absent, absenceTold{a.backend, a.why})
	}
	return out
}

// since are the backends that the story is about, as they would be for the same job now; of one that was not placed,
// all, up to a bound. Requires: mu is held.
func (s *story) since(prospects []scheduler.Prospect) []prospectSince {
	then, took := map[scheduler.BackendID]time.Duration{}, map[scheduler.BackendID]time.Duration{}
	for _, c := range s.attempts {
		for _, o := range c.considered.Candidates {
			then[o.Backend] = o.Predicted
		}
		then[c.Backend] = c.Predicted
		if c.result == scheduler.Success {
			took[c.Backend] = c.took
		}
	}
	out := []prospectSince{}
	for _, p := range prospects {
		predicted, about := then[p.Backend]
		if (about || len(then) == 0) && len(out) < 2*listKept {
			out = append(out, prospectSince{tellProspect(p), p.Observations, inSeconds(predicted), inSeconds(took[p.Backend])})
		}
	}
	return out
}

// told finds the stories of a request's id, the newest first: a client may send several requests with one.
func (m *memory) told(id string) (found []*story) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.waiting {
		if s.id == id {
			found = append(found, s)
		}
	}
	for _, r := range []*ring{&m.placed, &m.refused} {
		for _, s := range r.newestFirst(r.most) {
			if s.id == id {
				found = append(found, s)
			}
		}
	}
	slices.SortFunc(found, func(a, b *story) int { return b.came.Compare(a.came) })
	return found
}

// reach says how far back the memory goes, for whoever asks for what is not in it.
func (m *memory) reach() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := m.placed.newestFirst(placedKept)
	if len(oldest) == 0 {
		return "no request has been placed yet"
	}
	came := oldest[len(oldest)-1].came
	return fmt.Sprintf("the last %d that went to a backend are remembered, since %s", len(oldest), came.Format(time.RFC3339))
}

// explainPath is where requests are explained, of all pools.
const explainPath = "explain"

// serveExplain answers with what is remembered of a request's id, in whichever pool.
func serveExplain(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	id := r.URL.Query().Get("request_id")
	if id == "" {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New(
			"say which request: ?request_id= with what the answer's header X-Request-Id had")}
	}
	told, reach := []explanation{}, ""
	for _, p := range allPools() {
		for _, s := range p.memory.told(id) {
			told = append(told, p.explain(s))
		}
		reach += fmt.Sprintf("; pool %s: %s", p.name, p.memory.reach())
	}
	if len(told) == 0 {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf(
			"nothing is remembered of the request %s%s. What is uploaded yet and what a client did wrong is not remembered, and nothing over a restart; the access log has the same (docs/logs.md)",
			quoted(id), reach)}
	}
	writeJSON(w, http.StatusOK, map[string]any{"requests": told})
	return nil
}
