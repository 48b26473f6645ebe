package caddymodule

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
)

// scrape is what Caddy's metrics handler tells of a process, by series.
type scrape map[string]float64

// metered is a proxy with another site for metrics.
type metered struct {
	*proxy
	metrics string
	sites   func(pool string) string
}

func newMetered(t *testing.T, pool string) *metered {
	t.Helper()
	m := &metered{proxy: newProxy(t, pool), metrics: "http://" + freeAddress(t)}
	m.sites = func(pool string) string { return site(m.url, pool) + m.metrics + " {\n\tmetrics /metrics\n}\n" }
	m.mustLoad(m.sites(pool))
	return m
}

func (m *metered) text(header http.Header) string {
	m.t.Helper()
	r, err := persistent(func() (response, error) {
		return send(m.t.Context(), http.MethodGet, m.metrics+"/metrics", header, nil)
	})
	if err != nil || r.status != http.StatusOK {
		m.t.Fatalf("%v, status %d: %s", err, r.status, r.body)
	}
	return r.body
}

func (m *metered) scrape() scrape {
	m.t.Helper()
	out := scrape{}
	for line := range strings.Lines(m.text(nil)) {
		if at := strings.LastIndexByte(line, ' '); strings.HasPrefix(line, "whisperpool_") && at > 0 {
			var value float64
			if _, err := fmt.Sscan(line[at+1:], &value); err != nil {
				m.t.Fatalf("%q: %v", line, err)
			}
			out[line[:at]] = value
		}
	}
	return out
}

// sum is that of the series of a metric that have all of the labels.
func (s scrape) sum(name string, labels ...string) (sum float64) {
	for series, value := range s {
		if head, _, _ := strings.Cut(series, "{"); head != name {
			continue
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			sum += value
		}
	}
	return sum
}

// settled scrapes until so many requests more than before are measured, which is after their clients have the answer.
func (m *metered) settled(before scrape, requests float64) scrape {
	m.t.Helper()
	var now scrape
	eventually(m.t, fmt.Sprintf("%v requests are measured", requests), func() bool {
		now = m.scrape()
		return now.sum("whisperpool_request_duration_seconds_count")-before.sum("whisperpool_request_duration_seconds_count") == requests
	})
	return now
}

// failing is a backend that fails after a while.
func failing(w http.ResponseWriter, r *http.Request, _ sent) {
	done := make(chan struct{})
	timer := time.AfterFunc(100*time.Millisecond, func() { close(done) })
	defer timer.Stop()
	select {
	case <-done:
		http.Error(w, "out of memory", http.StatusInternalServerError)
	case <-r.Context().Done():
	}
}

