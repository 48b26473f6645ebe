package main

import "strings"

func capacity() board {
	b := board{
		uid: "whisperpool-capacity", title: "whisperpool / Capacity and cost",
		description: "Which GPU earns its keep, how far the pool is from full, and when the queue is gone.",
		selects:     []object{choice("class", "GPU class", `whisperpool_backend_up{job=~"$job", instance=~"$instance", pool=~"$pool"}`, true)},
	}
	// What waits is not attributed to a class while nobody can serve it, so that class "" is chosen too.
	b.selects[0]["allValue"] = ".*"
	b.rows = []row{
		{panels: b.fullness()},
		{title: "Which GPU earns its keep", panels: b.keep()},
		{title: "How full, and how soon", panels: b.soon()},
		{title: "Whose audio (with the option tenant)", panels: b.tenants()},
		{title: "Cost (with the rules of prices.yml)", collapsed: true, panels: b.cost()},
		{title: "The cards themselves (with NVIDIA's DCGM exporter)", collapsed: true, panels: b.cards()},
	}
	return b
}

const (
	// audio are seconds of it a second.
	audio = `(rate(whisperpool_audio_seconds_total{$}[$__rate_interval]))`
	// slots are those that can be used, of a proxy; several proxies share them, so that the largest counts.
	usable = `max by (pool, upstream, class) (whisperpool_backend_slots{$} * whisperpool_backend_up{$})`
	// busy is the share of the time in which something ran on a backend.
	busy = `max by (pool, upstream, class) (avg_over_time(clamp_max(whisperpool_backend_outstanding{$}, 1)[$__rate_interval:]))`
	// work of a class is what runs there and what waits for it.
	work = `sum by (class) (whisperpool_backend_outstanding{$} or whisperpool_queue_attributed{$})`
)

// drainRate is how many jobs a second the usable backends would finish with all slots taken, by class.
var drainRate = `sum by (class) (` + usable + ` / (` + part("sum", "whisperpool_service_seconds", "pool, upstream, class", "", "15m") + ` / ` +
	part("count", "whisperpool_service_seconds", "pool, upstream, class", "", "15m") + `))`

// efficiency is the share of the slots' time that went into answers, weighed by how fast each backend is.
var efficiency = `sum(` + part("sum", "whisperpool_service_seconds", "pool, upstream", "", "$__rate_interval") + ` / on (pool, upstream) avg by (pool, upstream) (whisperpool_backend_learned_seconds{$}))` +
	` / sum(max by (pool, upstream) (avg_over_time(whisperpool_backend_slots{$}[$__rate_interval])) / on (pool, upstream) avg by (pool, upstream) (whisperpool_backend_learned_seconds{$}))`

func (b board) fullness() []panel {
	return []panel{
		b.number(4, 4, "Audio a second", "Seconds of audio that are transcribed each second.", looks{unit: "none", decimal: 1}, query{`sum` + audio, "audio"}),
		b.number(4, 4, "Hours of audio", "Transcribed in the time that is shown.", looks{unit: "none", decimal: 1}, query{`sum(increase(whisperpool_audio_seconds_total{$}[$__range])) / 3600`, "hours"}),
		b.number(4, 4, "Audio per GPU second", "Seconds of audio a second, over the backends there are, idle or not: what a card brings.", looks{unit: "none", decimal: 1},
			query{`sum` + audio + ` / count(max by (pool, upstream) (whisperpool_backend_up{$}))`, "audio"}),
		b.number(4, 4, "Work for each slot", "Jobs that run or wait, over usable slots. 70 to 80 % for long: add a backend. Below 30 % for days: take one away.",
			looks{unit: "percentunit", decimal: 0, line: []float64{.8, 1.5}, none: "no backend"}, query{`sum(` + work + `) / (sum(` + usable + `) > 0)`, "work"}),
		b.number(4, 4, "Queue gone in", "Jobs that wait, over what the usable backends finish a second at full slots (mean of 15 minutes).",
			looks{unit: "s", line: []float64{60, 240}}, query{`sum(whisperpool_queue_attributed{$}) / (sum(` + drainRate + `) > 0)`, "drain"}),
		b.number(4, 4, "Useful slot time", "Slot time that became answers, weighed by speed: 100 % is all cards busy with work that succeeded. Low while jobs wait: breakers, failed attempts, or models that few serve.",
			looks{unit: "percentunit", decimal: 0}, query{efficiency, "efficiency"}),
	}
}

