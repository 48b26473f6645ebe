package backend_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/transcript"
)

// loudness takes for speech what is loud.
type loudness struct {
	err     error         // fails with it
	started chan struct{} // unless nil gets one for each call, which then waits for its context to end
	running *atomic.Int32 // calls, of several that share it
	most    *atomic.Int32
	alone   sync.Mutex
	closed  atomic.Bool
}

func newLoudness() *loudness { return &loudness{running: new(atomic.Int32), most: new(atomic.Int32)} }

func (l *loudness) Speech(ctx context.Context, samples []float32) ([]float32, error) {
	if !l.alone.TryLock() {
		panic("two jobs on one detector")
	}
	defer l.alone.Unlock()
	now := l.running.Add(1)
	defer l.running.Add(-1)
	for most := l.most.Load(); now > most && !l.most.CompareAndSwap(most, now); most = l.most.Load() {
	}
	if l.started != nil {
		l.started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	likely := make([]float32, (len(samples)+backend.SpeechWindow-1)/backend.SpeechWindow)
	for i, s := range samples {
		if s > 0.1 || s < -0.1 {
			likely[i/backend.SpeechWindow] = 1
		}
	}
	return likely, l.err
}

func (l *loudness) Close() error {
	l.closed.Store(true)
	return nil
}

// hearing is an engine that tells the seconds that it was given in one segment, and each second in a word.
func hearing() engineFunc {
	return engineFunc{
		info: backend.EngineInfo{Engine: "test", Model: "base", Multilingual: true, Slots: 2, SlotsMax: 2},
		run: func(_ context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error) {
			seconds := float64(len(samples)) / 16000
			t := transcript.Transcript{Task: p.Task, Language: "en", Segments: []transcript.Segment{{End: seconds, Text: " words"}}}
			for s := 0.0; s < seconds; s++ {
				t.Words = append(t.Words, transcript.Word{Word: "word", Start: s, End: min(seconds, s+1)})
			}
			return t, nil
		},
	}
}

// sounds are seconds of tone and of silence in turn.
func sounds(seconds ...float64) []byte {
	all := 0.0
	for _, s := range seconds {
		all += s
	}
	data := wav(all)
	at := 44
	for i, s := range seconds {
		n := 2 * int(s*16000)
		if i%2 == 1 {
			clear(data[at : at+n])
		}
		at += n
	}
	return data
}

// ask posts a file to a path with the field's name that it has there.
func ask(t *testing.T, base, path string, file []byte, fields ...string) answer {
	t.Helper()
	contentType, body := form(file, fields...)
	if strings.HasPrefix(path, "/asr") {
		body = []byte(strings.Replace(string(body), `name="file"`, `name="audio_file"`, 1))
	}
	return send(t, http.MethodPost, base+path, contentType, body)
}

func TestSilenceIsCutOutForWhoWantsIt(t *testing.T) {
	file := sounds(1, 40, 2) // of which 3 s and moments around them are left
	const api, inference = "/v1/audio/transcriptions", "/inference"
	for _, c := range []struct {
		always bool
		path   string
		fields []string
		cut    bool
	}{
		{false, api, nil, false},
		{true, api, nil, true},
		{false, api, []string{"vad_filter", "true"}, true},
		{true, api, []string{"vad_filter", "false"}, false},
		{false, inference, nil, false},
		{false, inference, []string{"vad", "true"}, true},
		{true, inference, nil, true},
		{true, inference, []string{"vad", "false"}, false},
		{false, inference, []string{"vad_threshold", "0.4"}, false},
		{false, inference, []string{"vad", "true", "vad_threshold", "1"}, true}, // the tone is as sure as can be
		{false, "/asr", nil, false},
		{false, "/asr?vad_filter=true", nil, true},
		{true, "/asr", nil, true},
		{true, "/asr?vad_filter=false", nil, false},
	} {
		var given atomic.Int64
		e := hearing()
		run := e.run
		e.run = func(ctx context.Context, samples []float32, p transcript.Params) (transcript.Transcript, error) {
			given.Store(int64(len(samples)))
			return run(ctx, samples, p)
		}
		_, base := serve(t, backend.Config{VAD: c.always, Detectors: []backend.SpeechDetector{newLoudness()}}, e)
		a := ask(t, base, c.path, file, append(c.fields, "model", "whisper-1")...)
		if a.status != http.StatusOK {
			t.Errorf("%+v: %d %s", c, a.status, a.body)
			continue
		}
		seconds := float64(given.Load()) / 16000
		if c.cut && (seconds < 3 || seconds > 4.5) || !c.cut && seconds != 43 {
			t.Errorf("%+v: the engine was given %v s", c, seconds)
		}
		cut := send(t, http.MethodGet, base+"/metrics", "", nil).body
		if none := strings.Contains(cut, "whisper_backend_silence_seconds_total 0\n"); none == c.cut {
			_, told, _ := strings.Cut(cut, "\nwhisper_backend_silence")
			told, _, _ = strings.Cut(told, "\n")
			t.Errorf("%+v: %s", c, told)
		}
	}
}

// Times and length are those of the recording, in every format, whatever part of it was asked for.
func TestTimesAreThoseOfTheRecording(t *testing.T) {
	_, base := serve(t, backend.Config{VAD: true, Detectors: []backend.SpeechDetector{newLoudness()}}, hearing())
	file := sounds(1, 40, 2, 7)
	for _, c := range []struct {
		path   string
		fields []string
		parts  []string
	}{
		{"/v1/audio/transcriptions", []string{"response_format", "srt"}, []string{"00:00:00,000 --> 00:00:43,1"}},
		{"/v1/audio/transcriptions", []string{"response_format", "vtt"}, []string{"00:00:00.000 --> 00:00:43.1"}},
		{"/v1/audio/transcriptions", []string{"response_format", "verbose_json", "timestamp_granularities[]", "word"}, []string{
			`"duration":50`, `"start":0,"end":43.1`, `"words":[`, `"start":0,"end":1`, `"start":40.99,"end":41.57`, // the second is mostly of the second tone
		}},
		{"/v1/audio/transcriptions", []string{"response_format", "json"}, []string{`"seconds":50`}},
		{"/inference", []string{"response_format", "verbose_json"}, []string{`"duration":50`, `"start":0,"end":43.0`}},
		{"/inference", []string{"response_format", "srt", "offset_t", "30000"}, []string{"00:00:40,950 --> 00:00:43,0"}},
		{"/inference", []string{"response_format", "srt", "offset_t", "500", "duration", "20000"}, []string{"00:00:00,500 --> 00:00:01,0"}},
	} {
		a := ask(t, base, c.path, file, append(c.fields, "model", "whisper-1")...)
		text := strings.NewReplacer(" ", "", "\n", "").Replace(a.body)
		for _, part := range c.parts {
			if a.status != http.StatusOK || !strings.Contains(text, strings.ReplaceAll(part, " ", "")) {
				t.Errorf("%s %v: %q is not in %d %s", c.path, c.fields, part, a.status, a.body)
			}
		}
	}
}

func TestWhereNobodySpeaksNoSlotIsTaken(t *testing.T) {
	e := newBlocking(1) // whose jobs never end by themselves
	_, base := serve(t, backend.Config{VAD: true, Detectors: []backend.SpeechDetector{newLoudness()}}, e)
	file := sounds(0, 20)
	for _, c := range []struct {
		path   string
		fields []string
		want   string // without white space
	}{
		{"/v1/audio/transcriptions", nil, `{"text":"","usage":{"type":"duration","seconds":20}}`},
		{"/v1/audio/transcriptions", []string{"response_format", "text"}, ""},
		{"/v1/audio/transcriptions", []string{"response_format", "srt"}, ""},
		{"/v1/audio/transcriptions", []string{"response_format", "vtt"}, "WEBVTT"},
		{"/v1/audio/transcriptions", []string{"response_format", "verbose_json", "language", "de"}, `{"task":"transcribe","language":"german","duration":20,"text":"","segments":[],"usage":{"type":"duration","seconds":20}}`},
		{"/v1/audio/transcriptions", []string{"stream", "true"}, `data:{"type":"transcript.text.done","text":""}`},
		{"/inference", nil, `{"text":""}`},
		{"/asr", nil, ""},
		{"/asr?output=srt", nil, ""},
	} {
		a := ask(t, base, c.path, file, append(c.fields, "model", "whisper-1")...)
		if got := strings.Join(strings.Fields(a.body), ""); a.status != http.StatusOK || got != c.want {
			t.Errorf("%s %v: %d %q, want %q", c.path, c.fields, a.status, got, c.want)
		}
	}
	if n := len(e.started); n > 0 {
		t.Errorf("%d jobs took a slot", n)
	}
	contains(t, send(t, http.MethodGet, base+"/metrics", "", nil).body,
		"whisper_backend_silence_seconds_total 180", "whisper_backend_audio_seconds_total 180",
		"whisper_backend_inference_seconds_count 0", `whisper_backend_requests_total{outcome="ok"} 9`)
}

// Who leaves while his recording is listened to, or waits for that, is gone at once, and holds nothing.
func TestLeavingWhileListening(t *testing.T) {
	d := newLoudness()
	d.started = make(chan struct{}, 10)
	_, base := serve(t, backend.Config{VAD: true, Detectors: []backend.SpeechDetector{d}}, hearing())
	ctx, leave := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			contentType, body := form(sounds(1, 40, 2), "model", "whisper-1")
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/audio/transcriptions", strings.NewReader(string(body)))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", contentType)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("it was answered: %d", resp.StatusCode)
			}
		})
	}
	await(t, d.started, "the first recording")
	until(t, "all are in the queue", func() bool { return report(t, base).Queued == 3 })
	leave()
	clients.Wait()
	until(t, "all are gone", func() bool {
		return report(t, base).Queued == 0 &&
			strings.Contains(send(t, http.MethodGet, base+"/metrics", "", nil).body, `whisper_backend_requests_total{outcome="client_gone"} 3`)
	})
}