// TestPhases: the phases of requests add up to their durations, to the microsecond, whatever became of them; and the
// time of an attempt that failed is told apart from the one that served.
func TestPhases(t *testing.T) {
	bad, good := newWhisper(t), newWhisper(t)
	bad.answer, good.answer = failing, taking(200*time.Millisecond)
	backends := fmt.Sprintf("backend %s T4 {\n\tname bad\n}\nbackend %s T4 {\n\tname good\n}\nretry_budget 100%%\npolicy round_robin\nupload {\n\tmax_size 1MB\n}\n", bad.address(), good.address())
	m := newMetered(t, backends)
	m.ready(2)
	before := m.scrape()
	for range 2 { // one of them begins on each
		if r := m.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	for _, refused := range [][]byte{nil, wav(60)} { // no file, and too large
		if r := m.post(transcriptions, refused, "model=base"); r.status < 400 {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	after := m.settled(before, 4)
	rise := func(name string, labels ...string) float64 {
		return after.sum(name, labels...) - before.sum(name, labels...)
	}
	all := rise("whisperpool_request_duration_seconds_sum")
	if phases := rise("whisperpool_request_phase_seconds_sum"); math.Abs(all-phases) > 1e-6 {
		t.Errorf("the phases add up to %v s, the requests to %v s", phases, all)
	}
	for phase, least := range map[string]float64{"failed_attempt": .1, "service": .4, "upload": 0, "queue": 0, "reply": 0} {
		label := `phase="` + phase + `"`
		if got := rise("whisperpool_request_phase_seconds_count", label); got != 4 {
			t.Errorf("%v requests are in the phase %s", got, phase)
		}
		if got := rise("whisperpool_request_phase_seconds_sum", label); got < least || got > all {
			t.Errorf("the phase %s took %v of %v s", phase, got, all)
		}
	}
	onBad := rise("whisperpool_placements_total", `upstream="bad"`) - rise("whisperpool_placements_total", `upstream="bad"`, `reason="trying"`)
	if retries := rise("whisperpool_retries_total", `reason="failed"`); onBad < 1 || retries != onBad {
		t.Errorf("%v attempts failed, and %v were retries", onBad, retries)
	}
	for series, want := range map[string]float64{
		`whisperpool_refusals_total{code="missing_file",pool="default"}`:                          1,
		`whisperpool_audio_seconds_total{class="T4",model="base",pool="default",upstream="good"}`: 2,
		`whisperpool_real_time_factor_ratio_count{class="T4",pool="default",upstream="good"}`:     2,
		`whisperpool_request_duration_seconds_count{outcome="served",pool="default"}`:             2,
		`whisperpool_request_duration_seconds_bucket{outcome="served",pool="default",le="600"}`:   2,
		`whisperpool_service_seconds_count{class="T4",pool="default",upstream="good"}`:            2,
		`whisperpool_unmeasured_audio_total{class="T4",pool="default",upstream="good"}`:           0,
	} {
		if got := after[series] - before[series]; got != want {
			t.Errorf("%s rose by %v, not by %v", series, got, want)
		}
	}
}

// TestPhasesOfQueue: what waits is in the queue, by its band, and that is told of the request.
func TestPhasesOfQueue(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	m := newMetered(t, "backend "+backend.address()+" T4 {\n\tname a\n}\npriority {header.X-Priority}\ntenant {header.Authorization}\n")
	m.ready(1)
	before := m.scrape()
	crowd := newCrowd(t, m.proxy, backend)
	crowd.wait(m.url, http.Header{"X-Priority": {"interactive"}, "Authorization": {"Bearer one"}}, "first")
	crowd.wait(m.url, http.Header{"X-Priority": {"batch"}}, "second")
	crowd.wait(m.url, http.Header{"X-Priority": {"batch"}}, "third")
	waiting := m.scrape()
	for series, want := range map[string]float64{
		`whisperpool_queue_band_depth{band="interactive",pool="default"}`:                1,
		`whisperpool_queue_band_depth{band="default",pool="default"}`:                    0,
		`whisperpool_queue_band_depth{band="batch",pool="default"}`:                      2,
		`whisperpool_queue_depth{pool="default"}`:                                        3,
		`whisperpool_queue_attributed{class="T4",pool="default"}`:                        3,
		`whisperpool_queue_attributed{class="",pool="default"}`:                          0,
		`whisperpool_saturation_ratio{pool="default"}`:                                   4,
		`whisperpool_backend_state{class="T4",pool="default",state="up",upstream="a"}`:   1,
		`whisperpool_backend_state{class="T4",pool="default",state="open",upstream="a"}`: 0,
	} {
		if got := waiting[series]; got != want {
			t.Errorf("%s is %v, not %v", series, got, want)
		}
	}
	if waiting[`whisperpool_queue_oldest_seconds{pool="default"}`] <= 0 {
		t.Error("nothing has waited")
	}
	close(gate)
	crowd.served(backend)
	after := m.settled(before, 4)
	rise := func(name string, labels ...string) float64 {
		return after.sum(name, labels...) - before.sum(name, labels...)
	}
	if all, phases := rise("whisperpool_request_duration_seconds_sum"), rise("whisperpool_request_phase_seconds_sum"); math.Abs(all-phases) > 1e-6 {
		t.Errorf("the phases add up to %v s, the requests to %v s", phases, all)
	}
	queued, told := rise("whisperpool_request_phase_seconds_sum", `phase="queue"`), rise("whisperpool_queue_seconds_sum")
	if told <= 0 || queued < told-1e-3 {
		t.Errorf("%v s in the queue, of which the scheduler knows %v s", queued, told)
	}
	// printf 'Bearer one' | sha256sum | cut -c1-32
	if got := rise("whisperpool_tenant_audio_seconds_total", `tenant="0b84d71fd60e2e328bb359ce07a6c57c"`); got != 1 {
		t.Errorf("the tenant sent %v s: %v", got, slices.Collect(maps.Keys(after)))
	}
	for _, name := range []string{"whisperpool_backend_learned_seconds", "whisperpool_backend_learned_samples"} {
		if after.sum(name, `model="base"`, `upstream="a"`) <= 0 {
			t.Errorf("%s tells nothing of a", name)
		}
	}
}

// TestBreakerMetrics: a backend that is left alone shows so, with the cause.
func TestBreakerMetrics(t *testing.T) {
	bad, good := newWhisper(t), newWhisper(t)
	bad.answer = func(w http.ResponseWriter, _ *http.Request, _ sent) {
		http.Error(w, "no", http.StatusInternalServerError)
	}
	m := newMetered(t, fmt.Sprintf("backend %s {\n\tname bad\n}\nbackend %s {\n\tname good\n}\nretry_budget 100%%\npolicy round_robin\nbreaker {\n\tfailures 2\n}\n", bad.address(), good.address()))
	m.ready(2)
	before := m.scrape()
	for _, verdict := range []string{`cause="failures_running",class="",pool="default",upstream="bad",verdict="opened"`, `cause="",class="",pool="default",upstream="bad",verdict="closed"`} {
		if _, there := before["whisperpool_breaker_transitions_total{"+verdict+"}"]; !there {
			t.Errorf("%s does not begin at zero, so that the first would be no rise", verdict)
		}
	}
	for _, reason := range []scheduler.SettleReason{scheduler.QueueFull, scheduler.TenantFull, scheduler.WaitTooLong, scheduler.DeadlinePassed, scheduler.NoBackend} {
		if _, there := before[`whisperpool_refusals_total{code="`+reason.String()+`",pool="default"}`]; !there {
			t.Errorf("refusals of %s do not begin at zero", reason)
		}
	}
	eventually(t, "that it was left alone is counted", func() bool { // a trial may hold its slot, so that a request goes to the other
		if r := m.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
		return m.scrape().sum("whisperpool_breaker_transitions_total", `upstream="bad"`, `verdict="opened"`) >
			before.sum("whisperpool_breaker_transitions_total", `upstream="bad"`, `verdict="opened"`)
	})
	after := m.scrape() // in the other, the state may have been read before
	if up := after.sum("whisperpool_backend_state", `upstream="bad"`, `state="up"`); up != 0 {
		t.Error("it is up")
	}
	if one := after.sum("whisperpool_backend_state", `upstream="bad"`); one != 1 {
		t.Errorf("it is in %v states", one)
	}
}

// TestReloadLosesNoCounter: nothing that only rises falls when the configuration changes.
func TestReloadLosesNoCounter(t *testing.T) {
	backend := newWhisper(t)
	pool := "backend " + backend.address() + " {\n\tname a\n}"
	m := newMetered(t, pool)
	m.ready(1)
	before := m.scrape()
	if r := m.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	before = m.settled(before, 1)
	for _, change := range []string{"attempts 2", "attempts 2\npolicy random", ""} {
		m.mustLoad(m.sites(pool + "\n" + change))
		after := m.scrape()
		for series, was := range before {
			name, _, _ := strings.Cut(series, "{")
			rises := slices.ContainsFunc([]string{"_total", "_count", "_sum", "_bucket"}, func(end string) bool { return strings.HasSuffix(name, end) })
			if now, there := after[series]; rises && (!there || now < was) {
				t.Errorf("after a reload with %q %s is %v (%v), and was %v", change, series, now, there, was)
			}
		}
		before = after
	}
}

// TestMetricsLint: what is exported parses and keeps to the rules of promtool check metrics; and docs/metrics.md tells
// of every metric with its labels, and of no other.
func TestMetricsLint(t *testing.T) {
	backend := newWhisper(t)
	m := newMetered(t, "backend "+backend.address()+" {\n\tname a\n}")
	m.ready(1)
	before := m.scrape()
	if r := m.post(transcriptions, wav(1), "model=base"); r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	m.settled(before, 1)
	text := m.text(nil)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "whisperpool_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	types := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (whisperpool_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		types[found[1]] = found[2]
	}
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{} // labels by name
	for _, row := range regexp.MustCompile("(?m)^\\| `(whisperpool_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = strings.ReplaceAll(row[3], "`", "")
		if kind, seen := types[row[1]]; seen && kind != row[2] {
			t.Errorf("%s is a %s, and not a %s", row[1], kind, row[2])
		}
	}
	exported := map[string]string{}
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range collectors() {
		c.Describe(descs)
	}
	close(descs)
	for d := range descs {
		parts := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("%s is not understood", d)
		}
		exported[parts[1]] = strings.Join(strings.Split(parts[2], ","), ", ")
	}
	for name, labels := range exported {
		if told, ok := documented[name]; !ok || told != labels {
			t.Errorf("docs/metrics.md says of %s that it has the labels %q (%v), and it has %q", name, told, ok, labels)
		}
	}
	for name := range documented {
		if _, ok := exported[name]; !ok {
			t.Errorf("docs/metrics.md tells of %s, which there is not", name)
		}
	}
	for name := range types {
		if _, ok := exported[name]; !ok {
			t.Errorf("%s is exported and not described", name)
		}
	}
}

// TestExemplars: where Caddy's tracing keeps a trace, durations point to it.
func TestExemplars(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "none") // to nowhere
	backend := newWhisper(t)
	m := newMetered(t, "backend "+backend.address())
	m.mustLoad(strings.Replace(m.sites("backend "+backend.address()), "whisper_pool {", "tracing\n\twhisper_pool {", 1))
	m.ready(1)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	r, err := m.postWith(t.Context(), transcriptions, http.Header{"Traceparent": {"00-" + id + "-00f067aa0ba902b7-01"}}, wav(1), "model=base")
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, r.status, r.body)
	}
	for _, name := range []string{"whisperpool_request_duration_seconds_bucket", "whisperpool_request_phase_seconds_bucket"} {
		eventually(t, name+" has the trace", func() bool {
			for line := range strings.Lines(m.text(http.Header{"Accept": {"application/openmetrics-text; version=1.0.0"}})) {
				if strings.HasPrefix(line, name) && strings.Contains(line, `# {trace_id="`+id+`"}`) {
					return true
				}
			}
			return false
		})
	}
}

