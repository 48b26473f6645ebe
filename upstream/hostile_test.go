package upstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// raw is a server that takes the request and then writes what it likes to the connection.
func raw(t *testing.T, respond func(w *bufio.Writer)) *server {
	return listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		respond(buffered.Writer)
		_ = buffered.Flush()
	})
}

func rawText(t *testing.T, text string) *server {
	return raw(t, func(w *bufio.Writer) { _, _ = w.WriteString(text) })
}

// asks is a request for a format that the kind asks its server for.
func asks(t *testing.T, k Kind, format transcript.Format) Request {
	api := transcript.OpenAI
	if k.Name() == "whisper_server" { // for whose own clients alone it is asked for a text
		api = transcript.WhisperServer
	}
	return request(params(t, api, "response_format", string(format)))
}

// TestHostileAnswers: whatever stands where an answer is due is the backend's failure, for every kind
// and format, and nothing of it gets any further.
func TestHostileAnswers(t *testing.T) {
	all := []transcript.Format{transcript.JSON, transcript.VerboseJSON, transcript.Text, transcript.SRT, transcript.VTT}
	inJSON, plain := all[:2], all[2:]
	page := "<html><head><title>502 Bad Gateway</title></head></html>"
	for _, c := range []struct {
		about             string
		status            int
		contentType, body string
		formats           []transcript.Format
		says              string // in the detail
	}{
		{"nothing", 200, "application/json", "", inJSON, "empty"},
		{"an error", 200, "application/json", `{"error":"failed to process audio"}`, all, "failed to process audio"},
		{"an error object", 200, "application/json", `{"error":{"message":"out of memory"}}`, all, "out of memory"},
		{"an error beside an empty text", 200, "application/json", `{"text":"","error":"CUDA error"}`, all, "CUDA error"},
		{"truncated JSON", 200, "application/json", `{"text":"and so my`, all, "truncated"},
		{"truncated JSON of an error", 200, "", `{"error":"x`, all, "truncated"},
		{"JSON with something after it", 200, "application/json", openAIUsage + "}", all, "not_json"},
		{"two answers", 200, "application/json", openAIUsage + openAIUsage, all, "not_json"},
		{"JSON of another shape", 200, "application/json", `{"status":"ok"}`, all, "no_text"},
		{"a text that is none", 200, "application/json", `{"text":null}`, all, "no_text"},
		{"a text in parts", 200, "application/json", `{"text":["a","b"]}`, all, "no_text"},
		{"segments that are none", 200, "application/json", `{"segments":{}}`, all, "no_text"},
		{"a web page of a proxy", 200, "text/html", page, all, "Bad Gateway"},
		{"a list", 200, "application/json", `[{"text":"a"}]`, inJSON, "not_object"},
		{"a web page", 200, "text/html", "<html><title>Hello</title></html>", all, "html"},
		{"half a web page", 200, "text/html", "<center><h1>502 Bad Gateway</h1></center>", all, "html"},
		{"a web page with a comment first", 200, "text/html", "<!-- x -->" + page, all, "html"},
		{"an image", 200, "image/png", "\x89PNG\r\n\x1a\n\x00\x00", all, ""},
		{"bytes", 200, "application/octet-stream", "RIFF\x00\x00\x00\x00WAVE", all, ""},
		{"events", 200, "text/event-stream", "data: {\"type\":\"transcript.text.done\",\"text\":\"a\"}\n\n", all, ""},
		{"text for subtitles", 200, "text/plain", "and so my fellow", plain[1:], "no_cues"},
		{"accepted", 202, "text/plain", "queued", all, "202"},
		{"no content", 204, "", "", all, "204"},
		{"reset content", 205, "", "", all, "205"},
		{"a part", 206, "text/plain", "and so", all, "206"},
	} {
		s := answering(t, c.status, c.contentType, c.body)
		for _, k := range kinds {
			for _, format := range c.formats {
				if k.Name() == "openai" && isPlain(format) { // never asked for that
					continue
				}
				v := mustExchange(t, k, s.base(t), asks(t, k, format))
				if v.Class != Broken || !strings.Contains(v.Detail, c.says) || v.Answer.Body != nil || v.Problem != nil {
					t.Errorf("%s, %s: %s: class %d, detail %q, answer %q", k.Name(), format, c.about, v.Class, v.Detail, v.Answer.Body)
				}
			}
		}
	}
}

