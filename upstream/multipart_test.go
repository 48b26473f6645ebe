package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func render(t *testing.T, k Kind, base string, r Request) *http.Request {
	t.Helper()
	req, err := k.Render(context.Background(), mustURL(t, base), r)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// readForm reads a request's body with the standard library's reader.
func readForm(t *testing.T, req *http.Request, body []byte) (form map[string][]string, file []byte) {
	t.Helper()
	_, media, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	read, err := multipart.NewReader(bytes.NewReader(body), media["boundary"]).ReadForm(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	f, err := read.File["file"][0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if file, err = io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	return read.Value, file
}

func TestRequestsOfAllKinds(t *testing.T) {
	want, _ := io.ReadAll(wav().Open())
	for _, name := range Names() {
		k, _ := ByName(name)
		req := render(t, k, "http://gpu1:8000", request(params(t, transcript.OpenAI, "prompt", "Grüße,\r\n--x")))
		for _, header := range []string{"Expect", "Accept-Encoding", "Transfer-Encoding"} {
			if req.Header.Get(header) != "" {
				t.Errorf("%s: %s is set", name, header)
			}
		}
		first, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(first)) != req.ContentLength {
			t.Errorf("%s: %d bytes, announced %d", name, len(first), req.ContentLength)
		}
		form, file := readForm(t, req, first)
		if !bytes.Equal(file, want) {
			t.Errorf("%s: file %q", name, file)
		}
		if got := form["prompt"]; len(got) != 1 || got[0] != "Grüße,\r\n--x" {
			t.Errorf("%s: prompt %q", name, got)
		}
		again, err := req.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		second, err := io.ReadAll(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: the second body differs (%v)", name, err)
		}
	}
}

func TestFieldsComeBeforeTheFile(t *testing.T) {
	for _, s := range []struct {
		k Kind
		s *server
	}{{whisperPool{}, poolBackend(t)}, {openAI{}, openAIServer(t)}, {whisperServer{}, whisperCPP(t, nil)}} {
		mustExchange(t, s.k, s.s.base(t), request(params(t, transcript.OpenAI)))
		got := s.s.last(t)
		if i := slices.Index(got.order, "file"); i != len(got.order)-1 || i == 0 {
			t.Errorf("%s: parts %v", s.k.Name(), got.order)
		}
		if got.filename != "speech.wav" || got.fileType != "audio/wav" {
			t.Errorf("%s: file %q of type %q", s.k.Name(), got.filename, got.fileType)
		}
	}
}

func TestPaths(t *testing.T) {
	transcribe, translate := params(t, transcript.OpenAI), params(t, transcript.OpenAI)
	translate.Task = transcript.Translate
	inference := params(t, transcript.WhisperServer)
	for _, c := range []struct {
		k    Kind
		base string
		p    transcript.Params
		want string
	}{
		{openAI{}, "http://a:8000", transcribe, "http://a:8000/v1/audio/transcriptions"},
		{openAI{}, "https://a/", translate, "https://a/v1/audio/translations"},
		{openAI{}, "https://a/v1", transcribe, "https://a/v1/audio/transcriptions"},
		{openAI{}, "https://a/v1/", transcribe, "https://a/v1/audio/transcriptions"},
		{openAI{}, "https://a/team/prefix", transcribe, "https://a/team/prefix/v1/audio/transcriptions"},
		{openAI{}, "https://a/team%2Fone/v1", transcribe, "https://a/team%2Fone/v1/audio/transcriptions"},
		{openAI{}, "https://a/x?key=1", inference, "https://a/x/v1/audio/transcriptions?key=1"},
		{whisperPool{}, "http://a/gpu0/", inference, "http://a/gpu0/inference"},
		{whisperPool{}, "http://a", translate, "http://a/v1/audio/translations"},
		{whisperServer{}, "http://a/path", transcribe, "http://a/path/inference"},
		{whisperServer{}, "http://a", translate, "http://a/inference"},
	} {
		if got := render(t, c.k, c.base, request(c.p)).URL.String(); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.k.Name(), c.base, got, c.want)
		}
	}
}