// A detector that fails costs nobody a transcript.
func TestWithoutDetectionAllIsTranscribed(t *testing.T) {
	d := newLoudness()
	d.err = errors.New("out of order")
	_, base := serve(t, backend.Config{VAD: true, Detectors: []backend.SpeechDetector{d}}, hearing())
	a := ask(t, base, "/v1/audio/transcriptions", sounds(1, 40, 2), "model", "whisper-1", "response_format", "srt")
	contains(t, a.body, "00:00:00,000 --> 00:00:43,000")
}

// Each client gets its own, however many share the detectors.
func TestDetectorsAreShared(t *testing.T) {
	first, second := newLoudness(), newLoudness()
	second.running, second.most = first.running, first.most
	_, base := serve(t, backend.Config{VAD: true, Queue: 100, Detectors: []backend.SpeechDetector{first, second}}, hearing())
	var clients sync.WaitGroup
	for i := range 12 {
		clients.Go(func() {
			file := sounds(1, 10+float64(i), 2)
			a := ask(t, base, "/v1/audio/transcriptions", file, "model", "whisper-1", "response_format", "verbose_json", "timestamp_granularities[]", "word")
			want := binary.LittleEndian.Uint32(file[40:]) / 32000 // seconds
			if !strings.Contains(a.body, `"duration":`+strconv.Itoa(int(want))) || !strings.Contains(a.body, `"end":`+strconv.Itoa(int(want))) {
				t.Errorf("client %d: %d %s", i, a.status, a.body)
			}
		})
	}
	clients.Wait()
	if n := first.most.Load(); n > 2 {
		t.Errorf("%d jobs on 2 detectors", n)
	}
}