// TestSilenceIsAnAnswer in every kind and format, and has no words.
func TestSilenceIsAnAnswer(t *testing.T) {
	for format, body := range map[transcript.Format]string{
		transcript.JSON: `{"text":""}`, transcript.VerboseJSON: `{"text":"","segments":[],"duration":11}`,
		transcript.Text: "", transcript.SRT: "", transcript.VTT: "",
	} {
		for _, k := range kinds {
			if k.Name() == "openai" && isPlain(format) {
				continue
			}
			v := mustExchange(t, k, answering(t, 200, "", body).base(t), asks(t, k, format))
			if v.Class != OK || v.Answer.Words || v.Answer.Doubtful {
				t.Errorf("%s, %s: %+v", k.Name(), format, v)
			}
		}
	}
}

// TestRedirectsAreNotFollowed, wherever they go, and what they say does not tell addresses.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := answering(t, 200, "application/json", openAIUsage)
	for _, c := range []struct{ location, says string }{
		{"", "where it redirects to"},
		{"%zz", "where it redirects to"},
		{"http://10.1.2.3:9/x", "another host"},
		{elsewhere.URL + "/v1/audio/transcriptions", "another port"},
		{"/elsewhere", "another path"},
		{"x://127.0.0.1/", "port"},
		{"https://127.0.0.1/v1/audio/transcriptions", "https"},
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			v := mustExchange(t, openAI{}, answering(t, status, "", "", "Location", c.location).base(t), request(params(t, transcript.OpenAI)))
			if v.Class != Misconfigured || !strings.Contains(v.Detail, c.says) || strings.Contains(v.Detail, "10.1.2.3") || strings.ContainsAny(v.Detail, "\r\n\t") {
				t.Errorf("%d to %q: class %d, %q", status, c.location, v.Class, v.Detail)
			}
		}
	}
	if len(elsewhere.got) != 0 {
		t.Error("a redirect was followed")
	}
}

// TestMisconfiguredSaysWhatToDo in the words that an operator needs.
func TestMisconfiguredSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, says string
	}{
		{401, `{"error":{"message":"Invalid API key"}}`, "401 Unauthorized: its header_up Authorization is missing or wrong (it does not accept the key)"},
		{401, "", "401 Unauthorized: its header_up Authorization is missing or wrong"},
		{403, "", "403 Forbidden: its header_up Authorization is missing or wrong"},
		{404, `{"detail":"Not Found"}`, "404 Not Found: it has no /v1/audio/transcriptions, or not the model"},
		{405, "", "405 Method Not Allowed: it takes no POST at /v1/audio/transcriptions"},
		{407, "", "a proxy before it wants a login"},
		{400, "Client sent an HTTP request to an HTTPS server.\n", "it speaks TLS"},
		{400, "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>", "it speaks TLS"},
	} {
		v := mustExchange(t, openAI{}, answering(t, c.status, "", c.body).base(t), request(params(t, transcript.OpenAI)))
		if v.Class != Misconfigured || !strings.Contains(v.Detail, c.says) || v.Problem != nil {
			t.Errorf("%d: class %d, %q", c.status, v.Class, v.Detail)
		}
	}
}

// TestLoadingInAllItsForms.
func TestLoadingInAllItsForms(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		status int
		body   string
		want   Class
	}{
		{whisperServer{}, 503, `{"status":"loading model"}`, Loading},
		{whisperServer{}, 404, "File Not Found (/inference)", Loading},
		{whisperServer{}, 200, `{"error":"Loading model"}`, Loading},
		{whisperPool{}, 503, `{"error":{"message":"the model is being loaded","type":"server_error","code":"loading"}}`, Loading},
		{openAI{}, 503, `{"error":"Model openai/whisper-large-v3 is currently loading","estimated_time":20.0}`, Loading},
		{openAI{}, 200, `{"error":"uploading failed"}`, Broken},
		{openAI{}, 200, `{"text":"loading"}`, OK},
		{openAI{}, 404, "File Not Found (/inference)", Misconfigured},
	} {
		v := mustExchange(t, c.kind, answering(t, c.status, "", c.body).base(t), request(params(t, transcript.OpenAI)))
		if v.Class != c.want {
			t.Errorf("%s: %d %s: class %d, %s", c.kind.Name(), c.status, c.body, v.Class, v.Detail)
		}
	}
}

