package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/scheduler"
)

func init() { caddy.RegisterModule(Admin{}) }

// Admin has the state of the pools, and draining, on Caddy's admin endpoint, and nowhere else:
//
//	GET  /whisper_pool/       a page that shows the pools and drains backends
//	GET  /whisper_pool/pools  the same as JSON
//	GET  /whisper_pool/explain?request_id=...
//	GET  /whisper_pool/autoscale
//	POST /whisper_pool/pools/{pool}/backends/{backend}/drain
//	POST /whisper_pool/pools/{pool}/backends/{backend}/undrain
//
// Names are path segments, so a slash in one is written %2F.
type Admin struct{}

const adminPath = "/whisper_pool/"

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.whisper_pool", New: func() caddy.Module { return new(Admin) }}
}

// Routes returns what is served.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimPrefix(r.URL.EscapedPath(), adminPath), "/") {
		plain, err := url.PathUnescape(part)
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("%s is no path: %w", quoted(r.URL.Path), err)}
		}
		parts = append(parts, plain)
	}
	switch {
	case len(parts) == 1 && parts[0] == "":
		return serveStatusPage(w, r)
	case len(parts) == 1 && parts[0] == "pools":
		return servePools(w, r)
	case len(parts) == 1 && parts[0] == explainPath:
		return serveExplain(w, r)
	case len(parts) == 1 && parts[0] == autoscalePath:
		return serveAutoscale(w, r)
	case len(parts) == 5 && parts[0] == "pools" && parts[2] == "backends" && (parts[4] == "drain" || parts[4] == "undrain"):
		return serveDrain(w, r, parts[1], scheduler.BackendID(parts[3]), parts[4] == "drain")
	}
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf(
		"there is no %s here; there are GET %[2]spools, GET %[2]sexplain?request_id=..., GET %[2]sautoscale, POST %[2]spools/{pool}/backends/{backend}/drain and .../undrain (a slash in a name is %%2F)",
		quoted(r.URL.Path), adminPath)}
}

// onlyMethod refuses all methods but one.
func onlyMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("use %s here, not %s", method, quoted(r.Method))}
}

func servePools(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, statusOf(allPools(), forOperators))
	return nil
}

// serveStatusPage serves the page that shows what servePools tells, and drains.
func serveStatusPage(w http.ResponseWriter, r *http.Request) error {
	if err := onlyMethod(w, r, http.MethodGet); err != nil {
		return err
	}
	statusPage.ServeHTTP(w, r)
	return nil
}

// serveDrain drains a backend or takes that back. It answers with the pool's state.
func serveDrain(w http.ResponseWriter, r *http.Request, pool string, id scheduler.BackendID, drained bool) error {
	if err := onlyMethod(w, r, http.MethodPost); err != nil {
		return err
	}
	all := allPools()
	i := slices.IndexFunc(all, func(p *Pool) bool { return p.name == pool })
	if i < 0 {
		var names []string
		for _, p := range all {
			names = append(names, p.name)
		}
		return missing("pool", pool, names)
	}
	p := all[i]
	if known := p.drainable(); !slices.Contains(known, string(id)) {
		return missing("backend", string(id), known)
	}
	switch err := p.drain(id, drained); {
	case errors.Is(err, errUnconfigured):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case err != nil:
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: fmt.Errorf(
			"it is done, and will be forgotten when this process ends, since it could not be stored: %w", err)}
	}
	writeJSON(w, http.StatusOK, p.status(forOperators))
	return nil
}

// missing says what there is instead.
func missing(what, name string, there []string) error {
	list := "there are " + strings.Join(there, ", ")
	if len(there) == 0 {
		list = "there is none"
	}
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is no %s %s; %s", what, quoted(name), list)}
}

// drainable are the names of the backends that are configured or drained.
func (p *Pool) drainable() []string {
	var names []string
	for _, m := range *p.members.Load() {
		names = append(names, string(m.id))
	}
	for _, id := range p.drainedIDs() {
		if !slices.Contains(names, string(id)) {
			names = append(names, string(id))
		}
	}
	return names
}

// allPools are those with a configuration, by name.
func allPools() []*Pool {
	var all []*Pool
	pools.Range(func(_, pool any) bool {
		if p := pool.(*Pool); p.serving() {
			all = append(all, p)
		}
		return true
	})
	slices.SortFunc(all, func(a, b *Pool) int { return strings.Compare(a.name, b.name) })
	return all
}

var _ caddy.AdminRouter = Admin{}