func TestDetectorsAreClosedWithTheServer(t *testing.T) {
	d := newLoudness()
	r := run(t, backend.Config{VAD: true, Detectors: []backend.SpeechDetector{d}}, func() (backend.Transcriber, error) { return hearing(), nil })
	until(t, "ready", func() bool { return report(t, r.base).Ready })
	ask(t, r.base, "/inference", sounds(1, 40, 2))
	r.stop()
	if err := await(t, r.done, "the end"); err != nil || !d.closed.Load() {
		t.Errorf("%v, closed: %v", err, d.closed.Load())
	}
}

func TestVADWantsADetector(t *testing.T) {
	if _, err := backend.New(backend.Config{VAD: true}, nil); err == nil {
		t.Error("it starts without one")
	}
	_, base := serve(t, backend.Config{}, fast(t))
	a := ask(t, base, "/inference", wav(0.5), "vad", "true")
	if p := a.problem(t); a.status != http.StatusBadRequest || p.code != "no_vad_model" || p.param != "vad" || !strings.Contains(p.message, "--vad-model") {
		t.Errorf("%d %+v", a.status, p)
	}
	for _, path := range []string{"/asr?vad_filter=true", "/v1/audio/transcriptions"} {
		if a := ask(t, base, path, wav(0.5), "model", "whisper-1", "vad_filter", "true"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}
