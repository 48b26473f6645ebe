package main

// Outcomes of requests that are nobody's fault but the client's, or a limit that was set for it: they count neither as
// served nor as failed. dashboards/rules has the same.
const clients = `invalid|refused|client_gone|unauthorized|too_many_jobs|rate_limit_exceeded|tenant_full`

// failing is the share of requests that were turned away or failed.
const failing = `sum(rate(whisperpool_requests_total{$, outcome!~"served|` + clients + `"}[$__rate_interval])) / ` +
	`sum(rate(whisperpool_requests_total{$, outcome!~"` + clients + `"}[$__rate_interval]))`

var phaseColors = map[string]string{
	"upload": "blue", "queue": "orange", "failed_attempt": "red", "service": "green", "reply": "purple",
}

// outcomeColors are those of outcomes and of the codes of errors.
var outcomeColors = map[string]string{
	"served": "green", "client_gone": "text", "invalid": "blue", "queue_full": "orange", "wait_too_long": "dark-orange", "deadline_passed": "purple",
	"exhausted": "red", "upstream_failed": "red", "no_backend": "dark-red", "tenant_full": "yellow",
}

var stateColors = map[string]string{
	"up": "green", "half-open": "yellow", "open": "red", "down": "red", "loading": "blue", "unknown": "text", "paused": "orange",
	"drained": "purple", "draining": "purple",
}

// toBackend leads from a backend to its dashboard.
func toBackend(pool, upstream string) []object {
	return []object{{
		"title": "Open this backend", "targetBlank": false,
		"url": "/d/whisperpool-backend/whisperpool-backend?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}" +
			"&var-pool=" + pool + "&var-upstream=" + upstream + "&${__url_time_range}",
	}}
}

// bySeries are those links for series that have the labels.
var bySeries = toBackend("${__field.labels.pool}", "${__field.labels.upstream}")

func overview() board {
	b := board{
		uid: "whisperpool-overview", title: "whisperpool / Pool overview",
		description: "What clients of the pool see, why a request was slow, and which backend needs a look.",
	}
	b.rows = []row{
		{panels: b.first()},
		{title: "What clients see", panels: b.seen()},
		{title: "Queue", panels: b.waiting()},
		{title: "Backends", panels: b.backends()},
		{title: "Failures and placement", panels: b.placing()},
	}
	return b
}

// first is what is looked at first.
func (b board) first() []panel {
	slow := b.graph(14, 9, "Why was this slow",
		"Mean time of a request in each phase; the phases add up to its duration. Much orange: more slots are needed, or backends are missing. Red: attempts failed before one served. Green alone: long recordings or slow cards. Blue: clients send slowly.",
		looks{unit: "s", stack: true, least: 0, colors: phaseColors, right: true, calcs: []string{"mean", "max"}},
		query{total("whisperpool_request_phase_seconds", "phase", "") + " / " + count("whisperpool_request_phase_seconds", "phase", ""), "{{phase}}"})
	return []panel{
		slow,
		b.number(5, 3, "Served", "Transcriptions that were answered well, per second.", looks{unit: "reqps", decimal: 2},
			query{`sum(rate(whisperpool_requests_total{$, outcome="served"}[$__rate_interval]))`, "served"}),
		b.number(5, 3, "Turned away or failed", "Share of all requests but those that were the client's own mistake. See the graph by reason below, then the runbook.",
			looks{unit: "percentunit", decimal: 1, line: []float64{.01, .05}}, query{failing, "failed"}),
		b.number(5, 3, "Slowest 5 %", "95 of 100 transcriptions took less, from arrival to the end of the answer.", looks{unit: "s", line: []float64{30, 120}},
			query{quantile("0.95", "whisperpool_request_duration_seconds", "", `, outcome="served"`), "p95"}),
		b.number(5, 3, "Waiting", "Jobs that wait for a backend.", looks{unit: "short", decimal: 0}, query{`sum(whisperpool_queue_depth{$})`, "waiting"}),
		b.number(5, 3, "Backends out of use", "Backends that cannot be used at present, drained ones included. Look into the table below for which and why.",
			looks{unit: "short", decimal: 0, line: []float64{1, 3}}, query{`count(min by (pool, upstream) (whisperpool_backend_up{$}) == 0) or vector(0)`, "out of use"}),
		b.number(5, 3, "Saturation", "Jobs that run or wait, over the slots of the usable backends. Above 1 some wait; above 3 the queue is long.",
			looks{unit: "percentunit", decimal: 0, line: []float64{1, 3}, none: "no backend"}, query{`max(whisperpool_saturation_ratio{$} < +Inf)`, "saturation"}),
	}
}

