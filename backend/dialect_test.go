package backend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// recorded is an engine that keeps what it was asked and says two things.
type recorded struct {
	multilingual bool
	params       transcript.Params
	samples      int
}

func (e *recorded) engine() backend.Transcriber {
	return engineFunc{
		info: backend.EngineInfo{Engine: "test", Model: "base", Multilingual: e.multilingual, Slots: 1, Device: "CPU"},
		run: func(_ context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error) {
			e.params, e.samples = p, len(samples)
			t := transcript.Transcript{Task: p.Task, Language: "de", LanguageProbs: map[string]float64{"de": 0.75, "en": 0.25}}
			if !p.DetectOnly {
				t.Segments = []transcript.Segment{{Start: 0, End: 1, Text: " Guten Tag."}, {ID: 1, Start: 1, End: 2, Text: " Wer da?"}, {ID: 2, Start: 2, End: 3, Text: " Ja."}}
			}
			return t, nil
		},
	}
}

// asrForm is a body with the audio in audio_file, as Bazarr's library writes it.
func asrForm(audio []byte) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("audio_file", "audio_file")
	_, _ = part.Write(audio)
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestASR(t *testing.T) {
	e := &recorded{multilingual: true}
	_, base := serve(t, backend.Config{Version: "1.2"}, e.engine())
	contentType, body := asrForm(wav(3)[44:])
	a := send(t, http.MethodPost, base+"/asr?task=transcribe&language=de&output=srt&encode=false", contentType, body)
	if want := "1\n00:00:00,000 --> 00:00:01,000\nGuten Tag.\n\n2\n00:00:01,000 --> 00:00:02,000\nWer da?\n\n3\n00:00:02,000 --> 00:00:03,000\nJa.\n\n"; a.status != 200 || a.body != want {
		t.Errorf("%d %q", a.status, a.body)
	}
	if e.samples != 3*16000 || e.params.Language != "de" || e.params.Task != transcript.Transcribe || e.params.API != transcript.ASR {
		t.Errorf("%d samples, %+v", e.samples, e.params)
	}
	if h := a.header; h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Asr-Engine") != "test" || h.Get("Content-Disposition") != `attachment; filename="audio_file.srt"` {
		t.Errorf("%v", h)
	}
	contentType, body = asrForm(wav(3))
	for output, want := range map[string]string{
		"": "Guten Tag.\nWer da?\nJa.\n", "&output=txt": "Guten Tag.\nWer da?\nJa.\n",
		"&output=tsv":  "start\tend\ttext\n0\t1000\tGuten Tag.\n1000\t2000\tWer da?\n2000\t3000\tJa.\n",
		"&output=vtt":  "WEBVTT\n\n00:00.000 --> 00:01.000\nGuten Tag.\n\n00:01.000 --> 00:02.000\nWer da?\n\n00:02.000 --> 00:03.000\nJa.\n\n",
		"&output=json": `"language":"de"}`,
	} {
		if a := send(t, http.MethodPost, base+"/asr?encode=true"+output, contentType, body); a.status != 200 || a.body != want && !strings.Contains(a.body, want) || output != "&output=json" && a.body != want {
			t.Errorf("%s: %d %q", output, a.status, a.body)
		}
	}
	if e.samples != 3*16000 || e.params.Language != "" {
		t.Errorf("%d samples, %+v", e.samples, e.params)
	}
	if a := send(t, http.MethodGet, base+"/status", "", nil); a.status != 200 || strings.TrimSpace(a.body) != `{"version":"whisperpool 1.2"}` {
		t.Errorf("/status: %d %s", a.status, a.body)
	}
}

func TestASRRefuses(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	for _, c := range []struct{ query, field, param, mention string }{
		{"output=xml", "audio_file", "output", "tsv"},
		{"encode=maybe", "audio_file", "encode", "true or false"},
		{"", "file", "audio_file", "audio_file; files were found in"},
	} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormFile(c.field, "a.wav")
		_, _ = part.Write(wav(0.1))
		_ = w.Close()
		a := send(t, http.MethodPost, base+"/asr?"+c.query, w.FormDataContentType(), b.Bytes())
		if p := a.problem(t); a.status != 400 || p.param != c.param || !strings.Contains(p.message, c.mention) {
			t.Errorf("%+v: %d %s", c, a.status, a.body)
		}
	}
}

func TestDetectLanguage(t *testing.T) {
	e := &recorded{multilingual: true}
	_, base := serve(t, backend.Config{}, e.engine())
	contentType, body := asrForm(wav(40)[44:])
	a := send(t, http.MethodPost, base+"/detect-language?encode=false", contentType, body)
	if want := `{"detected_language":"german","language_code":"de","confidence":0.75}`; a.status != 200 || strings.TrimSpace(a.body) != want {
		t.Errorf("%d %s, want %s", a.status, a.body, want)
	}
	if e.samples != 30*16000 || !e.params.DetectOnly || a.header.Get("Content-Disposition") != "" {
		t.Errorf("%d samples, %+v", e.samples, e.params)
	}
}