// What our own backend reads from the form is what the client asked of the proxy.
func TestWhisperpoolReadsWhatTheClientMeant(t *testing.T) {
	for _, c := range []struct {
		api    transcript.API
		task   transcript.Task
		fields map[string][]string
	}{
		{transcript.OpenAI, transcript.Transcribe, map[string][]string{"model": {"base"}}},
		{transcript.OpenAI, transcript.Translate, map[string][]string{"model": {"base"}, "language": {"de"}, "prompt": {"Herr Müller"}, "temperature": {"0.35"}}},
		{transcript.OpenAI, transcript.Transcribe, map[string][]string{"model": {"base"}, "response_format": {"verbose_json"}, "timestamp_granularities[]": {"word"}}},
		{transcript.WhisperServer, transcript.Transcribe, map[string][]string{}},
		{transcript.WhisperServer, transcript.Transcribe, map[string][]string{"language": {"auto"}, "no_timestamps": {"true"}}},
		{transcript.WhisperServer, transcript.Transcribe, map[string][]string{"response_format": {"verbose_json"}, "token_timestamps": {"false"}}},
		{transcript.WhisperServer, transcript.Transcribe, map[string][]string{
			"language": {"fr"}, "translate": {"true"}, "prompt": {"x"}, "temperature": {"1"}, "temperature_inc": {"0"},
			"best_of": {"3"}, "beam_size": {"5"}, "offset_t": {"1500"}, "offset_n": {"4"}, "duration": {"9000"},
			"max_context": {"0"}, "max_len": {"40"}, "split_on_word": {"1"}, "audio_ctx": {"768"}, "entropy_thold": {"2.1"},
			"logprob_thold": {"-0.5"}, "no_speech_thold": {"0.25"}, "word_thold": {"0.02"}, "suppress_nst": {"true"},
			"no_language_probabilities": {"true"}, "response_format": {"srt"},
		}},
		{transcript.OpenAI, transcript.Transcribe, map[string][]string{"model": {"base"}, "stream": {"true"}, "vad_filter": {"false"}}},
		{transcript.WhisperServer, transcript.Transcribe, map[string][]string{
			"diarize": {"1"}, "tinydiarize": {"1"}, "carry_initial_prompt": {"1"}, "detect_language": {"1"}, "vad": {"1"}, "vad_threshold": {"0.4"},
			"vad_min_speech_duration_ms": {"200"}, "vad_min_silence_duration_ms": {"90"}, "vad_max_speech_duration_s": {"20.5"},
			"vad_speech_pad_ms": {"0"}, "vad_samples_overlap": {"0.2"},
		}},
	} {
		p, refusal := transcript.ParseForm(c.api, c.task, c.fields, transcript.Limits{})
		if refusal != nil {
			t.Fatal(refusal)
		}
		req := render(t, whisperPool{}, "http://a", request(p))
		body, _ := io.ReadAll(req.Body)
		form, _ := readForm(t, req, body)
		got, refusal := transcript.ParseForm(c.api, c.task, form, transcript.Limits{})
		if refusal != nil {
			t.Fatalf("%v is refused: %v", form, refusal)
		}
		if got.Model = p.Model; !reflect.DeepEqual(got, p) {
			t.Errorf("%v:\ngot  %+v\nwant %+v", c.fields, got, p)
		}
	}
}