func (b board) keep() []panel {
	by := "(class)"
	return []panel{
		b.table(24, 6, "GPU classes", "One row a class. Audio per GPU second is what a card brings as it is loaded now, per busy second what it could bring. A class with little of either for its price does not earn its keep.",
			column{name: "Class", label: "class", width: 110},
			column{name: "Backends", expr: `count by ` + by + ` (max by (pool, upstream, class) (whisperpool_backend_up{$}))`, digits: 0, width: 110},
			column{name: "Usable", expr: `sum by ` + by + ` (max by (pool, upstream, class) (whisperpool_backend_up{$}))`, digits: 0, width: 110},
			column{name: "Slots", expr: `sum by ` + by + ` (` + usable + `)`, digits: 0, width: 110},
			column{name: "Audio s/s", expr: `sum by ` + by + ` ` + audio, digits: 1, width: 145},
			column{name: "Share of audio", expr: `sum by ` + by + ` ` + audio + ` / scalar(sum` + audio + `)`, unit: "percentunit", digits: 0, width: 145},
			column{name: "Busy", expr: `avg by ` + by + ` (` + busy + `)`, unit: "percentunit", digits: 0, width: 145},
			column{name: "Audio per GPU s", expr: `sum by ` + by + ` ` + audio + ` / count by ` + by + ` (max by (pool, upstream, class) (whisperpool_backend_up{$}))`, digits: 1, width: 145},
			column{name: "Per busy GPU s", expr: `sum by ` + by + ` ` + audio + ` / sum by ` + by + ` (` + busy + `)`, digits: 1, width: 145},
			column{name: "Waiting for it", expr: `sum by ` + by + ` (whisperpool_queue_attributed{$, class!=""})`, digits: 1},
		),
		b.graph(12, 8, "Audio per GPU second, by class", "Seconds of audio a second for each backend of the class, idle or not.", looks{unit: "none", least: 0},
			query{`sum by (class) ` + audio + ` / count by (class) (max by (pool, upstream, class) (whisperpool_backend_up{$}))`, "{{class}}"}),
		b.graph(12, 8, "Audio per busy GPU second, by backend", "The same while something ran there: how fast the card really is. Backends of one class should lie together; click one that does not.",
			looks{unit: "none", least: 0, links: bySeries},
			query{`sum by (pool, upstream, class) ` + audio + ` / (` + busy + ` > 0)`, "{{upstream}} ({{class}})"}),
		b.bars(12, 7, "10 s of speech take, by class and model", "What was learned, mean of the class.", looks{unit: "s", least: 0},
			query{`avg by (class, model) (whisperpool_backend_learned_seconds{$})`, "{{class}} {{model}}"}),
		b.graph(12, 7, "Time that brought nothing", "Seconds a second that attempts ran which did not give the answer; and how many hedged attempts were for nothing.", looks{unit: "none", least: 0},
			query{ofPools(total("whisperpool_request_phase_seconds", "", `, phase="failed_attempt"`)), "failed attempts"},
			query{ofPools(`sum(rate(whisperpool_hedges_total{$, result!="won"}[$__rate_interval]))`), "hedges for nothing, a second"}),
	}
}

func (b board) soon() []panel {
	return []panel{
		b.graph(12, 8, "Work and slots, by class", "Jobs that run there or are predicted to be served there, against the usable slots. Work for none: nobody serves it now, or backends have no class. This is what scales: docs/dashboards.md, Autoscaling.",
			looks{unit: "short", least: 0, dashed: "slots"},
			query{`sum by (class) (whisperpool_backend_outstanding{$, class!=""} or whisperpool_queue_attributed{$, class!=""})`, "work for {{class}}"},
			query{`sum by (class) (` + usable + `)`, "slots of {{class}}"},
			query{`sum(whisperpool_queue_attributed{$, class=""})`, "work for none"}),
		b.graph(12, 8, "Queue gone in, by class", "What waits for the class, over what it finishes a second at full slots. Above queue max_wait (4m) requests are turned away.",
			looks{unit: "s", least: 0, line: []float64{240}},
			query{`sum by (class) (whisperpool_queue_attributed{$}) / (` + drainRate + ` > 0)`, "{{class}}"}),
		b.graph(12, 8, "Slots in use, by class", "100 %: every slot is taken. A class that is never above half may be one card smaller.", looks{unit: "percentunit", least: 0, most: 1},
			query{`sum by (class) (avg_over_time(whisperpool_backend_outstanding{$}[$__rate_interval])) / (sum by (class) (` + usable + `) > 0)`, "{{class}}"}),
		b.graph(12, 8, "Waiting beside useful slot time", "Slot time that became answers, weighed by speed, beside the share of time in which jobs waited. Waiting with a low share: something keeps cards from the work.",
			looks{unit: "percentunit", least: 0},
			query{efficiency, "became answers"},
			query{ofPools(`max(avg_over_time((whisperpool_queue_depth{$} > bool 0)[$__rate_interval:]))`), "time in which jobs waited"}),
	}
}

