package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/whisperpool/whisperpool/scheduler"
)

func init() { caddy.RegisterModule(Admin{}) }

// Admin has the state of the pools, and draining, on Caddy's admin endpoint, and nowhere else:
//
//	GET  /whisper_pool/pools
//	GET  /whisper_pool/explain?request_id=...
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

// poolStatus is a pool as the admin API shows it. Times are in seconds.
type poolStatus struct {
	Name        string          `json:"name"`
	Policy      string          `json:"policy"`
	Queued      int             `json:"queued"`
	QueuedBytes int64           `json:"queued_bytes"`
	HeldBytes   int64           `json:"held_bytes"`
	OldestWait  float64         `json:"oldest_wait"`
	Running     int             `json:"running"`
	Backends    []backendStatus `json:"backends"`
	// Discover are the sources of backends.
	Discover []discoverStatus `json:"discover"`
	// Drained are those that an operator has drained, those that are not configured at present included.
	Drained []scheduler.BackendID `json:"drained"`
}

// discoverStatus is a source of backends and what it gave last.
type discoverStatus struct {
	Source    string   `json:"source"`
	Addresses []string `json:"addresses"`
	// Failure is why it gives none now; those that it gave before are kept.
	Failure string `json:"failure,omitempty"`
	// LeftOut are addresses that another pool has, and which.
	LeftOut map[string]string `json:"left_out,omitempty"`
}

type backendStatus struct {
	ID        scheduler.BackendID `json:"id"`
	Address   string              `json:"address"`
	Class     string              `json:"class,omitempty"`
	State     string              `json:"state"`
	Why       string              `json:"why,omitempty"`
	Usable    bool                `json:"usable"`
	Slots     int                 `json:"slots"`
	Running   int                 `json:"running"`
	Models    []string            `json:"models"` // null: not told
	Instance  string              `json:"instance,omitempty"`
	Served    uint64              `json:"served"`
	Failed    uint64              `json:"failed"`
	ReopensIn float64             `json:"reopens_in,omitempty"`
	Speeds    []speedStatus       `json:"speeds"`
}

type speedStatus struct {
	Model        string  `json:"model"`
	TenSeconds   float64 `json:"ten_seconds"` // predicted for a recording of 10 s
	Observations int     `json:"observations"`
	Spread       float64 `json:"spread"`
}

func (p *Pool) status() poolStatus {
	s := p.dispatcher.Snapshot()
	out := poolStatus{
		Name: p.name, Policy: s.Policy, Queued: s.Queued, QueuedBytes: s.QueuedBytes, HeldBytes: s.HeldBytes,
		OldestWait: s.OldestWait.Seconds(), Running: s.Running, Backends: []backendStatus{}, Discover: p.sources(), Drained: p.drainedIDs(),
	}
	if out.Drained == nil {
		out.Drained = []scheduler.BackendID{}
	}
	for _, b := range s.Backends {
		status := backendStatus{
			ID: b.ID, Address: withoutUser(b.Address), Class: b.Class, State: b.State, Why: b.Why, Usable: b.Usable, Slots: b.Slots,
			Running: b.Outstanding, Models: b.Models, Instance: b.Instance, Served: b.Served, Failed: b.Failed,
			ReopensIn: b.ReopensIn.Round(time.Millisecond).Seconds(), Speeds: []speedStatus{},
		}
		for _, speed := range b.Speeds {
			status.Speeds = append(status.Speeds, speedStatus{speed.Model, speed.TenSeconds.Seconds(), speed.Observations, speed.Spread})
		}
		out.Backends = append(out.Backends, status)
	}
	return out
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
	case len(parts) == 1 && parts[0] == "pools":
		return servePools(w, r)
	case len(parts) == 1 && parts[0] == explainPath:
		return serveExplain(w, r)
	case len(parts) == 5 && parts[0] == "pools" && parts[2] == "backends" && (parts[4] == "drain" || parts[4] == "undrain"):
		return serveDrain(w, r, parts[1], scheduler.BackendID(parts[3]), parts[4] == "drain")
	}
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf(
		"there is no %s here; there are GET %[2]spools, GET %[2]sexplain?request_id=..., POST %[2]spools/{pool}/backends/{backend}/drain and .../undrain (a slash in a name is %%2F)",
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
	all := []poolStatus{}
	for _, p := range allPools() {
		all = append(all, p.status())
	}
	writeJSON(w, http.StatusOK, map[string]any{"pools": all})
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
	writeJSON(w, http.StatusOK, p.status())
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
