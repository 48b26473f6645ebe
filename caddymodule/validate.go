package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/dustin/go-humanize"

	"github.com/whisperpool/whisperpool/policies"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/upstream"
)

// Names end up in headers, log lines and metric labels.
var (
	classPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	namePattern  = regexp.MustCompile(`^[!#-+\--z|~]{1,128}$`) // printable, no space, comma, double quote or brace
)

// slotsMax is the most that the scheduler takes; what is above is a mistake.
const slotsMax = 1024

func checkClass(class string) error {
	if !classPattern.MatchString(class) {
		return fmt.Errorf("GPU class %q: use up to 64 letters, digits, dots, dashes and underscores, such as T4 or RTX-4090", class)
	}
	return nil
}

func checkName(what, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%s %q: use up to 128 printable characters without spaces, commas, quotes and braces", what, name)
	}
	return nil
}

func checkKind(kind string) error {
	if _, ok := upstream.ByName(kind); !ok {
		return fmt.Errorf("unknown kind %q; there are %s (without kind, the backend is asked)", kind, strings.Join(upstream.Names(), ", "))
	}
	return nil
}

func checkPolicy(policy string) error {
	if _, ok := policies.ByName(policy); !ok {
		return fmt.Errorf("unknown policy %q; there are %s", policy, strings.Join(policies.Names(), ", "))
	}
	return nil
}

// placeholderPattern finds what Caddy's replacer would replace.
var placeholderPattern = regexp.MustCompile(`\{[^{}\s]+\}`)

func checkPlaceholder(text string) error {
	if !placeholderPattern.MatchString(text) {
		return fmt.Errorf("%q has no placeholder such as {http.request.header.X-User} in it", text)
	}
	return nil
}

// slowFactorMax is above any difference between recordings of one length.
const slowFactorMax = 1000

func checkSlowFactor(factor float64) error {
	if !(factor > 1 && factor <= slowFactorMax) { // NaN is neither
		return fmt.Errorf("%v is not a factor above 1, such as 4", factor)
	}
	return nil
}

func checkShare(share float64) error {
	if !(share > 0 && share <= 1) {
		return fmt.Errorf("%v is not a share above 0 and up to 1", share)
	}
	return nil
}

func checkOrder(order string) error {
	if order != string(scheduler.FIFO) && order != string(scheduler.ShortestFirst) {
		return fmt.Errorf("unknown order %q; there are %s and %s", order, scheduler.FIFO, scheduler.ShortestFirst)
	}
	return nil
}

func checkHealthURI(uri string) error {
	if !strings.HasPrefix(uri, "/") || strings.ContainsAny(uri, " #{}") {
		return fmt.Errorf("health_uri %q is not a path such as /health", uri)
	}
	return nil
}

// ownHeaders are those that each attempt sets for its own body and connection.
var ownHeaders = []string{"Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Accept-Encoding", "Connection"}

func checkHeaderField(field string) error {
	if field == "" || strings.ContainsAny(field, " \t:\"(),/;<=>?@[\\]") {
		return fmt.Errorf("%q is not a header field", field)
	}
	if slices.Contains(ownHeaders, textproto.CanonicalMIMEHeaderKey(field)) {
		return fmt.Errorf("%s is set by each attempt and can't be changed", field)
	}
	return nil
}

func checkHeaderOps(ops *headers.HeaderOps) error {
	if ops == nil {
		return nil
	}
	fields := slices.Concat(slices.Sorted(maps.Keys(ops.Add)), slices.Sorted(maps.Keys(ops.Set)),
		slices.Sorted(maps.Keys(ops.Replace)), ops.Delete)
	for _, field := range fields {
		if field == "*" || strings.Contains(field, "*") {
			return fmt.Errorf("header_up %s: name one field", field)
		}
		if err := checkHeaderField(field); err != nil {
			return fmt.Errorf("header_up: %w", err)
		}
	}
	return nil
}

func checkModels(models []string) error {
	seen := map[string]bool{}
	for _, model := range models {
		if err := checkName("model", model); err != nil {
			return err
		}
		if seen[model] {
			return fmt.Errorf("model %s is listed twice", model)
		}
		seen[model] = true
	}
	return nil
}

// checkAlias looks at one alias beside those there already.
func checkAlias(aliases map[string]string, from, to string) error {
	if err := checkName("alias", from); err != nil {
		return err
	}
	if err := checkName("model", to); err != nil {
		return err
	}
	if from == to {
		return fmt.Errorf("alias %s stands for itself", from)
	}
	for other, model := range aliases {
		if other == from {
			continue
		}
		if other == to || model == from {
			return fmt.Errorf("alias %s %s and alias %s %s: an alias stands for a model, not for another alias", from, to, other, model)
		}
	}
	return nil
}