// TestTenantShares: the largest have a series each and the others one; no series falls, and each second is in one.
func TestTenantShares(t *testing.T) {
	c := &tenantCounter{pools: map[string]*tenantUse{}}
	read := func() (series map[string]float64, sum float64) {
		u := c.pools["p"]
		series = map[string]float64{otherTenants: u.rest}
		sum = u.rest
		for _, s := range u.listed {
			series[s.account] = s.shown
			sum += s.shown
		}
		return series, sum
	}
	total := 0.0
	for i := range 2 * tenantsCounted { // of one second each, more than are counted
		c.add("p", fmt.Sprintf("small-%d", i), 1)
		total++
	}
	series, sum := read()
	if len(series) != tenantsListed+1 || sum != total || len(c.pools["p"].known) > tenantsCounted {
		t.Errorf("%d series with %v of %v s, of %d tenants", len(series), sum, total, len(c.pools["p"].known))
	}
	for range 10 {
		before, _ := read()
		for i := range tenantsListed { // come later and are larger
			c.add("p", fmt.Sprintf("large-%d", i), 100)
			total += 100
		}
		after, _ := read()
		for name, was := range before {
			if now, there := after[name]; there && now < was {
				t.Errorf("%s fell from %v to %v", name, was, now)
			}
		}
	}
	series, sum = read()
	for i := range tenantsListed {
		if series[fmt.Sprintf("large-%d", i)] == 0 {
			t.Errorf("large-%d has no series", i)
		}
	}
	if len(series) != tenantsListed+1 || math.Abs(sum-float64(int(sum))) > 1e-9 || sum > total {
		t.Errorf("%d series with %v of %v s", len(series), sum, total)
	}
}

