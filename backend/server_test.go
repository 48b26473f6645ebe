package backend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

func TestFormats(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	for _, c := range []struct {
		path   string
		fields []string
		kind   string
		parts  []string
	}{
		{"/v1/audio/transcriptions", nil, "application/json", []string{`{"text":"[emulated T4] 0.5 seconds of audio."`}},
		{"/v1/audio/transcriptions", []string{"response_format", "text"}, "text/plain; charset=utf-8", []string{"[emulated T4] 0.5 seconds of audio.\n"}},
		{"/v1/audio/transcriptions", []string{"response_format", "srt"}, "application/x-subrip", []string{"1\n00:00:00,000 --> 00:00:00,500\n"}},
		{"/v1/audio/transcriptions", []string{"response_format", "vtt"}, "text/vtt", []string{"WEBVTT\n\n00:00:00.000 --> 00:00:00.500\n"}},
		{"/v1/audio/transcriptions", []string{"response_format", "verbose_json", "timestamp_granularities[]", "word"}, "application/json",
			[]string{`"duration":0.5`, `"language":"english"`, `"segments":[`, `"words":[`}},
		{"/v1/audio/transcriptions", []string{"stream", "true"}, "text/event-stream", []string{"data: ", "transcript.text.delta", "transcript.text.done"}},
		{"/v1/audio/translations", nil, "application/json", []string{`[emulated T4]`}},
		{"/inference", nil, "application/json", []string{`{"text":" [emulated T4] 0.5 seconds of audio.\n"}`}},
		{"/inference", []string{"response_format", "verbose_json", "model", "no-such-model"}, "application/json", []string{`"segments":[`}},
	} {
		fields := c.fields
		if c.path != "/inference" {
			fields = append([]string{"model", "base"}, fields...)
		}
		contentType, body := form(wav(0.5), fields...)
		a := send(t, http.MethodPost, base+c.path, contentType, body)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), strings.Split(c.kind, ";")[0]) {
			t.Errorf("%s %v: %d %s: %s", c.path, c.fields, a.status, a.header.Get("Content-Type"), a.body)
		}
		contains(t, a.body, c.parts...)
	}
}

func TestAnswersSayWhoGaveThem(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	r := report(t, base)
	a := transcribe(t, base)
	if got := a.header.Get("X-Whisperpool-Instance"); got == "" || got != r.Instance {
		t.Errorf("instance %q, the report says %q", got, r.Instance)
	}
	if got, want := a.header.Get("X-Whisperpool-Load"), "slots=2, busy=0, queued=0, instance="+r.Instance; got != want {
		t.Errorf("load %q, want %q", got, want)
	}
	if a.header.Get("X-Whisperpool-Emulator") != "true" {
		t.Error("the emulator does not say what it is")
	}
	timing := regexp.MustCompile(`^decode;dur=\d+\.\d, queue;dur=\d+\.\d, inference;dur=\d+\.\d$`)
	if got := a.header.Get("Server-Timing"); !timing.MatchString(got) {
		t.Errorf("Server-Timing %q", got)
	}
	refused := transcribe(t, base, "response_format", "odd")
	if refused.status != http.StatusBadRequest || refused.header.Get("X-Whisperpool-Load") == "" {
		t.Errorf("a refusal without the load: %v", refused.header)
	}
	_, other := serve(t, backend.Config{}, newBlocking(1))
	if report(t, other).Instance == r.Instance {
		t.Error("two servers with one instance id")
	}
	if send(t, http.MethodPost, other+"/inference", "", nil).header.Get("X-Whisperpool-Emulator") != "" {
		t.Error("what is no emulator says that it is one")
	}
}

func TestRequestID(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	for given, echoed := range map[string]bool{
		"abc-123_x.y:z": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "<script>": false, "ä": false,
	} {
		contentType, body := form(wav(0.1), "model", "base")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/audio/transcriptions", bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("X-Request-Id", given)
		got := do(t, req).header.Get("X-Request-Id")
		if (got == given) != echoed || got == "" {
			t.Errorf("id %q came back as %q", given, got)
		}
	}
}