func TestWhisperServerFields(t *testing.T) {
	s := whisperCPP(t, nil)
	fields := func(p transcript.Params) received {
		t.Helper()
		mustExchange(t, whisperServer{}, s.base(t), request(p))
		return s.last(t)
	}
	check := func(got received, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got.value(name) != value {
				t.Errorf("%s is %q, want %q in %v", name, got.form[name], value, got.form)
			}
		}
	}
	check(fields(params(t, transcript.OpenAI)), map[string]string{
		"language": "auto", "translate": "false", "prompt": "", "temperature": "0", "token_timestamps": "false", "no_language_probabilities": "true",
	})
	if got := fields(params(t, transcript.OpenAI)); len(got.form["prompt"]) != 1 {
		t.Error("without a prompt an old server would use that of an aborted request")
	}
	check(fields(params(t, transcript.OpenAI, "language", "german", "response_format", "verbose_json", "timestamp_granularities[]", "word")), map[string]string{
		"language": "de", "token_timestamps": "true", "max_len": "1000000", "response_format": "verbose_json", "no_language_probabilities": "true",
	})
	translation := params(t, transcript.OpenAI)
	translation.Task = transcript.Translate
	check(fields(translation), map[string]string{"translate": "true", "language": "auto"})
	check(fields(params(t, transcript.ASR, "detect", "1")), map[string]string{"detect_language": "true", "no_language_probabilities": "false", "language": "auto"})
	check(fields(params(t, transcript.WhisperServer, "diarize", "y")), map[string]string{"diarize": "true", "tinydiarize": "false", "detect_language": "false"})
	if got := fields(params(t, transcript.ASR, "vad_filter", "true")); got.form["vad"] != nil {
		t.Error("a hint is sent to a server that fails where it can't take it")
	}
	got := fields(params(t, transcript.WhisperServer, "response_format", "verbose_json"))
	check(got, map[string]string{"language": "en", "no_language_probabilities": "false", "token_timestamps": "true", "max_len": "60"})
	for _, name := range []string{"beam_size", "best_of", "temperature_inc", "entropy_thold", "max_context", "suppress_nst"} {
		if got.form[name] != nil {
			t.Errorf("%s is sent although the client left it to the server", name)
		}
	}
}

func TestOpenAIFields(t *testing.T) {
	s := openAIServer(t)
	mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.WhisperServer, "beam_size", "5", "audio_ctx", "768", "language", "de", "temperature", "0.2")))
	got := s.last(t)
	want := []string{"model", "response_format", "temperature", "language", "file"}
	if !slices.Equal(got.order, want) {
		t.Errorf("fields %v, want %v", got.order, want)
	}
	if got.value("model") != "base" || got.value("language") != "de" || got.value("temperature") != "0.2" {
		t.Errorf("values %v", got.form)
	}
	translation := params(t, transcript.OpenAI, "language", "de")
	translation.Task = transcript.Translate
	mustExchange(t, openAI{}, s.base(t), request(translation))
	if got := s.last(t); got.path != "/v1/audio/translations" || got.form["language"] != nil {
		t.Errorf("translation: %s with %v", got.path, got.form)
	}
	nameless := request(params(t, transcript.WhisperServer))
	nameless.Model = ""
	mustExchange(t, openAI{}, s.base(t), nameless)
	if got := s.last(t); got.form["model"] != nil {
		t.Errorf("a model without a name is sent: %v", got.form)
	}
	mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI, "response_format", "verbose_json", "timestamp_granularities[]", "word")))
	if got := s.last(t).form["timestamp_granularities[]"]; !slices.Equal(got, []string{"segment", "word"}) {
		t.Errorf("granularities %v", got)
	}
}

func TestFileNames(t *testing.T) {
	for _, c := range []struct{ name, contentType, want string }{
		{"speech.wav", "", "speech.wav"},
		{"", "", "audio"},
		{"", "audio/mpeg", "audio.mp3"},
		{"blob", "audio/webm;codecs=opus", "blob.webm"},
		{"../../etc/passwd", "", "passwd"},
		{`C:\Users\me\Aufnahme 1.M4A`, "", "Aufnahme_1.M4A"},
		{"Grüße — 挨拶.ogg", "", "Gr__e.ogg"},
		{"a\"; filename=\"b.wav\r\nX: y", "audio/wav", "a___filename__b.wav__X__y.wav"},
		{".wav", "", "audio.wav"},
		{"..", "audio/flac", "audio.flac"},
		{"Dr. Who speaks", "audio/mp4", "Dr._Who_speaks.m4a"},
		{strings.Repeat("x", 300) + ".flac", "", strings.Repeat("x", 64) + ".flac"},
		{"no\x00null\xff.mp3", "", "no_null.mp3"},
	} {
		if got := fileName(File{Name: c.name, ContentType: c.contentType}); got != c.want {
			t.Errorf("%q of type %q becomes %q, want %q", c.name, c.contentType, got, c.want)
		}
	}
}

