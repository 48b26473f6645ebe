package caddymodule

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/gpu"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

func catalogueOf(entries ...entry) *catalogue {
	c := &catalogue{entries: entries}
	for _, e := range entries {
		c.models = append(c.models, e.models...)
		c.open = c.open || e.told && e.models == nil
		c.silent = c.silent || !e.told
	}
	c.sort()
	return c
}

func told(models ...string) entry { return entry{models: models, told: true} }

func TestResolve(t *testing.T) {
	anything, silent := entry{told: true}, entry{}
	for _, c := range []struct {
		name         string
		handler      Handler
		catalogue    *catalogue
		api          transcript.API
		asked, model string
		status       int // of the refusal
		says         string
	}{
		{name: "by name", catalogue: catalogueOf(told("base", "tiny")), asked: "tiny", model: "tiny"},
		{name: "alias", handler: Handler{Aliases: map[string]string{"t": "tiny"}}, catalogue: catalogueOf(told("base", "tiny")), asked: "t", model: "tiny"},
		{name: "alias of a name for the default", handler: Handler{DefaultModel: "base", Aliases: map[string]string{"whisper-1": "tiny"}}, catalogue: catalogueOf(told("base", "tiny")), asked: "whisper-1", model: "tiny"},
		{name: "a model called whisper-1", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(told("base", "whisper-1")), asked: "whisper-1", model: "whisper-1"},
		{name: "default", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(told("base", "tiny")), asked: "whisper-1", model: "base"},
		{name: "default by alias", handler: Handler{DefaultModel: "b", Aliases: map[string]string{"b": "base"}}, catalogue: catalogueOf(told("base", "tiny")), asked: "gpt-4o-transcribe", model: "base"},
		{name: "the only one", catalogue: catalogueOf(told("base"), told("base")), asked: "whisper-1", model: "base"},
		{name: "several and no default", catalogue: catalogueOf(told("base", "tiny")), asked: "whisper-1", status: 404, says: "this pool has none; there are base, tiny"},
		{name: "inference ignores it", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(told("base", "tiny")), api: transcript.WhisperServer, asked: "tiny", model: "base"},
		{name: "unknown", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(told("base", "tiny")), asked: "huge", status: 404, says: `"huge" does not exist; there are base, tiny`},
		{name: "unknown, and somebody has not told", catalogue: catalogueOf(told("base"), silent), asked: "huge", status: 404, says: "maybe more on backends that do not answer"},
		{name: "nobody has told", catalogue: catalogueOf(silent), asked: "huge", status: 503},
		{name: "nobody has told, default", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(silent), asked: "whisper-1", model: "base"},
		{name: "nobody has told, default by name", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(silent), asked: "base", model: "base"},
		{name: "nobody has told, no default", catalogue: catalogueOf(silent), asked: "whisper-1", status: 503},
		{name: "default that nobody serves", handler: Handler{DefaultModel: "huge"}, catalogue: catalogueOf(told("base")), asked: "whisper-1", status: 404, says: "default_model is huge, which no backend serves; there are base"},
		{name: "alias of what nobody serves", handler: Handler{Aliases: map[string]string{"h": "huge"}}, catalogue: catalogueOf(told("base")), asked: "h", status: 404, says: `alias "h" stands for the model huge, which no backend serves`},
		{name: "no names at all", catalogue: catalogueOf(anything), asked: "large-v3", model: ""},
		{name: "no names at all, default", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(anything), asked: "whisper-1", model: "base"},
		{name: "no names at all, default, another", handler: Handler{DefaultModel: "base"}, catalogue: catalogueOf(anything), asked: "large-v3", status: 404, says: "there are base"},
		{name: "names and anything", catalogue: catalogueOf(anything, told("base")), asked: "large-v3", status: 404, says: "there are base"},
	} {
		t.Run(c.name, func(t *testing.T) {
			model, problem := c.handler.resolve(c.catalogue, c.api, c.asked)
			switch {
			case c.status == 0 && (problem != nil || model != c.model):
				t.Errorf("%q, %+v", model, problem)
			case c.status != 0 && (problem == nil || problem.Status != c.status || !strings.Contains(problem.Message, c.says)):
				t.Errorf("%q, %+v", model, problem)
			}
			if problem != nil && problem.Status == 404 && problem.Final == c.catalogue.silent {
				t.Errorf("final %v although backends have told %v", problem.Final, !c.catalogue.silent)
			}
		})
	}
}