func TestModels(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	var list struct {
		Object string
		Data   []struct {
			ID, Object string
			Created    int64
			OwnedBy    string `json:"owned_by"`
		}
	}
	a := send(t, http.MethodGet, base+"/v1/models", "", nil)
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatal(err)
	}
	if list.Object != "list" || len(list.Data) != 1 || list.Data[0].ID != "base" || list.Data[0].Object != "model" ||
		list.Data[0].Created == 0 || list.Data[0].OwnedBy == "" {
		t.Errorf("%s", a.body)
	}
	for _, id := range []string{"base", "whisper-1"} {
		if one := send(t, http.MethodGet, base+"/v1/models/"+id, "", nil); one.status != http.StatusOK {
			t.Errorf("%s: %d %s", id, one.status, one.body)
		}
		contentType, body := form(wav(0.1), "model", id)
		if a := send(t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, body); a.status != http.StatusOK {
			t.Errorf("model=%s: %d %s", id, a.status, a.body)
		}
	}
	for _, id := range []string{"large-v3", "", "a/b", "Base"} {
		one := send(t, http.MethodGet, base+"/v1/models/"+id, "", nil)
		p := one.problem(t)
		if one.status != http.StatusNotFound || p.code != "model_not_found" || !strings.Contains(p.message, `"base"`) {
			t.Errorf("%q: %d %s", id, one.status, one.body)
		}
	}
}

func TestReport(t *testing.T) {
	_, base := serve(t, backend.Config{Version: "v1.2.3", Queue: 5}, newBlocking(3))
	got := report(t, base)
	want := backend.Report{
		Server: "whisperpool", Version: "v1.2.3", Instance: got.Instance, Ready: true, Slots: 3, QueueMax: 5,
		GPUClass: "A10G", Engine: "test", Device: "CUDA0: NVIDIA A10G",
		Models:   []backend.ReportModel{{ID: "base", Multilingual: true, Translate: true, Words: true, Default: true, Loaded: true}},
		SlotsMin: 3, SlotsMax: 3, ModelsMax: got.ModelsMax,
	}
	if !slices.Equal(got.Models, want.Models) {
		t.Errorf("models %+v", got.Models)
	}
	got.Models, want.Models = nil, nil
	if a, b := mustJSON(t, got), mustJSON(t, want); a != b {
		t.Errorf("report %s, want %s", a, b)
	}
	// The members that proxies of other versions read.
	raw := map[string]any{}
	if err := json.Unmarshal([]byte(send(t, http.MethodGet, base+"/load-report", "", nil).body), &raw); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"instance", "ready", "loading", "slots", "busy", "queued", "gpu_class", "engine", "device", "gpu_uuid", "models", "version", "server", "emulator"} {
		if _, ok := raw[name]; !ok {
			t.Errorf("no %q in the load report", name)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGPUClassIsTruthful(t *testing.T) {
	for _, c := range []struct{ given, device, want string }{
		{"", "CUDA0: NVIDIA A10G", "A10G"},
		{"", "CPU", "CPU"},
		{"", "CUDA0: NVIDIA RTX 5090", ""},
		{"a10g", "CUDA0: NVIDIA A10G", "A10G"},
		{"H100", "CPU", "CPU"}, // libraries without CUDA
		{"attic", "CPU", "attic"},
		{"cpu", "CPU", "CPU"},
		{"T4", "CUDA0: something", "T4"},
	} {
		e := engineFunc{info: backend.EngineInfo{Engine: "test", Model: "base", Slots: 1, Device: c.device}}
		s, err := backend.New(backend.Config{GPUClass: c.given}, e)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Report().GPUClass; got != c.want {
			t.Errorf("class %q on %q: reports %q, want %q", c.given, c.device, got, c.want)
		}
	}
}

func TestEnglishOnlyModel(t *testing.T) {
	var mu sync.Mutex
	var seen []transcript.Params
	e := engineFunc{
		info: backend.EngineInfo{Engine: "test", Model: "tiny.en", Slots: 1},
		run: func(_ context.Context, _ []float32, p transcript.Params) (transcript.Transcript, error) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, p)
			return transcript.Transcript{Segments: []transcript.Segment{{Text: " Hello."}}}, nil
		},
	}
	_, base := serve(t, backend.Config{}, e)
	if a := transcribe(t, base); a.status != http.StatusOK || seen[0].Language != "en" {
		t.Errorf("no language: %d %s, the engine was told %q", a.status, a.body, seen[0].Language)
	}
	if p := transcribe(t, base, "language", "de").problem(t); p.param != "language" || p.code != "unsupported_language" {
		t.Errorf("language=de: %+v", p)
	}
	contentType, body := form(wav(0.1), "model", "tiny.en")
	a := send(t, http.MethodPost, base+"/v1/audio/translations", contentType, body)
	if a.status != http.StatusBadRequest || a.problem(t).code != "unsupported_task" {
		t.Errorf("translation: %d %s", a.status, a.body)
	}
	if len(seen) != 1 {
		t.Errorf("the engine was asked %d times", len(seen))
	}
	if m := report(t, base).Models[0]; m.Multilingual || m.Translate {
		t.Errorf("%+v", m)
	}
}

