package main

func backend() board {
	b := board{
		uid: "whisperpool-backend", title: "whisperpool / One backend",
		description: "One backend as the proxy sees it, and below what whisper-backend says of itself where it is scraped.",
		selects:     []object{choice("upstream", "Backend", `whisperpool_backend_up{job=~"$job", instance=~"$instance", pool=~"$pool"}`, false)},
	}
	b.rows = []row{
		{panels: b.now()},
		{title: "How it does", panels: b.doing()},
		{title: "What is known of it", panels: b.known()},
		{title: "What whisper-backend says of itself (scraped directly, with the label upstream)", panels: b.direct()},
	}
	return b
}

func (b board) now() []panel {
	state := b.number(4, 4, "State", "up: used. open: left alone after failures, half-open: about to be tried again. down: its health check fails. drained: taken out by hand.",
		looks{unit: "short", colors: stateColors}, query{`max by (state) (whisperpool_backend_state{$} == 1)`, "{{state}}"})
	device := b.number(4, 4, "Device", "What it runs on, as it says itself; only whisper-backend does.", looks{unit: "short"},
		query{`max by (device) (whisperpool_backend_info{$})`, "{{device}}"})
	for _, named := range []panel{state, device} {
		named.object["options"].(object)["textMode"] = "name"
		now := named.object["targets"].([]object)[0] // else all that there were would be named
		now["instant"], now["range"] = true, false
	}
	return []panel{
		state, device,
		b.number(4, 4, "Slots in use", "Attempts in flight there, over those that it is given at a time: mean of the last minutes.", looks{unit: "percentunit", decimal: 0},
			query{`sum(avg_over_time(whisperpool_backend_outstanding{$}[$__rate_interval])) / max(whisperpool_backend_slots{$})`, "in use"}),
		b.number(4, 4, "10 s of speech take", "What is predicted by what was learned, mean of its models.", looks{unit: "s"}, query{`avg(whisperpool_backend_learned_seconds{$})`, "predicted"}),
		b.number(4, 4, "Times faster than speech", "Seconds of audio for each second that an attempt took. Below 1 it does not keep up with a speaker.",
			looks{unit: "none", decimal: 1}, query{`sum(rate(whisperpool_audio_seconds_total{$}[$__rate_interval])) / ` + total("whisperpool_service_seconds", "", ""), "faster"}),
		b.number(4, 4, "Failed attempts", "Share of attempts that it failed, or that died with it. Look at its log, then at the state below.",
			looks{unit: "percentunit", decimal: 1, line: []float64{.01, .1}},
			query{`sum(rate(whisperpool_attempts_total{$, result=~"failed|died"}[$__rate_interval])) / (sum(rate(whisperpool_attempts_total{$}[$__rate_interval])) > 0)`, "failed"}),
	}
}

func (b board) doing() []panel {
	states := b.graph(8, 7, "State over time", "The state at each moment, as the proxy saw it.",
		looks{unit: "short", steps: true, stack: true, least: 0, most: 1, colors: stateColors}, query{`max by (state) (whisperpool_backend_state{$}) > 0`, "{{state}}"})
	states.object["fieldConfig"].(object)["defaults"].(object)["custom"].(object)["axisPlacement"] = "hidden"
	return []panel{
		states,
		b.graph(8, 7, "Jobs that run, and slots", "Running at the slots all the time: it is full. Below while jobs wait: others finish them first, or it lacks their model.",
			looks{unit: "short", steps: true, least: 0, decimal: 0, dashed: "slots"},
			query{`sum(whisperpool_backend_outstanding{$})`, "running"}, query{`max(whisperpool_backend_slots{$})`, "slots"}),
		b.graph(8, 7, "Attempts by how they ended", "failed and died are its own; client_error is the client's mistake, aborted a client that left.",
			looks{unit: "ops", stack: true, least: 0, colors: map[string]string{"success": "green", "failed": "red", "died": "dark-red", "busy": "orange", "loading": "blue", "aborted": "text", "client_error": "purple"}},
			query{`sum by (result) (rate(whisperpool_attempts_total{$}[$__rate_interval])) > 0`, "{{result}}"}),
		b.graph(8, 7, "How long attempts took", "Of successful ones, from sending to the last byte of the answer.", looks{unit: "s", least: 0},
			query{quantile("0.5", "whisperpool_service_seconds", "", ""), "half take less"}, query{quantile("0.95", "whisperpool_service_seconds", "", ""), "95 % take less"}),
		b.graph(8, 7, "Did predictions come true", "Time taken over time predicted: 1 came true. All lines above 1.5 for long: it became slower, and is relearned.",
			looks{unit: "percentunit", least: 0},
			query{quantile("0.1", "whisperpool_prediction_ratio", "", ""), "a tenth below"}, query{quantile("0.5", "whisperpool_prediction_ratio", "", ""), "half below"},
			query{quantile("0.9", "whisperpool_prediction_ratio", "", ""), "nine tenths below"}),
		b.graph(8, 7, "What is believed of it", "opened: left alone, with the cause. suspected and cleared: tried with a piece of speech.",
			looks{unit: "short", bars: true, stack: true, least: 0, decimal: 0},
			query{`sum by (verdict, cause) (increase(whisperpool_breaker_transitions_total{$}[$__rate_interval])) > 0`, "{{verdict}} {{cause}}"}),
	}
}

