package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func probe(t *testing.T, k Kind, s *server, healthURI string) Report {
	t.Helper()
	report, err := k.Probe(context.Background(), s.base(t), prober{healthURI})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestProbeWhisperpool(t *testing.T) {
	want := Report{
		Ready: true, Instance: "4f0c91d2a7b3e865", Slots: 2, Busy: 1, Queued: 3, GPUClass: "A10G", GPUUUID: "GPU-1f2e3d4c",
		Engine: "whispercpp", Device: "CUDA0: NVIDIA A10G", Models: []string{"base", "tiny"},
		Can: map[string]Can{"base": {Translate: true, Words: true, Languages: true}, "tiny": {Words: true}},
	}
	if got := probe(t, whisperPool{}, poolBackend(t), ""); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, c := range []struct {
		about, body    string
		status         int
		ready, loading bool
		detail         string
	}{
		{"loading", `{"server":"whisperpool","instance":"a","ready":false,"loading":true,"slots":0,"models":[]}`, 200, false, true, "being loaded"},
		{"draining", `{"server":"whisperpool","instance":"a","ready":false,"draining":true,"slots":2,"models":[]}`, 200, false, false, "shutting down"},
		{"another server", `{"ready":true,"slots":9}`, 200, false, false, "no load report"},
		{"a web page", `<html>`, 200, false, false, "no load report"},
		{"a key is missing", `{"error":"unauthorized"}`, 401, false, false, "header_up"},
		{"a gateway", `bad gateway`, 502, false, false, "502"},
		{"a gateway that knows", `{"error":"model is loading"}`, 503, false, true, "503"},
	} {
		got := probe(t, whisperPool{}, answering(t, c.status, "", c.body), "")
		if got.Ready != c.ready || got.Loading != c.loading || !strings.Contains(got.Detail, c.detail) {
			t.Errorf("%s: %+v", c.about, got)
		}
		if c.loading && got.Models != nil {
			t.Errorf("%s: models %v, but they are not known yet", c.about, got.Models)
		}
	}
	if got := probe(t, whisperPool{}, poolBackend(t), "/nowhere"); got.Ready || got.Slots != 2 || !strings.Contains(got.Detail, "404") {
		t.Errorf("health_uri that fails: %+v", got)
	}
}

func TestProbeOpenAI(t *testing.T) {
	got := probe(t, openAI{}, openAIServer(t), "")
	if want := []string{"Systran/faster-whisper-base.en", "large-v3-turbo", "large-v3"}; !got.Ready || !slices.Equal(got.Models, want) || got.Slots != 0 {
		t.Errorf("report %+v", got)
	}
	want := map[string]Can{
		"Systran/faster-whisper-base.en": {Words: true},
		"large-v3-turbo":                 {Words: true, Languages: true},
		"large-v3":                       {Words: true, Languages: true, Translate: true},
	}
	if !reflect.DeepEqual(got.Can, want) {
		t.Errorf("can %v", got.Can)
	}
	for _, c := range []struct {
		about, body    string
		status         int
		ready, loading bool
	}{
		{"no list", `{"detail":"Not Found"}`, 404, true, false},
		{"no list here", `no`, 405, true, false},
		{"a web page", `<html>hello</html>`, 200, false, false},
		{"an error with 200", `{"error":"x"}`, 200, false, false},
		{"a key is missing", `{"error":{"message":"Invalid key"}}`, 401, false, false},
		{"loading", `{"error":"loading the model"}`, 503, false, true},
		{"down", `oops`, 500, false, false},
	} {
		got := probe(t, openAI{}, answering(t, c.status, "", c.body), "")
		if got.Ready != c.ready || got.Loading != c.loading || got.Models != nil || got.Ready == (got.Detail != "") {
			t.Errorf("%s: %+v", c.about, got)
		}
	}
	empty := probe(t, openAI{}, answering(t, 200, "", `{"object":"list","data":[]}`), "")
	if empty.Models == nil {
		t.Error("an empty list of models means none, not any")
	}
}

// TestHostileReports: what a server tells of itself is bounded in number, length and kind.
func TestHostileReports(t *testing.T) {
	long := strings.Repeat("x", 300)
	many := func(before, each, after string) string {
		var list []string
		for i := range 5000 {
			list = append(list, strings.ReplaceAll(each, "N", strconv.Itoa(i)))
		}
		return before + strings.Join(list, ",") + after
	}
	report := func(members string) string { return `{"server":"whisperpool","ready":true,` + members + `}` }
	for _, c := range []struct {
		about, body string
		want        Report
	}{
		{"too many slots", report(`"slots":1025`), Report{}},
		{"many slots", report(`"slots":1024`), Report{Slots: 1024}},
		{"slots below none", report(`"slots":-3,"busy":-1,"queued":-1`), Report{}},
		{"a queue beyond sense", report(`"busy":1000000000,"queued":1000000000000`), Report{Busy: 1 << 20, Queued: 1 << 20}},
		{"long words", report(`"instance":"` + long + `","gpu_class":"` + long + `"`), Report{}},
		{"words with control characters", report(`"instance":"a\r\nb","gpu_uuid":"GPU-1\n","gpu_class":"T4\u0000","engine":"a\r\n\u0007b","device":"CUDA0:\tT4"`), Report{Engine: "a b", Device: "CUDA0: T4"}},
		{"names that are none", report(`"models":[{"id":""},{"id":"a\nb"},{"id":"` + long + `"},{"id":"\u202eb"},{"id":"base"},{"id":"base"}]`), Report{Models: []string{"base"}}},
	} {
		got := probe(t, whisperPool{}, answering(t, 200, "", c.body), "")
		if !got.Ready || got.Slots != c.want.Slots || got.Busy != c.want.Busy || got.Queued != c.want.Queued || got.Instance != c.want.Instance ||
			got.GPUClass != c.want.GPUClass || got.GPUUUID != c.want.GPUUUID || got.Engine != c.want.Engine || got.Device != c.want.Device || !slices.Equal(got.Models, c.want.Models) || len(got.Can) != len(c.want.Models) {
			t.Errorf("%s: %+v", c.about, got)
		}
	}
	if got := probe(t, whisperPool{}, answering(t, 200, "", many(`{"server":"whisperpool","ready":true,"models":[`, `{"id":"mN"}`, `]}`)), ""); len(got.Models) != modelsMax || len(got.Can) != modelsMax {
		t.Errorf("%d models, %d abilities", len(got.Models), len(got.Can))
	}
	if got := probe(t, openAI{}, answering(t, 200, "", many(`{"data":[`, `{"id":"mN"}`, `]}`)), ""); len(got.Models) != modelsMax {
		t.Errorf("%d models", len(got.Models))
	}
	for _, body := range []string{report(`"slots":1e300`), report(`"slots":"2"`), report(`"models":{}`), report(`"slots":2`)[:20], `[]`, `{"server":"whisperpool"}{}`} {
		if got := probe(t, whisperPool{}, answering(t, 200, "", body), ""); got.Ready || got.Detail == "" {
			t.Errorf("%s: %+v", body, got)
		}
	}
	for _, k := range kinds { // an answer that does not end is one, of no use
		if got := probe(t, k, endless(t, 200, "", `{"data":[`, "{},"), ""); got.Models != nil || k.Name() != "whisper_server" && got.Ready {
			t.Errorf("%s: %+v", k.Name(), got)
		}
	}
}

func TestHealthURI(t *testing.T) {
	s := listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/up?deep=1":
			write(w, 200, "", "fine")
		case "/down":
			write(w, 503, "", "no GPU")
		default:
			write(w, 500, "", "")
		}
	})
	for uri, ready := range map[string]bool{"/up?deep=1": true, "up?deep=1": true, "/down": false} {
		base := s.base(t)
		base.Path = "/below"
		for _, k := range []Kind{openAI{}, whisperServer{}} {
			got, err := k.Probe(context.Background(), base, prober{uri})
			if err != nil || got.Ready != ready || ready == (got.Detail != "") {
				t.Errorf("%s with %s: %+v, %v", k.Name(), uri, got, err)
			}
		}
	}
}

