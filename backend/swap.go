package backend

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// serveLoad answers POST /load as whisper.cpp's server does: the form's field "model" is the path of
// a model file, which from then on serves those who name no model. Only files that the operator put
// where the server looks for models are taken.
func (s *Server) serveLoad(w http.ResponseWriter, r *http.Request) {
	refusal := s.swap(w, r)
	s.setLoadHeaders(w.Header())
	if refusal != nil {
		s.metrics.refused(refusal.Code)
		s.refuse(w, r, refusal, false)
		return
	}
	writeAnswer(w, "application/text", []byte("Load was successful!"))
}

// swap loads what a request to /load names.
func (s *Server) swap(w http.ResponseWriter, r *http.Request) *transcript.Error {
	switch {
	case s.gate.closed():
		return s.shuttingDown()
	case s.device.Load() == nil:
		return s.loading()
	}
	if http.NewCrossOriginProtection().Check(r) != nil { // some web page's, on the operator's own machine
		return &transcript.Error{
			Status: http.StatusForbidden, Type: "invalid_request_error", Code: "cross_origin", Final: true,
			Message: "A web page of another site must not change the model.",
		}
	}
	path, refusal := loadPath(w, r)
	if refusal != nil {
		return refusal
	}
	m, refusal := s.shelf.at(path)
	if refusal != nil {
		return refusal
	}
	return s.shelf.choose(r, m)
}

// loadPath reads the field "model" of the form.
func loadPath(w http.ResponseWriter, r *http.Request) (string, *transcript.Error) {
	const largest = 64 << 10
	boundary, refusal := formBoundary(r.Header.Get("Content-Type"), "model")
	if refusal != nil {
		return "", transcript.Invalid("model", "invalid_content_type",
			"Send multipart/form-data with the path of a model file in the field model (curl: -F model=PATH).")
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	form := multipart.NewReader(http.MaxBytesReader(w, r.Body, largest), boundary)
	path := ""
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) && path != "" {
			return path, nil
		}
		if err != nil {
			return "", transcript.Invalid("model", "missing_required_parameter",
				"The form has no field model with the path of a model file in it (curl: -F model=PATH).")
		}
		if part.FormName() != "model" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, 4096))
		if err != nil {
			return "", transcript.Invalid("model", "invalid_form", "The body is not well-formed multipart/form-data.")
		}
		path = strings.TrimSpace(string(text))
	}
}

// at is the model whose file a client names: one that is served already, or one in the folder of
// models. A path that is not absolute is looked for in that folder first.
func (sh *shelf) at(path string) (Model, *transcript.Error) {
	dir := sh.server.cfg.ModelsDir
	var places []string
	if !filepath.IsAbs(path) && dir != "" {
		places = append(places, filepath.Join(dir, path))
	}
	places = append(places, path)
	inside := false
	known := sh.rereadNow()
	for _, place := range places {
		place = absolute(place)
		for _, m := range known {
			if m.Path != "" && absolute(m.Path) == place {
				return m, nil
			}
		}
		if dir != "" {
			from, err := filepath.Rel(absolute(dir), place)
			inside = inside || err == nil && filepath.IsLocal(from)
		}
	}
	switch {
	case dir == "":
		return Model{}, &transcript.Error{
			Status: http.StatusForbidden, Type: "invalid_request_error", Param: "model", Code: "model_not_allowed", Final: true,
			Message: "This server loads no other models: it was started without --models-dir.",
		}
	case !inside:
		return Model{}, &transcript.Error{
			Status: http.StatusForbidden, Type: "invalid_request_error", Param: "model", Code: "model_not_allowed", Final: true,
			Message: "Only models in the folder given by --models-dir can be loaded.",
		}
	}
	return Model{}, transcript.Invalid("model", "model_not_found",
		"The folder given by --models-dir has no ggml model of this name that can be loaded.")
}

// absolute is a path without dots. A symbolic link is not followed: it was put there on purpose.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// choose makes a model the one for those who name none, once it is loaded. Jobs that run finish on
// the old one; where there is no memory for both, new ones wait meanwhile.
func (sh *shelf) choose(r *http.Request, m Model) *transcript.Error {
	sh.mu.Lock()
	before := sh.inference
	if d := sh.devices[m.ID]; d != nil && !d.leaving {
		sh.inference = m.ID
		sh.mu.Unlock()
		return nil
	}
	delete(sh.failures, m.ID) // who asks for it by name wants it tried
	l := sh.start(m, 0)
	l.chosen = true
	sh.mu.Unlock()
	select {
	case <-l.done:
	case <-r.Context().Done():
		return sh.server.interrupted(r.Context()) // the load goes on
	}
	if l.err == nil {
		return nil
	}
	sh.restore(before)
	var room *roomError
	if errors.As(l.err, &room) {
		return loadRefusal(m.ID, l.err)
	}
	return &transcript.Error{
		Status: http.StatusInternalServerError, Type: "server_error", Param: "model", Code: "model_failed", Final: true,
		Message: fmt.Sprintf("The model %q could not be loaded, so the old one stays: %s", m.ID, sentence(l.err.Error())),
	}
}

// restore loads the model again that served those who name none, if it was unloaded to make room.
func (sh *shelf) restore(id string) {
	m, ok := sh.find(id)
	if !ok {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.devices[m.ID] == nil {
		sh.start(m, roomPatience)
	}
}