func TestInferenceDefaults(t *testing.T) {
	e := &recorded{multilingual: true}
	_, base := serve(t, backend.Config{}, e.engine())
	contentType, body := form(wav(0.5), "model", "nonsense", "response_format", "nonsense")
	a := send(t, http.MethodPost, base+"/inference", contentType, body)
	if a.status != 200 || strings.TrimSpace(a.body) != `{"text":" Guten Tag.\n Wer da?\n Ja.\n"}` || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	if e.params.BestOf != 2 || e.params.Language != "en" {
		t.Errorf("%+v", e.params)
	}
	transcribe(t, base)
	if e.params.BestOf != 0 || e.params.Language != "" {
		t.Errorf("OpenAI's: %+v", e.params)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodOptions, base+"/inference", nil)
	if a := do(t, req); a.status != 200 || a.body != "" || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("OPTIONS: %d %q %v", a.status, a.body, a.header)
	}
}

func TestInferenceDetectsTheLanguage(t *testing.T) {
	e := &recorded{multilingual: true}
	_, base := serve(t, backend.Config{}, e.engine())
	contentType, body := form(wav(40), "detect_language", "true", "response_format", "verbose_json")
	a := send(t, http.MethodPost, base+"/inference", contentType, body)
	var v struct {
		Language, Text string
		Duration       float64
		Segments       []any
		Probability    float64 `json:"detected_language_probability"`
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || v.Language != "german" || v.Duration != 40 || v.Text != "" || len(v.Segments) > 0 || v.Probability != 0.75 {
		t.Errorf("%d %s %v", a.status, a.body, err)
	}
}

// stereo is three seconds: the first speaker on the left, the second one on the right, both.
func stereo() []byte {
	const rate = 16000
	var data bytes.Buffer
	for i := range 3 * rate {
		v := 8000 * math.Sin(float64(i)*2*math.Pi*440/rate)
		l, r := v, 0.0
		switch i / rate {
		case 1:
			l, r = 0.05*v, v
		case 2:
			l, r = v, 0.95*v
		}
		_ = binary.Write(&data, binary.LittleEndian, [2]int16{int16(l), int16(r)})
	}
	b := append([]byte(nil), wav(0)...)
	binary.LittleEndian.PutUint16(b[22:], 2)
	binary.LittleEndian.PutUint32(b[28:], 4*rate)
	binary.LittleEndian.PutUint16(b[32:], 4)
	binary.LittleEndian.PutUint32(b[40:], uint32(data.Len()))
	return append(b, data.Bytes()...)
}

func TestDiarize(t *testing.T) {
	e := &recorded{multilingual: true}
	_, base := serve(t, backend.Config{}, e.engine())
	ask := func(file []byte, fields ...string) string {
		contentType, body := form(file, fields...)
		return send(t, http.MethodPost, base+"/inference", contentType, body).body
	}
	if got, want := ask(stereo(), "diarize", "true", "response_format", "text"), "(speaker 0) Guten Tag.\n(speaker 1) Wer da?\n(speaker ?) Ja.\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := ask(stereo(), "diarize", "true", "response_format", "verbose_json"); strings.Count(got, `"speaker":"0"`) != 1 || strings.Count(got, `"speaker":"?"`) != 1 {
		t.Errorf("%s", got)
	}
	if got := ask(stereo(), "diarize", "true", "response_format", "vtt"); !strings.Contains(got, "\n<v Speaker1> Wer da?\n") {
		t.Errorf("%s", got)
	}
	if got := ask(wav(3), "diarize", "true", "response_format", "text"); got != "(speaker ?) Guten Tag.\n(speaker ?) Wer da?\n(speaker ?) Ja.\n" {
		t.Errorf("of one channel: %q", got)
	}
	if got := ask(stereo(), "response_format", "verbose_json"); strings.Contains(got, "speaker") {
		t.Errorf("not asked for: %s", got)
	}
}

// Some clients send the audio in a part without a file name.
func TestAudioWithoutAFileName(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	for name, c := range map[string]struct {
		content []byte
		status  int
	}{"audio": {wav(0.5), 200}, "the name of a file": {[]byte("audio.wav"), 400}, "nothing": {nil, 400}} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormField("file")
		_, _ = part.Write(c.content)
		_ = w.Close()
		if a := send(t, http.MethodPost, base+"/inference", w.FormDataContentType(), b.Bytes()); a.status != c.status {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestPage(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	a := send(t, http.MethodGet, base+"/", "", nil)
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, "whisper-backend") || a.header.Get("Content-Security-Policy") == "" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if strings.Contains(a.body, "Whisper.cpp Server") {
		t.Error("proxies would take it for whisper.cpp's server")
	}
}