func TestEngineErrors(t *testing.T) {
	var fail error
	var log bytes.Buffer
	e := engineFunc{
		info: backend.EngineInfo{Engine: "test", Model: "base", Slots: 1},
		run: func(context.Context, []float32, transcript.Params) (transcript.Transcript, error) {
			if fail == nil {
				panic("private words")
			}
			return transcript.Transcript{}, fail
		},
	}
	_, base := serve(t, backend.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, e)
	for range 2 { // the second shows that the first gave its slot back
		a := transcribe(t, base)
		if p := a.problem(t); a.status != http.StatusInternalServerError || p.kind != "server_error" || p.code != "internal_error" {
			t.Errorf("a panic: %d %s", a.status, a.body)
		}
	}
	fail = errors.New("the card is on fire")
	if a := transcribe(t, base); a.status != http.StatusInternalServerError || strings.Contains(a.body, "fire") {
		t.Errorf("an engine's error: %d %s", a.status, a.body)
	}
	fail = transcript.Invalid("audio_ctx", "invalid_value", "The model has a context of 1500.")
	if a := transcribe(t, base); a.status != http.StatusBadRequest {
		t.Errorf("a client's error: %d %s", a.status, a.body)
	}
	if r := report(t, base); r.Busy != 0 || r.Queued != 0 {
		t.Errorf("after all: %+v", r)
	}
	contains(t, log.String(), "a handler panicked", "the card is on fire")
	if strings.Contains(log.String(), "private words") {
		t.Error("the log holds what a panic said")
	}
}

func TestLogsHoldNothingOfTheClients(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e := newBlocking(1)
	_, base := serve(t, backend.Config{Log: logger}, e)
	go func() { e.release <- struct{}{} }()
	a := transcribe(t, base, "prompt", "private prompt")
	if a.status != http.StatusOK || !strings.Contains(a.body, "private words") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	transcribe(t, base, "response_format", "private format")
	contains(t, log.String(), "outcome=ok", "outcome=invalid", "audio_seconds=0.5")
	if strings.Contains(log.String(), "private") {
		t.Errorf("%s", log.String())
	}
}

func TestMetrics(t *testing.T) {
	_, base := serve(t, backend.Config{Version: "v1"}, fast(t))
	transcribe(t, base)
	transcribe(t, base)
	transcribe(t, base, "temperature", "7")
	a := send(t, http.MethodGet, base+"/metrics", "", nil)
	contains(t, a.body,
		`whisper_backend_requests_total{outcome="ok"} 2`,
		`whisper_backend_requests_total{outcome="invalid"} 1`,
		`whisper_backend_requests_total{outcome="queue_full"} 0`,
		`whisper_backend_decode_seconds_count 2`,
		`whisper_backend_queue_seconds_bucket{le="600"} 2`,
		`whisper_backend_inference_seconds_bucket{le="600"} 2`,
		`whisper_backend_audio_seconds_total 1`,
		`whisper_backend_aborts_total 0`,
		`whisper_backend_slots 2`, `whisper_backend_busy 0`, `whisper_backend_queued 0`, `whisper_backend_ready 1`,
		`whisper_backend_info{device="emulated T4",engine="emulator",gpu_class="T4",gpu_uuid="",model="base",version="v1"} 1`,
		`go_goroutines`,
	)
}