// quirk answers some requests of a whisper-server otherwise.
func quirk(answers map[string]func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		answer := answers[r.Method+" "+r.URL.Path]
		if answer != nil {
			answer(w)
		}
		return answer != nil
	}
}

func notFoundAnswer(path string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { write(w, 404, "text/plain", "File Not Found ("+path+")") }
}

func TestProbeWhisperServer(t *testing.T) {
	loading := func(w http.ResponseWriter) { write(w, 503, "application/json", `{"status":"loading model"}`) }
	for _, c := range []struct {
		about          string
		answers        map[string]func(http.ResponseWriter)
		ready, loading bool
		detail         string
	}{
		{"ready", nil, true, false, ""},
		{"loading, as it was meant", map[string]func(http.ResponseWriter){"GET /health": loading}, false, true, "503"},
		{"loading, as it is", map[string]func(http.ResponseWriter){"GET /health": notFoundAnswer("/health"), "OPTIONS /inference": notFoundAnswer("/inference")}, false, true, "404"},
		{"too old for /health, or after a failed /load", map[string]func(http.ResponseWriter){"GET /health": notFoundAnswer("/health")}, true, false, ""},
		{"another inference path", map[string]func(http.ResponseWriter){"OPTIONS /inference": notFoundAnswer("/inference")}, false, false, "--inference-path"},
		{"broken", map[string]func(http.ResponseWriter){"GET /health": func(w http.ResponseWriter) { write(w, 500, "", "") }}, false, false, "500"},
		{"a proxy that refuses OPTIONS", map[string]func(http.ResponseWriter){"OPTIONS /inference": func(w http.ResponseWriter) { write(w, 405, "", "") }}, true, false, ""},
	} {
		got := probe(t, whisperServer{}, whisperCPP(t, quirk(c.answers)), "")
		if got.Ready != c.ready || got.Loading != c.loading || !strings.Contains(got.Detail, c.detail) || (c.detail == "") != (got.Detail == "") {
			t.Errorf("%s: %+v", c.about, got)
		}
		if got.Models != nil || got.Ready && got.Slots != 1 {
			t.Errorf("%s: models %v, slots %d", c.about, got.Models, got.Slots)
		}
	}
}