// endless answers with a body that does not end, of what is repeated.
func endless(t *testing.T, status int, headers, start, repeat string) *server {
	return raw(t, func(w *bufio.Writer) {
		fmt.Fprintf(w, "HTTP/1.1 %d X\r\n%s\r\n%s", status, headers, start)
		chunk := strings.Repeat(repeat, 1+(64<<10)/len(repeat))
		for {
			if _, err := w.WriteString(chunk); err != nil {
				return // hung up on, as it should be
			}
		}
	})
}

// TestAnswerWithoutEnd is given up at a size that goes by the recording, and takes no more memory
// than that.
func TestAnswerWithoutEnd(t *testing.T) {
	s := endless(t, 200, "", `{"text":"`, "la ")
	v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI)))
	if v.Class != Broken || !strings.Contains(v.Detail, "more than 1.09 MiB") {
		t.Errorf("class %d: %s", v.Class, v.Detail)
	}
	for status, want := range map[int]Class{503: Busy, 500: Broken, 401: Misconfigured, 400: Broken} {
		v := mustExchange(t, openAI{}, endless(t, status, "", "no ", "no ").base(t), request(params(t, transcript.OpenAI)))
		if v.Class != want {
			t.Errorf("%d: class %d: %s", status, v.Class, v.Detail)
		}
	}
	v = mustExchange(t, openAI{}, endless(t, 101, "Upgrade: x\r\nConnection: upgrade\r\n", "", "x").base(t), request(params(t, transcript.OpenAI)))
	if v.Class != Broken {
		t.Errorf("101: class %d: %s", v.Class, v.Detail)
	}
	for _, c := range []struct {
		r    Request
		want int64
	}{
		{Request{}, 64 << 20},
		{Request{AudioSeconds: 3600}, 1<<20 + 3600*8<<10},
		{Request{AudioSeconds: 1, File: File{Size: 8 << 20}}, 17 << 20}, // whose header tells nonsense
		{Request{AudioSeconds: 24 * 3600}, 64 << 20},
		{Request{AudioSeconds: 1e300, File: File{Size: 1 << 62}}, 64 << 20},
	} {
		if got := answerLimit(c.r); got != c.want {
			t.Errorf("%v s, %d bytes: %d, want %d", c.r.AudioSeconds, c.r.File.Size, got, c.want)
		}
	}
}

