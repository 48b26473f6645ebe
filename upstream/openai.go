package upstream

import (
	"context"
	"net/http"
	"net/url"

	"github.com/whisperpool/whisperpool/transcript"
)

// openAI is any server that speaks OpenAI's audio API: speaches (faster-whisper-server), vLLM,
// LocalAI, OpenAI itself.
type openAI struct{}

func (openAI) Name() string { return "openai" }

// FreesOnCancel: such servers are not known to notice that a client left.
func (openAI) FreesOnCancel() bool { return false }

func (openAI) DefaultSlots() int { return 1 }

func (openAI) DecodesAll() bool { return true }

func (openAI) TellsSpeakers() bool { return false }

// asks for as little as allows the client's answer to be made: json, which all servers and models
// know, unless times are needed; then verbose_json, which more servers know than srt and vtt, and
// which tells the length of the audio.
func (openAI) asks(p transcript.Params) asked {
	a := asked{
		api:    transcript.OpenAI,
		format: transcript.VerboseJSON,
		cut:    p.OffsetMS > 0 || p.DurationMS > 0, // the API has no word for it
	}
	if p.API == transcript.ASR || p.DetectOnly { // each has segments or the language in it
		return a
	}
	if !a.cut && (p.Format == transcript.JSON || p.Format == transcript.Text) {
		a.format = transcript.JSON
	}
	return a
}

// Render leaves out what OpenAI's API has no field for; of whisper.cpp's fields that is how to
// decode and where to break lines.
func (k openAI) Render(ctx context.Context, base *url.URL, r Request) (*http.Request, error) {
	var f form
	p := r.Params
	openAIFields(&f, r, k.asks(p))
	if p.Task != transcript.Translate && p.Language != "" { // translations detect it
		f.set("language", p.Language)
	}
	return f.post(ctx, audioPath(base, p.Task), r.File)
}

func (k openAI) Read(resp *http.Response, r Request) (Verdict, error) {
	v, _, err := read(resp, r, k.asks(r.Params))
	return v, err
}

// openAIFields are the fields of OpenAI's API but for the language.
func openAIFields(f *form, r Request, a asked) {
	p := r.Params
	if r.Model != "" { // else the server's own choice, where it has one
		f.set("model", r.Model)
	}
	f.set("response_format", string(a.format))
	if p.Prompt != "" {
		f.set("prompt", p.Prompt)
	}
	if p.Temperature != 0 {
		f.setFloat("temperature", p.Temperature)
	}
	if p.VAD.On != nil { // no part of OpenAI's API, but of the faster-whisper servers' and our backend's
		f.setBool("vad_filter", *p.VAD.On)
	}
	if p.Words && a.format == transcript.VerboseJSON {
		// Asked for words alone, OpenAI leaves out the segments.
		f.set("timestamp_granularities[]", "segment")
		f.set("timestamp_granularities[]", "word")
	}
}

// Probe asks for the list of models, and for the health if there is a health_uri. A server without
// a list is up, and any model may be sent there.
func (openAI) Probe(ctx context.Context, base *url.URL, p Prober) (Report, error) {
	ownHealth := p.HealthURI() != ""
	report := Report{Ready: true}
	if ownHealth {
		var err error
		if report, err = health(ctx, base, p); err != nil || !report.Ready {
			return report, err
		}
	}
	got, err := get(ctx, p, endpoint(base, "v1", "models"))
	if err != nil {
		return Report{}, err
	}
	if models, ok := got.models(); ok {
		report.Models, report.Can = models, canAll(models)
		return report, nil
	}
	switch got.status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return report, nil
	}
	if ownHealth { // which is what the user trusts
		return report, nil
	}
	report = got.report()
	if report.Ready {
		report = Report{Detail: got.String() + ": no list of models"}
	}
	return report, nil
}

// models reads OpenAI's list of models; ok tells whether it is one.
func (g probed) models() (ids []string, ok bool) {
	var list struct {
		Object string `json:"object"`
		Data   *[]struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if !g.json(&list) || list.Data == nil {
		return nil, false
	}
	for _, model := range *list.Data {
		ids = append(ids, model.ID)
	}
	return modelNames(ids), true
}
