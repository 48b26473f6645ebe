package backend

import (
	"net/http"
	"net/url"
	"strings"
)

// setASRHeaders sets what whisper-asr-webservice puts on its answers: which engine it is, and under which
// name a browser saves them.
func (s *Server) setASRHeaders(h http.Header, j *job) {
	if d := s.device.Load(); d != nil {
		h.Set("Asr-Engine", d.info.Engine)
	}
	if j.upload == nil || j.dialect.detect {
		return
	}
	h.Set("Content-Disposition", `attachment; filename="`+url.PathEscape(savedName(j.upload.name))+"."+j.params.Extension()+`"`)
}

// savedName is the name of the upload's file, of a length fit for a header.
func savedName(name string) string {
	const most = 100
	name = strings.ToValidUTF8(name[:min(len(name), most)], "")
	if name == "" {
		return "audio"
	}
	return name
}

// serveStatus answers Bazarr, which asks for the version to see whether it has the right address.
func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	version := "whisperpool"
	if s.cfg.Version != "" {
		version += " " + s.cfg.Version
	}
	writeJSON(w, http.StatusOK, map[string]string{"version": version})
}