func TestLongNamesAreCut(t *testing.T) {
	_, problem := new(Handler).resolve(catalogueOf(told("base", "tiny")), transcript.OpenAI, strings.Repeat("ä", 10000))
	if problem == nil || len(problem.Message) > 300 {
		t.Errorf("%+v", problem)
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = strings.Repeat("m", i+1)
	}
	if _, problem := new(Handler).resolve(catalogueOf(told(many...)), transcript.OpenAI, "x"); !strings.Contains(problem.Message, "and 150 more") {
		t.Errorf("%s", problem.Message)
	}
}

func TestAble(t *testing.T) {
	c := catalogueOf(
		entry{models: []string{"base"}, told: true, can: map[string]upstream.Can{"base": {Words: true}}},
		entry{models: []string{"base", "tiny.en"}, told: true, can: map[string]upstream.Can{"base": {Translate: true, Languages: true}}},
	)
	for _, q := range []struct {
		model string
		needs scheduler.Capability
		able  bool
	}{
		{"base", 0, true},
		{"base", scheduler.CanWords, true},
		{"base", scheduler.CanTranslate | scheduler.CanLanguages, true},
		{"base", scheduler.CanTranslate | scheduler.CanWords, false}, // no one has both
		{"tiny.en", scheduler.CanTranslate, false},
		{"tiny.en", scheduler.CanLanguages, false},
		{"huge", 0, false},
	} {
		if got := c.able(q.model, q.needs); got != q.able {
			t.Errorf("%s with %b: %v", q.model, q.needs, got)
		}
	}
}

// TestPriorsPerModel: before anything was learned, each model of a backend is expected to take what the
// class takes with it, whether the model was configured, reported or is only named by a site.
func TestPriorsPerModel(t *testing.T) {
	reports := newWhisper(t, func(s *whisper) { s.models = []string{"base", "large-v3", "own-model"} })
	restricted := newWhisper(t, func(s *whisper) { s.models = []string{"base", "small"} })
	silent := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" })
	plain := newWhisper(t)
	p := newProxy(t, fmt.Sprintf("backend %s T4 {\n\tname reports\n}\nbackend %s H100 {\n\tname restricted\n\tmodels small\n}\n"+
		"backend %s A10G {\n\tname silent\n}\nbackend %s {\n\tname plain\n}\ndefault_model base\nalias huge large-v3",
		reports.address(), restricted.address(), silent.address(), plain.address()))
	p.ready(4)
	config := p.pool().schedulerConfig()
	for i, want := range []map[string]string{
		{"base": "T4", "large-v3": "T4"}, {"small": "H100"}, {"base": "A10G", "large-v3": "A10G"}, {},
	} {
		got := config.Backends[i].Priors
		if len(got) != len(want) {
			t.Errorf("%s has priors %v", config.Backends[i].ID, got)
		}
		for model, class := range want {
			fixed, perSecond, ok := gpu.Prior(class, model)
			if law := (scheduler.Law{Fixed: fixed, PerSecond: perSecond}); !ok || got[model] != law {
				t.Errorf("%s, %s: %v, want %v", config.Backends[i].ID, model, got[model], law)
			}
		}
	}
	// The scheduler has been told, although the models were reported after it was configured.
	if r := p.post(transcriptions, wav(10), "model=huge"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	var line struct{ Predicted float64 }
	for text := range strings.Lines(p.log()) {
		if strings.Contains(text, "attempt succeeded") {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	fixed, perSecond, _ := gpu.Prior("A10G", "large-v3") // the faster of the two that can
	if want := (fixed + 10*perSecond).Seconds(); math.Abs(line.Predicted-want) > 1e-6 {
		t.Errorf("predicted %v s, want %v", line.Predicted, want)
	}
}
