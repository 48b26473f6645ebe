package backend

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/whisperpool/whisperpool/transcript"
)

// routes answers each path of the API, and says in OpenAI's error shape which there are to whoever
// asks for another.
type routes struct {
	server *Server
	paths  map[string]route
}

type route struct {
	method string // GET implies HEAD
	serve  http.HandlerFunc
}

const modelPrefix = "/v1/models/"

func (s *Server) newRoutes() routes {
	metrics := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
	return routes{server: s, paths: map[string]route{
		"/":                        {http.MethodGet, s.servePage},
		"/v1/audio/transcriptions": {http.MethodPost, s.transcription(openAITranscription)},
		"/v1/audio/translations":   {http.MethodPost, s.transcription(openAITranslation)},
		"/inference":               {http.MethodPost, s.transcription(inference)},
		"/asr":                     {http.MethodPost, s.transcription(asr)},
		"/detect-language":         {http.MethodPost, s.transcription(detectLanguage)},
		"/status":                  {http.MethodGet, s.serveStatus},
		"/load":                    {http.MethodPost, s.serveLoad},
		"/v1/models":               {http.MethodGet, s.serveModels},
		modelPrefix:                {http.MethodGet, s.serveModel},
		"/health":                  {http.MethodGet, s.serveHealth},
		"/load-report":             {http.MethodGet, s.serveReport},
		"/metrics":                 {http.MethodGet, metrics.ServeHTTP},
	}}
}

// ServeHTTP finds the route of a request.
func (rs routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			rs.server.recovered(v).WriteTo(w)
		}
	}()
	path := r.URL.Path
	if strings.HasPrefix(path, modelPrefix) {
		path = modelPrefix
	}
	found, ok := rs.paths[path]
	if !ok {
		rs.server.refuse(w, r, &transcript.Error{
			Status: http.StatusNotFound, Type: "invalid_request_error", Code: "unknown_url", Final: true,
			Message: "There is nothing at this path; there are " + rs.list() + ".",
		}, false)
		return
	}
	if preflight(path, w, r) {
		return
	}
	if r.Method != found.method && (r.Method != http.MethodHead || found.method != http.MethodGet) {
		allow := found.method
		if allow == http.MethodGet {
			allow = "GET, HEAD"
		}
		w.Header().Set("Allow", allow)
		rs.server.refuse(w, r, &transcript.Error{
			Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method_not_allowed", Final: true,
			Message: "This path takes " + found.method + " only.",
		}, false)
		return
	}
	found.serve(w, r)
}

// list names all routes.
func (rs routes) list() string {
	names := make([]string, 0, len(rs.paths))
	for path, route := range rs.paths {
		if path == modelPrefix {
			path += "{id}"
		}
		names = append(names, route.method+" "+path)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// serveHealth says whether the server takes work. It looks at nothing that work could block.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	status, code := "ok", http.StatusOK
	switch {
	case s.gate.closed():
		status, code = "draining", http.StatusServiceUnavailable
	case s.device.Load() == nil:
		status, code = "loading", http.StatusServiceUnavailable
	}
	if code != http.StatusOK {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, code, map[string]string{"status": status})
}

// model is an entry of OpenAI's list of models.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`  // "model"
	Created int64  `json:"created"` // when the server was started, Unix time
	OwnedBy string `json:"owned_by"`
}

// entry is the list's entry of a model, loaded or not.
func (s *Server) entry(m Model) model {
	return model{ID: m.ID, Object: "model", Created: s.since.Unix(), OwnedBy: "whisperpool"}
}

func (s *Server) serveModels(w http.ResponseWriter, r *http.Request) {
	if refusal := s.loaded(); refusal != nil {
		s.refuse(w, r, refusal, false)
		return
	}
	known := s.shelf.reread()
	data := make([]model, 0, len(known))
	for _, m := range known {
		data = append(data, s.entry(m))
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

func (s *Server) serveModel(w http.ResponseWriter, r *http.Request) {
	if refusal := s.loaded(); refusal != nil {
		s.refuse(w, r, refusal, false)
		return
	}
	id := strings.TrimPrefix(r.URL.Path, modelPrefix)
	m, known := s.shelf.find(id)
	if !known || id == "" {
		s.refuse(w, r, s.shelf.unknown(id), false)
		return
	}
	writeJSON(w, http.StatusOK, s.entry(m))
}

// loaded refuses while the first model is being loaded: a list without models, or one that cannot be
// used yet, would be taken for an answer.
func (s *Server) loaded() *transcript.Error {
	if s.device.Load() != nil {
		return nil
	}
	return s.loading()
}
