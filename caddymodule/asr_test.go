package caddymodule

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
)

// asr posts audio as whisper-asr-webservice's clients do.
func (p *proxy) asr(pathAndQuery string, file []byte) response {
	p.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, _ := w.CreateFormFile("audio_file", "audio_file")
	_, _ = part.Write(file)
	_ = w.Close()
	return p.persist(func() (response, error) {
		return send(p.t.Context(), http.MethodPost, p.url+pathAndQuery, http.Header{"Content-Type": {w.FormDataContentType()}}, b.Bytes())
	})
}

// Bazarr's subtitles, from every kind of backend.
func TestASR(t *testing.T) {
	for _, kind := range []string{"whisperpool", "openai", "whisper_server"} {
		t.Run(kind, func(t *testing.T) {
			backend := newWhisper(t, func(s *whisper) { s.kind = kind })
			p := newProxy(t, "backend "+backend.address()+"\ndefault_model base")
			p.ready(1)
			clip := wav(2)
			r := p.asr("/asr?task=transcribe&language=de&output=srt&encode=false", clip[44:])
			if want := "1\n00:00:00,000 --> 00:00:01,000\nask not what\n\n"; r.status != 200 || r.body != want {
				t.Fatalf("%d %q", r.status, r.body)
			}
			if h := r.header; h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Asr-Engine") != "whisperpool" || h.Get("Content-Disposition") != `attachment; filename="audio_file.srt"` && h.Get("Content-Disposition") != `attachment; filename="audio.wav.srt"` {
				t.Errorf("%v", h)
			}
			got := backend.requests()[0]
			if got.fileHash != digest(clip) || got.form["language"][0] != "de" || got.form["response_format"][0] != "verbose_json" {
				t.Errorf("the backend got %d bytes of %d and %v", got.fileSize, len(clip), got.form)
			}
			for output, want := range map[string]string{
				"": "ask not what\n", "&output=tsv": "start\tend\ttext\n0\t1000\task not what\n", "&output=json": `"language":"en"}` + "\n",
				"&output=vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nask not what\n\n",
			} {
				if r := p.asr("/asr?encode=true"+output, clip); r.status != 200 || !strings.HasSuffix(r.body, want) {
					t.Errorf("%s: %d %q", output, r.status, r.body)
				}
			}
			if r := p.asr("/asr?task=translate&language=de&output=srt", clip); r.status != 200 {
				t.Errorf("translating: %d %s", r.status, r.body)
			}
			requests := backend.requests()
			if last := requests[len(requests)-1]; last.path != "/v1/audio/translations" && last.form["translate"][0] != "true" {
				t.Errorf("not translated: %s %v", last.path, last.form)
			}
		})
	}
}

// Of a long recording the language is asked for with its beginning only.
func TestDetectLanguage(t *testing.T) {
	for _, kind := range []string{"whisperpool", "openai", "whisper_server"} {
		t.Run(kind, func(t *testing.T) {
			backend := newWhisper(t, func(s *whisper) { s.kind = kind })
			backend.answer = func(w http.ResponseWriter, _ *http.Request, got sent) {
				answer := map[string]any{"language": "german", "duration": 30, "text": "", "segments": []any{}}
				if got.path == "/inference" && got.form["detect_language"][0] == "true" {
					answer["language_probabilities"] = map[string]float64{"de": 0.75, "en": 0.25}
				}
				reply(w, answer)
			}
			p := newProxy(t, "backend "+backend.address()+"\ndefault_model base")
			p.ready(1)
			long := wav(100)
			want := map[string]string{"openai": "null"}[kind]
			if want == "" {
				want = "0.75"
			}
			want = `{"detected_language":"german","language_code":"de","confidence":` + want + "}\n"
			beginning := append(audio.PCMHeader(30*32000), long[44:44+30*32000]...)
			for name, ask := range map[string]func() response{
				"as a file":        func() response { return p.asr("/detect-language", long) },
				"without a header": func() response { return p.asr("/detect-language?encode=false", long[44:]) },
			} {
				if r := ask(); r.status != 200 || r.body != want || r.header.Get("Content-Disposition") != "" {
					t.Errorf("%s: %d %q", name, r.status, r.body)
				}
				requests := backend.requests()
				if got := requests[len(requests)-1]; got.fileHash != digest(beginning) {
					t.Errorf("%s: the backend got %d bytes, want the first half minute: %d", name, got.fileSize, len(beginning))
				}
			}
			short := wav(3)
			if r := p.asr("/detect-language", short); r.status != 200 {
				t.Errorf("%d %s", r.status, r.body)
			}
			requests := backend.requests()
			if got := requests[len(requests)-1]; got.fileHash != digest(short) {
				t.Errorf("a short file was changed: %d bytes of %d", got.fileSize, len(short))
			}
			if held := p.pool().uploads.held.Load(); held != 0 {
				t.Errorf("%d bytes of uploads are still held", held)
			}
		})
	}
}