// TestSeriesOfGoneBackends: they stay for a while, in case that the backend comes back, and not for ever.
func TestSeriesOfGoneBackends(t *testing.T) {
	v := &verdicts{pool: "coming-and-going"}
	at := scheduler.Instant(0)
	configure := func(after time.Duration, ids ...scheduler.BackendID) {
		at = at.Add(after)
		cfg := scheduler.Config{}
		for _, id := range ids {
			cfg.Backends = append(cfg.Backends, scheduler.Backend{ID: id, Class: "T4"})
		}
		v.Observed(at, scheduler.Configured{Config: cfg}, nil)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(attemptsTotal)
	has := func(upstream string) bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range families[0].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "upstream" && l.GetValue() == upstream {
					return true
				}
			}
		}
		return false
	}
	configure(0, "gone-for-good", "gone-and-back", "stays")
	configure(time.Minute, "stays")
	configure(30*time.Minute, "stays", "gone-and-back")
	if !has("gone-for-good") || !has("gone-and-back") || !has("stays") {
		t.Error("a series has gone at once")
	}
	configure(time.Hour, "stays", "gone-and-back")
	eventually(t, "the series of the one that has gone are gone", func() bool { return !has("gone-for-good") })
	if !has("gone-and-back") || !has("stays") || len(v.gone) != 0 {
		t.Error("a series has gone of a backend that is there")
	}
}

