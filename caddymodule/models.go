package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// catalogue is what the backends of a pool serve, as far as it is known.
type catalogue struct {
	entries []entry
	models  []string // configured or reported, sorted
	open    bool     // some backend takes any model
	silent  bool     // some backend has not told what it serves
	pending int      // backends whose first probe has not ended
	unfound bool     // some source of backends fails, or gives none
}

// entry is one backend's part.
type entry struct {
	models []string // nil: any
	told   bool     // models is known to hold
	can    map[string]upstream.Can
	lacks  scheduler.Capability // what its kind is not known to be able to do, whatever the model
}

func (c *catalogue) add(m *member) {
	e := entry{models: m.target.config.Models, told: m.target.config.Models != nil, lacks: lacks(m.kind)}
	if m.report != nil {
		e.can = m.report.Can
		if !e.told {
			e.models, e.told = m.report.Models, true
		}
	}
	c.entries = append(c.entries, e)
	c.models = append(c.models, e.models...)
	c.open = c.open || e.told && e.models == nil
	c.silent = c.silent || !e.told
	if !m.probed {
		c.pending++
	}
}

func (c *catalogue) sort() {
	slices.Sort(c.models)
	c.models = slices.Compact(c.models)
	c.silent = c.silent || len(c.entries) == 0 // who will be found has not told
}

func (c *catalogue) has(model string) bool {
	_, ok := slices.BinarySearch(c.models, model)
	return ok
}

// serves tells whether the backend may be sent a job for the model. One that has not told yet may.
func (e *entry) serves(model string) bool {
	return !e.told || e.models == nil || slices.Contains(e.models, model)
}

// able are the needs that the backend can meet with the model.
func (e *entry) able(model string) scheduler.Capability {
	can, ok := e.can[model]
	if !ok {
		can = upstream.CanByName(model)
	}
	return (capability(can) | scheduler.CanContainers | scheduler.CanSpeakers) &^ e.lacks
}

// lacks are the capabilities that a kind is not known to have. One that is not found out yet may have all.
func lacks(kind upstream.Kind) scheduler.Capability {
	var lacking scheduler.Capability
	if kind == nil {
		return 0
	}
	if !kind.DecodesAll() {
		lacking |= scheduler.CanContainers
	}
	if !kind.TellsSpeakers() {
		lacking |= scheduler.CanSpeakers
	}
	return lacking
}

// containers is what a job needs for its kind of audio file: nothing where every backend decodes it, nor
// where none is known to, for then whoever serves the model has to say.
func (c *catalogue) containers(model string, needs scheduler.Capability, f audio.Format) scheduler.Capability {
	if upstream.Plain(f) || len(c.entries) == 0 || !c.able(model, needs|scheduler.CanContainers) {
		return 0
	}
	return scheduler.CanContainers
}

// able tells whether some backend may be sent a job for the model with these needs.
func (c *catalogue) able(model string, needs scheduler.Capability) bool {
	if len(c.entries) == 0 { // who will be found may be
		return new(entry).able(model)&needs == needs
	}
	return slices.ContainsFunc(c.entries, func(e entry) bool {
		return e.serves(model) && e.able(model)&needs == needs
	})
}

func capability(can upstream.Can) scheduler.Capability {
	var c scheduler.Capability
	if can.Translate {
		c |= scheduler.CanTranslate
	}
	if can.Words {
		c |= scheduler.CanWords
	}
	if can.Languages {
		c |= scheduler.CanLanguages
	}
	return c
}

// resolve finds the model that a client means: 1. an alias's, 2. one that exists by that name, 3. the
// default, for the names that stand for it. It is "" where the backends have no names for theirs.
func (h *Handler) resolve(c *catalogue, api transcript.API, asked string) (string, *transcript.Error) {
	if api == transcript.WhisperServer || api == transcript.ASR {
		asked = "" // as whisper-server, which has one model and ignores the field, and whisper-asr-webservice
	}
	if model, ok := h.Aliases[asked]; ok {
		return h.configured(c, model, "alias "+quoted(asked)+" stands for the model "+model)
	}
	if asked != "" && c.has(asked) {
		return asked, nil
	}
	if asked == "" || transcript.MeansDefault(asked) || len(c.models) == 0 && c.open && h.DefaultModel == "" {
		return h.fallback(c, asked)
	}
	if asked == h.DefaultModel {
		return h.configured(c, asked, "default_model is "+asked)
	}
	if len(c.models) == 0 && c.silent {
		return "", c.untold()
	}
	return "", h.noSuchModel(c, "the model "+quoted(asked)+" does not exist")
}

