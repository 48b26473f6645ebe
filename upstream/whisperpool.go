package upstream

import (
	"context"
	"net/http"
	"net/url"

	"github.com/whisperpool/whisperpool/transcript"
)

// whisperPool is our own backend. It speaks all dialects, so it is asked in the client's own.
type whisperPool struct{}

func (whisperPool) Name() string { return "whisperpool" }

// FreesOnCancel: it aborts the inference of a client that left.
func (whisperPool) FreesOnCancel() bool { return true }

func (whisperPool) DefaultSlots() int { return 1 }

func (whisperPool) DecodesAll() bool { return true }

func (whisperPool) TellsSpeakers() bool { return true }

// asks in the client's own dialect. Who speaks whisper-asr-webservice's is asked for in one of the two
// others, which can name the model.
func (whisperPool) asks(p transcript.Params) asked {
	switch {
	case p.API == transcript.ASR && p.DetectOnly:
		return asked{api: transcript.WhisperServer, format: transcript.VerboseJSON}
	case p.API == transcript.ASR:
		return asked{api: transcript.OpenAI, format: transcript.VerboseJSON}
	case p.Stream:
		return asked{api: p.API, format: transcript.JSON, stream: true}
	}
	return asked{api: p.API, format: p.Format}
}

func (k whisperPool) Render(ctx context.Context, base *url.URL, r Request) (*http.Request, error) {
	var f form
	p, a := r.Params, k.asks(r.Params)
	if a.api == transcript.WhisperServer {
		if r.Model != "" {
			f.set("model", r.Model)
		}
		inferenceFields(&f, p, a)
		return f.post(ctx, endpoint(base, "inference"), r.File)
	}
	openAIFields(&f, r, a)
	if a.stream {
		f.setBool("stream", true)
	}
	if p.Language != "" {
		f.set("language", p.Language)
	}
	return f.post(ctx, audioPath(base, p.Task), r.File)
}

func (k whisperPool) Read(resp *http.Response, r Request) (Verdict, error) {
	v, _, err := read(resp, r, k.asks(r.Params))
	v.Instance = word(resp.Header.Get("X-Whisperpool-Instance"))
	v.Emulator = resp.Header.Get("X-Whisperpool-Emulator") != ""
	return v, err
}

// loadReport is what the backend answers at /load-report, as backend.Report writes it.
type loadReport struct {
	Server   string `json:"server"`
	Instance string `json:"instance"`
	Ready    bool   `json:"ready"`
	Loading  bool   `json:"loading"`
	Draining bool   `json:"draining"`
	Slots    int    `json:"slots"`
	Busy     int    `json:"busy"`
	Queued   int    `json:"queued"`
	GPUClass string `json:"gpu_class"`
	GPUUUID  string `json:"gpu_uuid"`
	Engine   string `json:"engine"`
	Device   string `json:"device"`
	Models   []struct {
		ID           string `json:"id"`
		Multilingual bool   `json:"multilingual"`
		Translate    bool   `json:"translate"`
		Words        bool   `json:"words"`
	} `json:"models"`
}

// loadReport reads the report; ok tells whether it is one of ours, and not of another server that
// has the path.
func (g probed) loadReport() (report loadReport, ok bool) {
	ok = g.json(&report) && report.Server == "whisperpool"
	return report, ok
}

// Probe asks for the load report, and for the health if there is a health_uri.
func (whisperPool) Probe(ctx context.Context, base *url.URL, p Prober) (Report, error) {
	got, err := get(ctx, p, endpoint(base, "load-report"))
	if err != nil {
		return Report{}, err
	}
	load, ok := got.loadReport()
	if !ok {
		report := got.report()
		if report.Ready {
			report = Report{Detail: got.String() + ": no load report; is it a backend of whisperpool?"}
		}
		return report, nil
	}
	report := load.report()
	if p.HealthURI() == "" || !report.Ready {
		return report, nil
	}
	state, err := health(ctx, base, p)
	if err != nil {
		return Report{}, err
	}
	report.Ready, report.Loading, report.Detail = state.Ready, state.Loading, state.Detail
	return report, nil
}

func (l loadReport) report() Report {
	report := Report{
		Ready: l.Ready && !l.Draining, Loading: l.Loading,
		Instance: word(l.Instance), Slots: max(l.Slots, 0), Busy: min(max(l.Busy, 0), countMax), Queued: min(max(l.Queued, 0), countMax),
		GPUClass: word(l.GPUClass), GPUUUID: word(l.GPUUUID), Engine: oneLine(l.Engine), Device: oneLine(l.Device),
	}
	if report.Slots > slotsMax { // no card has them: nothing told
		report.Slots = 0
	}
	switch {
	case l.Loading:
		report.Detail = "its model is being loaded"
	case l.Draining:
		report.Detail = "it is shutting down"
	case !l.Ready:
		report.Detail = "it says that it is not ready"
	}
	if report.Loading { // what it will serve is not told yet
		return report
	}
	var told []string
	can := make(map[string]Can, len(l.Models))
	for _, m := range l.Models {
		told = append(told, m.ID)
		can[m.ID] = Can{Translate: m.Translate, Words: m.Words, Languages: m.Multilingual}
	}
	report.Models, report.Can = modelNames(told), map[string]Can{}
	for _, name := range report.Models {
		report.Can[name] = can[name]
	}
	return report
}