func TestPartTypes(t *testing.T) {
	for given, want := range map[string]string{
		"audio/wav": "audio/wav", "": "application/octet-stream", "nonsense": "application/octet-stream",
		"audio/webm;codecs=opus": "audio/webm; codecs=opus", "audio/wav\r\nX-Evil: 1": "application/octet-stream",
	} {
		if got := partType(given); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}

// zeros is a large upload that nobody holds in memory.
type zeros struct {
	left   int64
	opened *atomic.Int32
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

func (z *zeros) Close() error { z.opened.Add(-1); return nil }

func zeroFile(size, announced int64) (File, *atomic.Int32) {
	opened := new(atomic.Int32)
	return File{Name: "long.wav", Size: announced, Open: func() io.ReadCloser {
		opened.Add(1)
		return &zeros{left: size, opened: opened}
	}}, opened
}

func TestLongUploadIsStreamed(t *testing.T) {
	const size = 64 << 20
	var length atomic.Int64
	s := listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		length.Store(n)
		write(w, 200, "application/json", openAIUsage)
	})
	r := request(params(t, transcript.OpenAI))
	var opened *atomic.Int32
	r.File, opened = zeroFile(size, size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v := mustExchange(t, openAI{}, s.base(t), r)
	runtime.ReadMemStats(&after)
	if v.Class != OK || length.Load() <= size {
		t.Fatalf("class %d, %d bytes arrived", v.Class, length.Load())
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("sending %d MiB allocated %d KiB", size>>20, grown>>10)
	}
	if opened.Load() != 0 {
		t.Errorf("%d readers are still open", opened.Load())
	}
}

func TestRequestThatIsNotSentHoldsNothing(t *testing.T) {
	r := request(params(t, transcript.OpenAI))
	var opened *atomic.Int32
	r.File, opened = zeroFile(100, 100)
	req := render(t, openAI{}, "http://a", r)
	if opened.Load() != 0 {
		t.Error("the file is open before the request is sent")
	}
	_ = req.Body.Close()
	if _, err := req.Body.Read(make([]byte, 10)); err == nil {
		t.Error("a closed body can be read")
	}
}

// The transport closes bodies from another goroutine than it reads them in.
func TestBodyClosedWhileRead(t *testing.T) {
	for range 50 {
		r := request(params(t, transcript.OpenAI))
		var opened *atomic.Int32
		r.File, opened = zeroFile(1<<20, 1<<20)
		req := render(t, openAI{}, "http://a", r)
		var done sync.WaitGroup
		done.Go(func() { _, _ = io.Copy(io.Discard, req.Body) })
		done.Go(func() { _ = req.Body.Close() })
		done.Wait()
		if opened.Load() != 0 {
			t.Fatal("a reader stayed open")
		}
	}
}

func TestFileOfAnotherLengthThanAnnounced(t *testing.T) {
	r := request(params(t, transcript.OpenAI))
	r.File, _ = zeroFile(50, 100)
	if _, err := io.ReadAll(render(t, openAI{}, "http://a", r).Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short file: %v", err)
	}
	r.File, _ = zeroFile(200, 100)
	req := render(t, openAI{}, "http://a", r)
	if body, err := io.ReadAll(req.Body); err != nil || int64(len(body)) != req.ContentLength {
		t.Errorf("a file that grew: %d bytes of %d, %v", len(body), req.ContentLength, err)
	}
	r.File, _ = zeroFile(0, 0)
	req = render(t, openAI{}, "http://a", r)
	if body, err := io.ReadAll(req.Body); err != nil || int64(len(body)) != req.ContentLength {
		t.Errorf("an empty file: %d bytes of %d, %v", len(body), req.ContentLength, err)
	}
}