// validate checks a whole configuration, wherever it came from. What a Caddyfile is told with its
// line is checked here again for JSON.
func (h *Handler) validate() error {
	if err := checkName("pool", h.Pool); err != nil {
		return err
	}
	if len(h.Backends) == 0 && len(h.Discover) == 0 {
		return errors.New("no backends: name at least one, as in backend 10.0.0.11:8000")
	}
	if err := h.validateBackends(); err != nil {
		return err
	}
	for i := range h.Discover {
		if err := h.Discover[i].validate(); err != nil {
			return fmt.Errorf("discover: %w", err)
		}
	}
	if err := checkPolicy(h.Policy); err != nil {
		return err
	}
	for _, limit := range []struct {
		what  string
		value int64
	}{
		{"queue.max_requests", int64(h.Queue.MaxRequests)}, {"queue.max_bytes", h.Queue.MaxBytes}, {"queue.max_wait", int64(h.Queue.MaxWait)},
		{"breaker.failures", int64(h.Breaker.Failures)}, {"breaker.open_for", int64(h.Breaker.OpenFor)},
		{"breaker.max_open_for", int64(h.Breaker.MaxOpenFor)}, {"attempts", int64(h.Attempts)},
		{"upload.max_size", h.Upload.MaxSize}, {"upload.memory", h.Upload.Memory},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s is negative; leave it out for the default", limit.what)
		}
	}
	if err := h.validateReading(); err != nil {
		return err
	}
	if err := checkSlowFactor(h.Breaker.SlowFactor); err != nil {
		return fmt.Errorf("breaker.slow_factor: %w", err)
	}
	if err := checkShare(h.RetryBudget); err != nil {
		return fmt.Errorf("retry_budget: %w", err)
	}
	if h.Breaker.MaxOpenFor < h.Breaker.OpenFor {
		return errors.New("breaker: max_open_for is less than open_for")
	}
	if err := checkFolder(h.Upload.Spool); err != nil {
		return fmt.Errorf("upload.spool: %w", err)
	}
	return errors.Join(h.validateModels(), h.Record.validate())
}

// validateReading checks how requests are read and put in order.
func (h *Handler) validateReading() error {
	if err := checkAPIKeys(h.APIKeys); err != nil {
		return err
	}
	if err := checkOrder(h.Queue.Order); err != nil {
		return fmt.Errorf("queue.order: %w", err)
	}
	if h.Priority != "" {
		if err := checkPlaceholder(h.Priority); err != nil {
			return fmt.Errorf("priority: %w", err)
		}
	}
	if h.Tenant == nil {
		return nil
	}
	if err := checkPlaceholder(h.Tenant.Key); err != nil {
		return fmt.Errorf("tenant.key: %w", err)
	}
	if h.Tenant.MaxQueued < 0 {
		return errors.New("tenant.max_queued is negative; leave it out for no limit")
	}
	return nil
}

func (r *Record) validate() error {
	if r == nil {
		return nil
	}
	if err := checkFolder(r.Folder); err != nil {
		return fmt.Errorf("record.folder: %w", err)
	}
	if r.MaxSize < recordSizeMin {
		return fmt.Errorf("record: max_size is less than %s", humanize.IBytes(recordSizeMin))
	}
	if r.Keep < 1 {
		return errors.New("record: keep is less than 1")
	}
	return nil
}

func (h *Handler) validateBackends() error {
	names, addresses := map[string]bool{}, map[string]string{}
	for i := range h.Backends {
		b := &h.Backends[i]
		a, err := parseAddress(b.Address)
		if err != nil {
			return fmt.Errorf("backend %q: %w", withoutUser(b.Address), err)
		}
		if other, ok := addresses[a.key()]; ok {
			return fmt.Errorf("backend %s: %s is the same address; give its parallelism as slots", b.Address, other)
		}
		addresses[a.key()] = b.Address
		if names[b.Name] {
			return fmt.Errorf("backend %s: another one is already named %s", b.Address, b.Name)
		}
		names[b.Name] = true
		if err := b.validate(); err != nil {
			return fmt.Errorf("backend %s: %w", b.Name, err)
		}
	}
	return nil
}

func (d *Discover) validate() error {
	if len(d.SourceRaw) == 0 {
		return errors.New("no source; there are srv, a and multi")
	}
	if d.Backend.Address != "" || d.Backend.Name != "" {
		return errors.New("the address that was found is a backend's address and name; leave them out")
	}
	if time.Duration(d.Refresh) < refreshMin {
		return fmt.Errorf("refresh is %v, which is less than %v", time.Duration(d.Refresh), refreshMin)
	}
	named := d.Backend
	named.Name = "found"
	return named.validate()
}

// refreshMin spares the resolver.
const refreshMin = 100 * time.Millisecond

func (b *Backend) validate() error {
	if b.Class != "" {
		if err := checkClass(b.Class); err != nil {
			return err
		}
	}
	if b.Kind != "" {
		if err := checkKind(b.Kind); err != nil {
			return err
		}
	}
	if b.HealthURI != "" {
		if err := checkHealthURI(b.HealthURI); err != nil {
			return err
		}
	}
	if b.Slots < 0 || b.Slots > slotsMax {
		return fmt.Errorf("slots is %d, not from 1 to %d; leave it out for what the backend reports", b.Slots, slotsMax)
	}
	return errors.Join(checkName("name", b.Name), checkModels(b.Models), checkHeaderOps(b.HeaderUp))
}

func (h *Handler) validateModels() error {
	if h.DefaultModel != "" {
		if err := checkName("default_model", h.DefaultModel); err != nil {
			return err
		}
	}
	for _, from := range slices.Sorted(maps.Keys(h.Aliases)) {
		if err := checkAlias(h.Aliases, from, h.Aliases[from]); err != nil {
			return err
		}
		for _, b := range h.Backends {
			if slices.Contains(b.Models, from) {
				return fmt.Errorf("alias %s would hide the model of that name on backend %s", from, b.Name)
			}
		}
	}
	return nil
}