func (b board) seen() []panel {
	return []panel{
		b.graph(8, 8, "Requests by how they ended", "Everything but served, and what is the client's own mistake (invalid, client_gone, ...), was turned away or failed.",
			looks{unit: "reqps", stack: true, least: 0, colors: outcomeColors},
			query{`sum by (outcome) (rate(whisperpool_requests_total{$}[$__rate_interval])) > 0`, "{{outcome}}"}),
		b.graph(8, 8, "How long served requests took", "From arrival to the end of the answer, queue included. The difference between the lines is short and long recordings as much as load.",
			looks{unit: "s", least: 0},
			query{quantile("0.5", "whisperpool_request_duration_seconds", "", `, outcome="served"`), "half take less"},
			query{quantile("0.95", "whisperpool_request_duration_seconds", "", `, outcome="served"`), "95 % take less"},
			query{quantile("0.99", "whisperpool_request_duration_seconds", "", `, outcome="served"`), "99 % take less"}),
		b.graph(8, 8, "Answered with an error, by code", "queue_full and wait_too_long: more slots or fewer jobs. no_backend: see the table. deadline_passed: the client's deadline could not be kept. invalid ones are clients'.",
			looks{unit: "reqps", least: 0, bars: true, stack: true, colors: outcomeColors},
			query{`sum by (code) (rate(whisperpool_refusals_total{$}[$__rate_interval])) > 0`, "{{code}}"}),
	}
}

func (b board) waiting() []panel {
	return []panel{
		b.graph(8, 8, "Jobs that wait, by priority", "Interactive jobs go first, each band is worth 30 s of waiting.",
			looks{unit: "short", stack: true, least: 0, colors: map[string]string{"interactive": "green", "default": "blue", "batch": "purple"}},
			query{`sum by (band) (whisperpool_queue_band_depth{$})`, "{{band}}"}),
		b.graph(8, 8, "How long jobs wait", "Time in the queue of those that left it, and the age of the first that is still there.",
			looks{unit: "s", least: 0},
			query{quantile("0.5", "whisperpool_queue_seconds", "", ""), "half wait less"},
			query{quantile("0.95", "whisperpool_queue_seconds", "", ""), "95 % wait less"},
			query{`max(whisperpool_queue_oldest_seconds{$})`, "oldest now"}),
		b.graph(8, 8, "Jobs that run, and slots there are", "Where running stays below the slots while jobs wait, somebody is left out: look for a breaker or a model that few serve.",
			looks{unit: "short", least: 0, steps: true, dashed: "slots"},
			query{`sum(whisperpool_backend_outstanding{$})`, "running"},
			query{`sum(whisperpool_backend_slots{$} * whisperpool_backend_up{$})`, "usable slots"},
			query{`sum(whisperpool_queue_depth{$})`, "waiting"}),
	}
}