func TestProbeOfAServerThatIsNotThere(t *testing.T) {
	s := &server{Server: httptest.NewServer(http.NotFoundHandler())}
	base := s.base(t)
	s.Close()
	hung := listen(t, func(_ *server, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for _, k := range kinds {
		if report, err := k.Probe(context.Background(), base, prober{}); err == nil || report.Ready {
			t.Errorf("%s: %+v, %v", k.Name(), report, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if report, err := k.Probe(ctx, hung.base(t), prober{}); !errors.Is(err, context.DeadlineExceeded) || report.Ready {
			t.Errorf("%s: hung: %+v, %v", k.Name(), report, err)
		}
		cancel()
	}
	if _, err := Identify(context.Background(), base, prober{}); err == nil || errors.As(err, new(*UnknownKindError)) {
		t.Errorf("Identify: %v", err)
	}
}

func TestIdentify(t *testing.T) {
	plain := func(w http.ResponseWriter) { write(w, 200, "text/html", "<html>my own pages</html>") }
	behindProxy := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Server", "nginx")
		return false
	}
	noPage := func(w http.ResponseWriter, r *http.Request) bool {
		behindProxy(w, r)
		return quirk(map[string]func(http.ResponseWriter){"GET /": plain})(w, r)
	}
	for _, c := range []struct {
		about string
		s     *server
		want  string
	}{
		{"our backend", poolBackend(t), "whisperpool"},
		{"our backend, loading", answering(t, 200, "", `{"server":"whisperpool","instance":"x","loading":true}`), "whisperpool"},
		{"an OpenAI server", openAIServer(t), "openai"},
		{"whisper-server", whisperCPP(t, nil), "whisper_server"},
		{"whisper-server behind a proxy", whisperCPP(t, behindProxy), "whisper_server"},
		{"whisper-server behind a proxy, with --public", whisperCPP(t, noPage), "whisper_server"},
	} {
		k, err := Identify(context.Background(), c.s.base(t), prober{})
		if err != nil || k.Name() != c.want {
			t.Errorf("%s: %v, %v", c.about, k, err)
		}
	}
	for _, s := range []*server{
		answering(t, 200, "text/html", "<html>It works!</html>"),
		answering(t, 401, "", ""),
		answering(t, 200, "application/json", `{"status":"ok"}`),
	} {
		k, err := Identify(context.Background(), s.base(t), prober{})
		var unknown *UnknownKindError
		if k != nil || !errors.As(err, &unknown) {
			t.Fatalf("%v, %v", k, err)
		}
		for _, part := range []string{"GET /load-report: ", "GET /v1/models: ", "GET /: ", "GET /health: ", "set kind (whisperpool, openai, whisper_server)"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("no %q in %q", part, err)
			}
		}
	}
}

func TestCanByName(t *testing.T) {
	all := Can{Translate: true, Words: true, Languages: true}
	for model, want := range map[string]Can{
		"base": all, "large-v3": all, "Systran/faster-whisper-large-v3": all, "openai/whisper-medium": all,
		"base.en": {Words: true}, "ggml-base.en.bin": {Words: true}, "small.en-q5_1": {Words: true}, "tiny.en_int8": {Words: true},
		"models/Base.EN": {Words: true}, "large-v3-turbo": {Words: true, Languages: true}, "whisper-turbo-q8": {Words: true, Languages: true},
		"my.english-tuned": all, "turbo.d/base": all,
	} {
		if got := CanByName(model); got != want {
			t.Errorf("%s: %+v, want %+v", model, got, want)
		}
	}
}

func TestKinds(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"whisperpool", "openai", "whisper_server"}) {
		t.Errorf("names %v", got)
	}
	frees := map[string]bool{"whisperpool": true, "whisper_server": true, "openai": false}
	for _, name := range Names() {
		k, ok := ByName(name)
		if !ok || k.Name() != name || k.DefaultSlots() != 1 || k.FreesOnCancel() != frees[name] || k.DecodesAll() != (name != "whisper_server") {
			t.Errorf("%s: %v", name, k)
		}
	}
	if k, ok := ByName("triton"); ok || k != nil {
		t.Errorf("triton: %v", k)
	}
}