// A whole film without a header goes to a file, and from there to the backend.
func TestLongASRUpload(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, fmt.Sprintf("backend %s\nupload {\n\tmemory 64KiB\n\tspool %s\n}", backend.address(), t.TempDir()))
	p.ready(1)
	pcm := make([]byte, 40<<20)
	for i := 0; i < len(pcm); i += 4 {
		binary.LittleEndian.PutUint32(pcm[i:], uint32(i)*2654435761)
	}
	if r := p.asr("/asr?encode=false&output=txt", pcm); r.status != 200 || r.body != "ask not what\n" {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if got := backend.requests()[0]; got.fileHash != digest(append(audio.PCMHeader(int64(len(pcm))), pcm...)) {
		t.Errorf("the backend got %d bytes", got.fileSize)
	}
}

func TestASRRefuses(t *testing.T) {
	backend := newWhisper(t)
	p := newProxy(t, "backend "+backend.address())
	for query, mention := range map[string]string{"output=xml": "tsv", "task=sing": "translate", "encode=perhaps": "true or false", "language=klingon": "klingon"} {
		r := p.asr("/asr?"+query, wav(1))
		if message, _ := r.problem(t); r.status != 400 || !strings.Contains(message, mention) {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
	if r := p.post("/asr", wav(1)); r.status != 400 || !strings.Contains(r.body, "audio_file") {
		t.Errorf("the file in another field: %d %s", r.status, r.body)
	}
	if r := p.asr("/asr?encode=false", []byte("x")); r.status != 400 {
		t.Errorf("half a sample: %d %s", r.status, r.body)
	}
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
}

func TestStatus(t *testing.T) {
	p := newProxy(t, "backend "+newWhisper(t).address())
	if r := p.get("/status"); r.status != 200 || !strings.Contains(r.body, `"version":"whisperpool`) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// Who speaks is asked of those alone who can tell.
func TestSpeakersAreAskedOfThoseWhoTellThem(t *testing.T) {
	speakers, others := newWhisper(t, func(s *whisper) { s.kind = "whisper_server" }), newWhisper(t, func(s *whisper) { s.kind = "openai" })
	p := newProxy(t, "backend "+others.address()+" H100\nbackend "+speakers.address()+" T4\ndefault_model base")
	p.ready(2)
	for range 3 {
		if r := p.post("/inference", wav(1), "diarize=true"); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	if n := len(others.requests()); n != 0 {
		t.Errorf("%d went to one that can't tell", n)
	}
	p.mustLoad(site(p.url, "backend "+others.address()))
	eventually(t, "one is left", func() bool { return len(p.pool().dispatcher.Snapshot().Backends) == 1 })
	p.ready(1)
	if r := p.post("/inference", wav(1), "diarize=true"); r.status != 400 || !strings.Contains(r.body, "speakers") {
		t.Errorf("%d %s", r.status, r.body)
	}
}