// TestAnswerThatStandsStill ends with its attempt, as an error of the attempt's and no verdict.
func TestAnswerThatStandsStill(t *testing.T) {
	s := listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"text":`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r := request(params(t, transcript.OpenAI))
	req, err := openAI{}.Render(ctx, s.base(t), r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (openAI{}).Read(resp, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
}

// TestBombs: small answers that would be large in memory, in the shapes that are cheapest to write.
func TestBombs(t *testing.T) {
	const size = 512 << 10
	long := func(start, repeat, end string) string {
		return start + strings.Repeat(repeat, (size-len(start)-len(end))/len(repeat)) + strings.TrimSuffix(repeat, ",") + end
	}
	for about, c := range map[string]struct {
		api  transcript.API
		body string
	}{
		"segments of numbers": {transcript.OpenAI, long(`{"text":"a","segments":[`, "1,", "]}")},
		"empty segments":      {transcript.OpenAI, long(`{"text":"a","segments":[`, "{},", "]}")},
		"empty words":         {transcript.OpenAI, long(`{"text":"a","words":[`, "{},", "]}")},
		"words of numbers":    {transcript.WhisperServer, long(`{"text":"a","segments":[{"words":[`, "1,", "]}]}")},
		"lines":               {transcript.WhisperServer, long(`{"text":"`, `a\n`, `"}`)},
		"nesting":             {transcript.OpenAI, long(`{"text":"a","segments":`, "[", "")},
		"languages":           {transcript.WhisperServer, long(`{"text":"a","language_probabilities":{`, `"a":1,`, "}}")},
	} {
		r := request(params(t, c.api, "response_format", "verbose_json"))
		r.AudioSeconds, r.File.Size = 3600, size
		var before, after runtime.MemStats
		resp := &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body))}
		runtime.ReadMemStats(&before)
		_, err := whisperPool{}.Read(resp, r)
		runtime.ReadMemStats(&after)
		// All that was ever allocated, most of it garbage soon. Without a limit on the number of things the
		// cheapest of these would come to a kilobyte for 3 bytes.
		if most := uint64(150<<20) * raceFactor; err != nil || after.TotalAlloc-before.TotalAlloc > most {
			t.Errorf("%s: %d MiB allocated for %d KiB; %v", about, (after.TotalAlloc-before.TotalAlloc)>>20, size>>10, err)
		}
	}
}

// TestCompressedBomb: a transport that the user told to compress unpacks by itself, within the limit.
func TestCompressedBomb(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	block := bytes.Repeat([]byte("la "), 1<<18)
	_, _ = zip.Write([]byte(`{"text":"`))
	for range 16 { // of three quarters of a MiB, and little more than one is taken
		_, _ = zip.Write(block)
	}
	_ = zip.Close()
	s := answering(t, 200, "application/json", packed.String(), "Content-Encoding", "gzip")
	compressing := &http.Transport{}
	defer compressing.CloseIdleConnections()
	r := request(params(t, transcript.OpenAI))
	req, err := openAI{}.Render(context.Background(), s.base(t), r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := compressing.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if !resp.Uncompressed {
		t.Fatal("the transport did not unpack it, so nothing was tested")
	}
	if v, err := (openAI{}).Read(resp, r); err != nil || v.Class != Broken || !strings.Contains(v.Detail, "MiB") {
		t.Errorf("%+v, %v", v, err)
	}
	v := mustExchange(t, openAI{}, s.base(t), r)
	if v.Class != Broken || !strings.Contains(v.Detail, "compressed") {
		t.Errorf("as it comes: class %d: %s", v.Class, v.Detail)
	}
}

// TestGarbled: what is no HTTP is told from a connection that died.
func TestGarbled(t *testing.T) {
	trip := func(s *server) error {
		limited := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}
		defer limited.CloseIdleConnections()
		req, err := openAI{}.Render(context.Background(), s.base(t), request(params(t, transcript.OpenAI)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := limited.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			t.Errorf("an answer: %v", resp.Status)
		}
		return err
	}
	for about, s := range map[string]*server{
		"no HTTP":            rawText(t, "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
		"a status of words":  rawText(t, "HTTP/1.1 OK fine\r\n\r\n"),
		"a header of no use": rawText(t, "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"),
		"a flood of 1xx":     rawText(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 100000)),
		"a header of 1 MiB":  rawText(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"),
		"a million headers":  rawText(t, "HTTP/1.1 200 OK\r\n"+strings.Repeat("A: b\r\n", 1<<20)+"\r\n"),
		"two lengths":        rawText(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
		"a length of words":  rawText(t, "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nab"),
		"a negative length":  rawText(t, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"),
		"an odd coding":      rawText(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"),
	} {
		if err := trip(s); !Garbled(err) {
			t.Errorf("%s: %v", about, err)
		}
	}
	if err := trip(rawText(t, "")); err == nil || Garbled(err) {
		t.Errorf("a connection that was closed: %v", err)
	}
	if Garbled(nil) || Garbled(io.ErrUnexpectedEOF) {
		t.Error("what is no answer at all counts as one")
	}
}

// TestHeadersOfABackendAreNotTrusted: what is taken from one is of a length and a kind that fits where
// it goes.
func TestHeadersOfABackendAreNotTrusted(t *testing.T) {
	for value, want := range map[string]string{
		"4f0c91d2a7b3e865": "4f0c91d2a7b3e865", "": "", strings.Repeat("x", 129): "", "a b": "", "a\tb": "", "a\x80b": "", "caf\u00e9": "",
	} {
		s := rawText(t, "HTTP/1.1 200 OK\r\nX-Whisperpool-Instance: "+value+"\r\nContent-Length: "+fmt.Sprint(len(openAIUsage))+"\r\n\r\n"+openAIUsage)
		if v := mustExchange(t, whisperPool{}, s.base(t), request(params(t, transcript.OpenAI))); v.Instance != want || v.Class != OK {
			t.Errorf("%q: instance %q, class %d", value, v.Instance, v.Class)
		}
	}
	// The answer's own type is ours.
	s := answering(t, 200, "application/json; x=<y>", openAIUsage, "Set-Cookie", "a=b")
	if v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI))); v.Class != OK || v.Answer.ContentType != "application/json" {
		t.Errorf("class %d, type %q", v.Class, v.Answer.ContentType)
	}
	// What is copied of an error is one clean line.
	s = answering(t, 422, "application/json", `{"error":{"message":"a\r\nSet-Cookie: x\u0000\u202e<script>","type":"t\r\nX: y","param":"p\u0000","code":"c\n"}}`)
	v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI)))
	if p := v.Problem; p == nil || strings.ContainsAny(p.Message+p.Type+p.Param+p.Code, "\r\n\x00<\u202e") {
		t.Errorf("problem %+v", p)
	}
}

// TestAbsurdLengths teach nothing, and the client gets the length that is known.
func TestAbsurdLengths(t *testing.T) {
	body := func(duration string) string {
		return strings.Replace(openAIVerboseBody(false), `"duration":11.0`, `"duration":`+duration, 1)
	}
	if !strings.Contains(body("12"), `"duration":12`) {
		t.Fatal("the body has no duration to replace")
	}
	for _, c := range []struct {
		duration string
		audio    float64
		bytes    int64
		want     float64
		doubtful bool
	}{
		{"11", 11, 40, 11, false},
		{"11.5", 11, 40, 11.5, false},
		{"20", 11, 40, 20, false},
		{"1100", 11, 40, 0, true},
		{"1e300", 11, 40, 0, true},
		{"0.1", 11, 40, 0, true},
		{"-5", 11, 40, 0, false}, // as if it were not told
		{"0", 11, 40, 0, false},
		{`"NaN"`, 11, 40, 0, false},
		{"0.4", 0.3, 40, 0.4, false},
		{"1e6", 0, 40_000, 0, true}, // nobody speaks in 0.04 bytes a second
		{"600", 0, 40_000, 600, false},
	} {
		r := request(params(t, transcript.OpenAI, "response_format", "verbose_json"))
		content := make([]byte, c.bytes)
		r.AudioSeconds, r.File.Size = c.audio, c.bytes
		r.File.Open = func() io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) }
		v := mustExchange(t, openAI{}, answering(t, 200, "", body(c.duration)).base(t), r)
		if v.Class != OK || v.Answer.AudioSeconds != c.want || v.Answer.Doubtful != c.doubtful {
			t.Errorf("%s of %v s: class %d, %v s, doubtful %v", c.duration, c.audio, v.Class, v.Answer.AudioSeconds, v.Answer.Doubtful)
		}
		if c.doubtful && c.audio > 0 && !bytes.Contains(v.Answer.Body, []byte(fmt.Sprintf(`"duration":%v`, c.audio))) {
			t.Errorf("%s: the client gets %s", c.duration, v.Answer.Body)
		}
	}
	// Of a part of the audio its own length may be told.
	p := params(t, transcript.WhisperServer, "response_format", "verbose_json", "offset_t", "1000", "duration", "2000")
	if v := mustExchange(t, whisperServer{}, answering(t, 200, "", body("2")).base(t), request(p)); v.Answer.Doubtful {
		t.Error("a part's length is doubted")
	}
}

// TestAbsurdTimesAreNotPassedOn as they came.
func TestAbsurdTimesAreNotPassedOn(t *testing.T) {
	for _, bad := range []string{"-7.5", "1e300"} {
		body := strings.Replace(openAIVerboseBody(true), `"end":7.6`, `"end":`+bad, 1)
		v := mustExchange(t, whisperPool{}, answering(t, 200, "application/json", body).base(t), request(params(t, transcript.OpenAI, "response_format", "verbose_json")))
		if v.Class != OK || strings.Contains(string(v.Answer.Body), bad) || !strings.Contains(string(v.Answer.Body), "ask not what") {
			t.Errorf("%s: class %d, %s", bad, v.Class, v.Answer.Body)
		}
	}
}

// TestErrorThatStandsStill: whoever says that there is no answer is not waited for until it has said why.
func TestErrorThatStandsStill(t *testing.T) {
	for status, want := range map[int]Class{500: Broken, 503: Busy, 404: Misconfigured, 422: Broken} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			hungUp := make(chan struct{})
			s := listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
				defer close(hungUp)
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"error":`)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
			began := time.Now()
			v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI)))
			if v.Class != want || time.Since(began) > 10*errorBodyWithin || want == Busy && v.RetryAfter != 7*time.Second {
				t.Errorf("after %v: class %d, retry after %v: %s", time.Since(began), v.Class, v.RetryAfter, v.Detail)
			}
			<-hungUp
		})
	}
}
