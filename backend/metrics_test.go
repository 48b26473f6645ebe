package backend_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// working is an engine that says what it did.
type working struct{ engineFunc }

func (w working) Transcribe(ctx context.Context, job backend.Job) (backend.Result, error) {
	r, err := w.engineFunc.Transcribe(ctx, job)
	r.Work = backend.Work{Windows: 2, Tokens: 30, Fallbacks: 1, Short: true, Again: true}
	return r, err
}

func TestMetricsTellWhatWasDone(t *testing.T) {
	e := working{engineFunc{
		info: backend.EngineInfo{
			Engine: "test", Model: "base", Multilingual: true, Slots: 2, SlotsMax: 2, Device: "CUDA0: NVIDIA A10G", GPU: true,
			DeviceFree: 10 << 30, DeviceTotal: 24 << 30, Bytes: 1 << 30,
		},
		run: func(context.Context, []float32, transcript.Params) (transcript.Transcript, error) {
			return transcript.Transcript{}, nil
		},
	}}
	_, base := serve(t, backend.Config{Version: "v1"}, e)
	if a := transcribe(t, base); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	transcribe(t, base, "response_format", "odd")
	contentType, body := form(wav(0.1), "model", "a-name-that-a-client-typed")
	send(t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, body)

	text := send(t, http.MethodGet, base+"/metrics", "", nil).body
	contains(t, text,
		`whisper_backend_requests_total{outcome="ok"} 1`, `whisper_backend_requests_total{outcome="invalid"} 2`,
		`whisper_backend_refusals_total{reason="model_not_found"} 1`,
		`whisper_backend_model_requests_total{model="base"} 1`,
		"whisper_backend_windows_total 2", "whisper_backend_tokens_total 30", "whisper_backend_fallbacks_total 1",
		"whisper_backend_short_clips_total 1", "whisper_backend_second_passes_total 1",
		"whisper_backend_real_time_factor_count 1", "whisper_backend_inference_seconds_count 1",
		"whisper_backend_queue_seconds_count 1", "whisper_backend_audio_seconds_total 0.5",
		"whisper_backend_slots 2", "whisper_backend_ready 1", `whisper_backend_model_loaded{model="base"} 1`,
		`whisper_backend_model_bytes{model="base"} 1.073741824e+09`,
		"whisper_backend_device_memory_free_bytes 1.073741824e+10", "whisper_backend_device_memory_total_bytes 2.5769803776e+10",
		"whisper_backend_model_load_seconds_count 0", "whisper_backend_model_unloads_total 0", "whisper_backend_aborts_total 0")
	if strings.Contains(text, "typed") {
		t.Error("a client chose a label")
	}
	if got := report(t, base); got.AudioRate <= 0 || got.MemoryFree != 10<<30 || got.MemoryTotal != 24<<30 || got.ModelsBytes != 1<<30 || !got.GPU {
		t.Errorf("%+v", got)
	}
}

// What promtool check metrics finds wrong, which uses the same rules.
func TestMetricsFollowTheConventions(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	transcribe(t, base)
	transcribe(t, base, "response_format", "odd")
	text := send(t, http.MethodGet, base+"/metrics", "", nil).body
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, name := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^(whisper_backend|go|process)_`).MatchString(name[1]) {
			t.Errorf("%s is of nobody's", name[1])
		}
	}
}