// TestPhasesSideBySide: attempts that overlap are counted once, and those that go on after the answer not beyond it.
func TestPhasesSideBySide(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		spans  []span
		winner int
		want   [phaseCount]float64 // upload, queue, failed, service, reply
	}{
		"no attempt":      {nil, 0, [phaseCount]float64{2, 8, 0, 0, 1}},
		"one":             {[]span{{1, at(3), at(10), 1}}, 1, [phaseCount]float64{2, 1, 0, 7, 1}},
		"one, failed":     {[]span{{1, at(3), at(5), 3}, {2, at(6), at(10), 1}}, 2, [phaseCount]float64{2, 2, 2, 4, 1}},
		"hedged":          {[]span{{1, at(3), at(12), 7}, {2, at(6), at(9), 1}}, 2, [phaseCount]float64{2, 1, 4, 3, 1}},
		"hedged, runs":    {[]span{{1, at(3), time.Time{}, 0}, {2, at(6), time.Time{}, 0}}, 2, [phaseCount]float64{2, 1, 3, 4, 1}},
		"the client left": {[]span{{1, at(3), at(5), 4}, {2, at(5), at(10), 7}}, 0, [phaseCount]float64{2, 1, 2, 5, 1}},
		"in any order":    {[]span{{2, at(6), at(10), 1}, {1, at(3), at(5), 3}}, 2, [phaseCount]float64{2, 2, 2, 4, 1}},
	} {
		r := &transcription{arrived: at(0), uploaded: 2 * time.Second, replying: at(10), course: course{spans: c.spans}}
		if c.winner > 0 {
			a := &answer{}
			a.attempt.Attempt = c.spans[slices.IndexFunc(c.spans, func(s span) bool { return int(s.attempt) == c.winner })].attempt
			r.answer.Store(a)
		}
		for phase, took := range r.phases(at(11)) {
			if took.Seconds() != c.want[phase] {
				t.Errorf("%s: %s took %v, not %v s", name, phaseNames[phase], took, c.want[phase])
			}
		}
	}
}

// BenchmarkMeasure is what the metrics of one request cost beside all else.
func BenchmarkMeasure(b *testing.B) {
	b.ReportAllocs()
	pool := &Pool{name: "bench"}
	from := &backend{id: "a"}
	from.config.Class = "T4"
	for b.Loop() {
		t := &transcription{pool: pool, arrived: time.Now(), account: "0123"}
		t.request.AudioSeconds = 10
		a := dispatcher.Attempt{Dispatch: scheduler.Dispatch{Attempt: 1, Model: "base", Reason: scheduler.Best, Predicted: time.Second}}
		t.begun(a, from, time.Now())
		t.attempted(a, from, scheduler.Outcome{Result: scheduler.Success}, time.Second)
		t.course.end(a.Dispatch, scheduler.Success, time.Now())
		t.replying = time.Now()
		t.count("served")
		t.measure(b.Context())
	}
}

// BenchmarkScrape is what a scrape of a hundred backends costs.
func BenchmarkScrape(b *testing.B) {
	p := loadPool("bench")
	defer p.release()
	cfg := scheduler.Config{Policy: "latency_aware", Attempts: 3}
	for i := range 100 {
		cfg.Backends = append(cfg.Backends, scheduler.Backend{
			ID: scheduler.BackendID(fmt.Sprint(i)), Address: fmt.Sprint(i), Class: "T4", Slots: 2, Models: []string{"base"},
			Prior: scheduler.Law{Fixed: time.Second, PerSecond: 20 * time.Millisecond},
		})
	}
	if err := p.dispatcher.Configure(cfg); err != nil {
		b.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registerMetrics(registry); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