func (b board) known() []panel {
	return []panel{
		b.graph(8, 7, "10 s of speech take, by model", "What was learned. A step up that stays: another job on the card, heat, another driver or model file.", looks{unit: "s", least: 0},
			query{`avg by (model) (whisperpool_backend_learned_seconds{$})`, "{{model}}"}),
		b.graph(8, 7, "How sure that is", "Spread of actual over predicted times; 0.1 is some 10 %. High: jobs cost by something else than their length.", looks{unit: "percentunit", least: 0},
			query{`avg by (model) (whisperpool_backend_learned_spread_ratio{$})`, "{{model}}"}),
		b.graph(8, 7, "Jobs that it was learned from", "0: still the first guess from the GPU class.", looks{unit: "short", least: 0, decimal: 0},
			query{`sum by (model) (whisperpool_backend_learned_samples{$})`, "{{model}}"}),
		b.graph(8, 7, "Audio transcribed, by model", "Seconds of audio a second.", looks{unit: "none", least: 0, stack: true},
			query{`sum by (model) (rate(whisperpool_audio_seconds_total{$}[$__rate_interval]))`, "{{model}}"}),
		b.graph(8, 7, "Why it was chosen", "best: done first there. near: idle and hardly later. explore: to be learned. half_open and trying: tried again after failures.", looks{unit: "ops", least: 0, stack: true},
			query{`sum by (reason) (rate(whisperpool_placements_total{$}[$__rate_interval])) > 0`, "{{reason}}"}),
		b.graph(8, 7, "Work for each second of audio", "Time taken over the length of the audio: 0.01 is a hundred times faster than the speaker. Short clips cost more.", looks{unit: "none", least: 0},
			query{quantile("0.5", "whisperpool_real_time_factor_ratio", "", ""), "half below"}, query{quantile("0.95", "whisperpool_real_time_factor_ratio", "", ""), "95 % below"}),
	}
}

// direct is what the backend itself exports; the scrape gives its series the label upstream (docs/dashboards.md).
func (b board) direct() []panel {
	const own = `{upstream=~"$upstream"`
	rate := func(name string) string { return `sum(rate(` + name + own + `}[$__rate_interval]))` }
	quantiles := func(name string) []query {
		q := func(q string) string {
			return `histogram_quantile(` + q + `, sum by (le) (rate(` + name + `_bucket` + own + `}[$__rate_interval])))`
		}
		return []query{{q("0.5"), "half take less"}, {q("0.95"), "95 % take less"}}
	}
	return []panel{
		b.graph(8, 7, "Its slots and its own queue", "A queue of its own beside ours: somebody else sends to it, too.", looks{unit: "short", steps: true, least: 0, decimal: 0, dashed: "slots"},
			query{`sum(whisper_backend_busy` + own + `})`, "busy"}, query{`sum(whisper_backend_slots` + own + `})`, "slots"}, query{`sum(whisper_backend_queued` + own + `})`, "queued there"}),
		b.graph(8, 7, "Jobs in a slot", "How long successful jobs held a slot, without transport.", looks{unit: "s", least: 0}, quantiles("whisper_backend_inference_seconds")...),
		b.graph(8, 7, "Requests by how they ended there", "All clients of it, not only this proxy.", looks{unit: "reqps", least: 0, stack: true, colors: map[string]string{"ok": "green", "failed": "red", "invalid": "blue", "client_gone": "text", "queue_full": "orange"}},
			query{`sum by (outcome) (rate(whisper_backend_requests_total` + own + `}[$__rate_interval])) > 0`, "{{outcome}}"}),
		b.graph(8, 7, "Waiting and decoding there", "Time until a slot was free, and time to decode uploads: much of the latter asks for more CPU, or for WAV.", looks{unit: "s", least: 0},
			query{`histogram_quantile(0.95, sum by (le) (rate(whisper_backend_queue_seconds_bucket` + own + `}[$__rate_interval])))`, "waiting, 95 % less"},
			query{`histogram_quantile(0.95, sum by (le) (rate(whisper_backend_decode_seconds_bucket` + own + `}[$__rate_interval])))`, "decoding, 95 % less"}),
		b.graph(8, 7, "Work on the card", "Windows of up to 30 s, and tokens in hundreds. Many tokens a window: dense speech, or a model that repeats itself.", looks{unit: "ops", least: 0},
			query{rate("whisper_backend_windows_total"), "windows"}, query{rate("whisper_backend_tokens_total") + " / 100", "hundreds of tokens"}),
		b.graph(8, 7, "Work done twice or for nothing", "Windows decoded again at a higher temperature, short clips done again, jobs stopped. Many fallbacks: noise, or a wrong language.", looks{unit: "ops", least: 0},
			query{rate("whisper_backend_fallbacks_total"), "fallbacks"}, query{rate("whisper_backend_second_passes_total"), "second passes"}, query{rate("whisper_backend_aborts_total"), "stopped"}),
		b.graph(8, 7, "Memory of the device", "Near its total a slot or a model may not fit any more: fewer slots, or a quantised model.", looks{unit: "bytes", least: 0, dashed: "total"},
			query{`sum(whisper_backend_device_memory_total_bytes` + own + `}) - sum(whisper_backend_device_memory_free_bytes` + own + `})`, "used"},
			query{`sum(whisper_backend_device_memory_total_bytes` + own + `})`, "total"}),
		b.graph(8, 7, "Models in memory", "1: loaded. Models that come and go cost loading time: raise --memory-max or give them to different backends.", looks{unit: "short", steps: true, least: 0, decimal: 0},
			query{`sum by (model) (whisper_backend_model_loaded` + own + `})`, "{{model}}"}),
		b.graph(8, 7, "Takes work", "1 when it takes work, 0 while it loads or shuts down; and loads that failed.", looks{unit: "short", steps: true, least: 0, decimal: 0},
			query{`min(whisper_backend_ready` + own + `})`, "ready"}, query{`sum(increase(whisper_backend_model_load_failures_total` + own + `}[$__rate_interval]))`, "failed loads"}),
	}
}