func (b board) backends() []panel {
	by := "(pool, upstream, class)"
	return []panel{
		b.table(24, 8, "Backends", "One row a backend; click a name for its own dashboard. State open: left alone after failures. Speed is what was learned for 10 s of speech; predictions near 100 % came true. Failed counts attempts of the last 15 minutes.",
			column{name: "Pool", label: "pool", width: 110},
			column{name: "Backend", label: "upstream", look: []object{{"id": "links", "value": toBackend("${__data.fields.Pool}", "${__data.fields.Backend}")}}},
			column{name: "Class", label: "class", width: 90},
			column{name: "State", label: "state", text: true, expr: `max by (pool, upstream, class, state) (whisperpool_backend_state{$} == 1)`, look: mapped(stateColors), width: 110},
			column{name: "Running", expr: `sum by ` + by + ` (whisperpool_backend_outstanding{$})`, digits: 0, width: 100},
			column{name: "Slots", expr: `max by ` + by + ` (whisperpool_backend_slots{$})`, digits: 0, width: 90},
			column{name: "Served/s", expr: `sum by ` + by + ` (rate(whisperpool_attempts_total{$, result="success"}[$__rate_interval]))`, unit: "reqps", digits: 2, width: 120},
			column{name: "Audio s/s", expr: `sum by ` + by + ` (rate(whisperpool_audio_seconds_total{$}[$__rate_interval]))`, digits: 1, width: 120},
			column{name: "10 s take", expr: `avg by ` + by + ` (whisperpool_backend_learned_seconds{$})`, unit: "s", width: 120},
			column{name: "Came true", expr: quantile("0.5", "whisperpool_prediction_ratio", "pool, upstream, class", ""), unit: "percentunit", digits: 0, width: 120,
				look: colored(step("orange", nil), step("green", .7), step("orange", 1.4), step("red", 3))},
			column{name: "Failed", expr: `sum by ` + by + ` (increase(whisperpool_attempts_total{$, result=~"failed|died"}[15m]))`, digits: 0, width: 100, look: colored(step("text", nil), step("orange", 1), step("red", 10))},
		),
	}
}

func (b board) placing() []panel {
	return []panel{
		b.graph(8, 8, "Attempts that did not serve", "failed: answered with an error or nonsense. died: the connection broke. busy and loading cost little. Click a line for the backend.",
			looks{unit: "ops", least: 0, bars: true, stack: true, links: bySeries},
			query{`sum by (pool, upstream, result) (rate(whisperpool_attempts_total{$, result!~"success|aborted|client_error"}[$__rate_interval])) > 0`, "{{upstream}} {{result}}"}),
		b.graph(8, 8, "What is believed of backends", "opened: left alone, with the cause. A backend that opens again and again has a fault that comes and goes.",
			looks{unit: "short", least: 0, bars: true, stack: true, decimal: 0, links: bySeries},
			query{`sum by (pool, upstream, verdict, cause) (increase(whisperpool_breaker_transitions_total{$}[$__rate_interval])) > 0`, "{{upstream}} {{verdict}} {{cause}}"}),
		b.graph(8, 8, "Second tries", "Attempts after a failed one, and second attempts beside a slow one (with hedge on). Many retries: some backend fails.",
			looks{unit: "ops", least: 0, stack: true},
			query{`sum by (reason) (rate(whisperpool_retries_total{$}[$__rate_interval]))`, "after {{reason}}"},
			query{`sum by (result) (rate(whisperpool_hedges_total{$}[$__rate_interval]))`, "beside, {{result}}"}),
		b.graph(8, 8, "Attempts begun, by GPU class", "Where jobs go. A fast class gets more, a slow one what it finishes in time.",
			looks{unit: "ops", least: 0, stack: true},
			query{`sum by (class) (rate(whisperpool_placements_total{$}[$__rate_interval]))`, "{{class}}"}),
		b.graph(8, 8, "Why that backend", "best: done first there. near: idle and hardly later. explore: its speed is to be learned. half_open and trying: it is being tried again.",
			looks{unit: "percentunit", percent: true, least: 0},
			query{`sum by (reason) (rate(whisperpool_placements_total{$}[$__rate_interval])) > 0`, "{{reason}}"}),
		b.graph(8, 8, "Uploads held", "What waits and runs, in memory and in files without a name. upload memory and queue max_bytes are the limits.",
			looks{unit: "bytes", least: 0, stack: true},
			query{`sum by (place) (whisperpool_upload_bytes{$})`, "{{place}}"}),
	}
}