// fallback is the default model: the configured one, else the only one there is.
func (h *Handler) fallback(c *catalogue, asked string) (string, *transcript.Error) {
	switch {
	case h.DefaultModel != "":
		model := h.DefaultModel
		if to, ok := h.Aliases[model]; ok {
			model = to
		}
		return h.configured(c, model, "default_model is "+model)
	case len(c.models) == 1:
		return c.models[0], nil
	case len(c.models) > 1:
		return "", h.noSuchModel(c, quoted(asked)+" means the default model, and this pool has none")
	case c.open:
		return "", nil
	default:
		return "", c.untold()
	}
}

// untold is the refusal while nobody has told what there is.
func (c *catalogue) untold() *transcript.Error {
	if len(c.entries) == 0 {
		return c.noBackend("", probeInterval)
	}
	return transcript.Unavailable("no_backend", probeInterval, "no backend has told which models it serves yet; try again soon")
}

// noBackend is the refusal where nobody can be sent a job for the model.
func (c *catalogue) noBackend(model string, again time.Duration) *transcript.Error {
	why := ""
	if c.unfound {
		why = ", and looking for more finds none"
	}
	return transcript.Unavailable("no_backend", again, "no backend can be used %sat present%s; try again later", forModel(model), why)
}

// configured is a model that the configuration names. That nobody serves it is only certain when
// every backend has told.
func (h *Handler) configured(c *catalogue, model, why string) (string, *transcript.Error) {
	if c.has(model) || c.open || c.silent {
		return model, nil
	}
	return "", h.noSuchModel(c, why+", which no backend serves")
}

const modelsListedMax = 50

func (h *Handler) noSuchModel(c *catalogue, why string) *transcript.Error {
	names := h.modelNames(c)
	list := "there are " + strings.Join(names[:min(len(names), modelsListedMax)], ", ")
	switch {
	case len(names) == 0:
		list = "there is none at present"
	case len(names) > modelsListedMax:
		list += fmt.Sprintf(" and %d more", len(names)-modelsListedMax)
	}
	if c.silent {
		list += " (and maybe more on backends that do not answer)"
	}
	return &transcript.Error{
		Status: http.StatusNotFound, Type: "invalid_request_error", Param: "model", Code: "model_not_found",
		Message: why + "; " + list, Final: !c.silent,
	}
}

// modelNames are all names that a client can use.
func (h *Handler) modelNames(c *catalogue) []string {
	names := append(slices.Clone(c.models), slices.Collect(maps.Keys(h.Aliases))...)
	if h.DefaultModel != "" && (c.open || c.silent) {
		names = append(names, h.DefaultModel)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// quoted is a client's own word, cut to a length fit for a message.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}

// model is one model as OpenAI's API lists it.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// started stands for the time at which the models came to be, which nobody knows.
var started = time.Now().Unix()

func describe(name string) model { return model{name, "model", started, "whisperpool"} }

// serveModels answers GET /v1/models and GET /v1/models/{id}.
func (h *Handler) serveModels(w http.ResponseWriter, r *http.Request, pool *Pool, id string) {
	pool.ready(r.Context()) // else the list is empty
	c := pool.await(r.Context(), firstProbeWait, func(c *catalogue) bool { return c.pending == 0 })
	names := h.modelNames(c)
	if id != "" {
		if !slices.Contains(names, id) {
			h.refuse(w, r, nil, h.noSuchModel(c, "the model "+quoted(id)+" does not exist"))
			return
		}
		writeJSON(w, http.StatusOK, describe(id))
		return
	}
	list := make([]model, len(names))
	for i, name := range names {
		list[i] = describe(name)
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only our own plain types come here
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}