func (b board) tenants() []panel {
	return []panel{
		b.graph(24, 8, "Audio by tenant", "The ten largest, by a hash of what the option tenant gives (docs/metrics.md says how to find a tenant's). Seconds of audio a second.",
			looks{unit: "none", least: 0, stack: true, right: true, calcs: []string{"mean"}},
			query{ofPools(`topk(10, sum by (tenant) (rate(whisperpool_tenant_audio_seconds_total{$}[$__rate_interval])))`), "{{tenant}}"}),
	}
}

func (b board) cost() []panel {
	price := `max by (class) (whisperpool:gpu_hour:price)`
	backends := `count by (class) (max by (pool, upstream, class) (whisperpool_backend_up{$}))`
	audio := strings.ReplaceAll(audio, "$__rate_interval", "15m") // a card that is idle for a minute is no news
	return []panel{
		b.graph(12, 8, "Price of an hour of audio, by class", "The prices of prices.yml for the class's backends, over the audio that they transcribed in 15 minutes; idle cards cost, too.", looks{unit: "none", least: 0, decimal: 3},
			query{`(` + backends + ` * on (class) ` + price + `) / (sum by (class) ` + audio + ` > 0)`, "{{class}}"}),
		b.graph(12, 8, "Share of audio over share of price, by class", "Above 1 the class brings more than it costs, beside the others.", looks{unit: "none", least: 0},
			query{`(sum by (class) ` + audio + ` / scalar(sum` + audio + `)) / on (class) ((` + backends + ` * on (class) ` + price + `) / scalar(sum(` + backends + ` * on (class) ` + price + `)))`, "{{class}}"}),
	}
}

// cards joins DCGM's series with the backends that run on them, by the card's UUID. Several backends may share a card.
func (b board) cards() []panel {
	card := func(by, metric string) string {
		return `max by (` + by + `, UUID) (label_replace(whisperpool_backend_info{$, gpu_uuid!=""}, "UUID", "$1", "gpu_uuid", "(.*)")) * on (UUID) group_left () max by (UUID) (` + metric + `)`
	}
	const backends = "pool, upstream, class"
	power := `sum by (class) (` + card("class", "DCGM_FI_DEV_POWER_USAGE") + `)`
	return []panel{
		b.graph(8, 8, "Power, by class", "Of all cards of the class.", looks{unit: "watt", least: 0}, query{power, "{{class}}"}),
		b.graph(8, 8, "Energy for a second of audio", "Power over the audio a second; joule a second of audio are watt-hours an hour of audio.", looks{unit: "joule", least: 0},
			query{power + ` / (sum by (class) ` + audio + ` > 0)`, "{{class}}"}),
		b.graph(8, 8, "Engine active", "Share of the time in which the card computed. Low with all slots taken: more slots may pay, or the CPU is too slow.", looks{unit: "percentunit", least: 0, most: 1, links: bySeries},
			query{card(backends, "DCGM_FI_PROF_GR_ENGINE_ACTIVE"), "{{upstream}}"}),
		b.graph(8, 8, "Memory used", "Of the backend's card, by everything on it.", looks{unit: "decmbytes", least: 0, links: bySeries}, query{card(backends, "DCGM_FI_DEV_FB_USED"), "{{upstream}}"}),
		b.graph(8, 8, "Temperature", "A card that throttles becomes slow: compare with its learned speed.", looks{unit: "celsius", line: []float64{80, 90}, links: bySeries}, query{card(backends, "DCGM_FI_DEV_GPU_TEMP"), "{{upstream}}"}),
		b.graph(8, 8, "Xid errors", "The last error's number, 0 without. NVIDIA's documentation says which are the hardware's.", looks{unit: "none", least: 0, decimal: 0, links: bySeries}, query{card(backends, "DCGM_FI_DEV_XID_ERRORS"), "{{upstream}}"}),
	}
}
