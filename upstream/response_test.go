package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// answering is a server that gives one answer to everything.
func answering(t *testing.T, status int, contentType, body string, headers ...string) *server {
	return listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		write(w, status, contentType, body)
	})
}

func TestClasses(t *testing.T) {
	asJSON, asText, asSRT := transcript.JSON, transcript.Text, transcript.SRT
	for _, c := range []struct {
		about       string
		status      int
		contentType string
		body        string
		format      transcript.Format
		want        Class
	}{
		{"an answer", 200, "application/json", openAIUsage, asJSON, OK},
		{"another 2xx", 201, "application/json", openAIUsage, asJSON, OK},
		{"no content type", 200, "", openAIUsage, asJSON, OK},
		{"an odd content type", 200, "image/png; x", openAIUsage, asJSON, OK},
		{"silence in JSON", 200, "application/json", `{"text":""}`, asJSON, OK},
		{"silence in text", 200, "text/plain", "", asText, OK},
		{"silence in srt", 200, "text/plain", "", asSRT, OK},
		{"empty JSON", 200, "application/json", "", asJSON, Broken},
		{"204", 204, "", "", asJSON, Broken},
		{"blank JSON", 200, "application/json", " \n", asJSON, Broken},
		{"JSON cut short", 200, "application/json", `{"text":"and so`, asJSON, Broken},
		{"a list", 200, "application/json", `[]`, asJSON, Broken},
		{"no transcript", 200, "application/json", `{"status":"ok"}`, asJSON, Broken},
		{"an error with 200", 200, "application/json", `{"error":"failed to process audio"}`, asJSON, Broken},
		{"an error object with 200", 200, "application/json", `{"error":{"message":"out of memory"}}`, asJSON, Broken},
		{"an error where text is due", 200, "application/json", `{"error":"failed to process audio"}`, asText, Broken},
		{"a web page where text is due", 200, "text/html", "<!DOCTYPE html><title>Log in</title>", asText, Broken},
		{"text where srt is due", 200, "text/plain", "and so my fellow", asSRT, Broken},
		{"bad request", 400, "application/json", `{"error":{"message":"bad"}}`, asJSON, ClientFault},
		{"too large", 413, "text/html", "<html><title>413</title></html>", asJSON, ClientFault},
		{"media type", 415, "application/json", `{"detail":"cannot decode"}`, asJSON, ClientFault},
		{"unprocessable", 422, "application/json", `{"detail":[{"loc":["body","language"],"msg":"unknown"}]}`, asJSON, ClientFault},
		{"unauthorized", 401, "", "", asJSON, Misconfigured},
		{"forbidden", 403, "", "", asJSON, Misconfigured},
		{"not found", 404, "application/json", `{"detail":"Not Found"}`, asJSON, Misconfigured},
		{"method", 405, "", "", asJSON, Misconfigured},
		{"proxy", 407, "", "", asJSON, Misconfigured},
		{"moved", 307, "", "", asJSON, Misconfigured},
		{"timeout", 408, "", "", asJSON, Broken},
		{"conflict", 409, "", "", asJSON, Broken},
		{"too many", 429, "", "", asJSON, Busy},
		{"internal error", 500, "text/plain", "500 Internal Server Error\nstof", asJSON, Broken},
		{"bad gateway", 502, "text/html", "<html>", asJSON, Broken},
		{"busy", 503, "application/json", `{"error":{"message":"the queue is full"}}`, asJSON, Busy},
		{"busy uploading", 503, "text/plain", "overloading, uploading, downloading", asJSON, Busy},
		{"loading", 503, "application/json", `{"status":"loading model"}`, asJSON, Loading},
		{"gateway timeout", 504, "", "", asJSON, Broken},
	} {
		s := answering(t, c.status, c.contentType, c.body)
		for _, k := range kinds {
			r := request(params(t, transcript.OpenAI, "response_format", string(c.format)))
			if k.Name() != "whisperpool" && c.format != asJSON { // only whisperpool is asked for these
				continue
			}
			v := mustExchange(t, k, s.base(t), r)
			if v.Class != c.want {
				t.Errorf("%s: %s has class %d (%s), want %d", k.Name(), c.about, v.Class, v.Detail, c.want)
			}
			if (v.Class == OK) != (v.Detail == "") || (v.Class == ClientFault) != (v.Problem != nil) {
				t.Errorf("%s: %s: detail %q, problem %v", k.Name(), c.about, v.Detail, v.Problem)
			}
			if v.Class != OK && (v.Answer.Body != nil || v.Answer.AudioSeconds != 0) {
				t.Errorf("%s: %s comes with an answer", k.Name(), c.about)
			}
		}
	}
}

func TestLoadingInHeader(t *testing.T) {
	s := answering(t, 503, "", "", "X-State", "loading")
	if v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI))); v.Class != Loading {
		t.Errorf("class %d", v.Class)
	}
}

func TestClientsFaultKeepsItsStatus(t *testing.T) {
	for _, status := range []int{400, 413, 415, 422} {
		s := answering(t, status, "application/json", `{"error":{"message":"audio is too short","type":"invalid_request_error","param":"file","code":"audio_too_short"}}`)
		v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI)))
		p := v.Problem
		if p == nil || p.Status != status || p.Message != "audio is too short" || p.Param != "file" || p.Code != "audio_too_short" || !p.Final {
			t.Errorf("%d: problem %+v", status, p)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{" 1.5 ", "", 1500 * time.Millisecond},
		{"0", "", 0},
		{"-4", "", 0},
		{"3600", "", time.Minute},
		{"1e300", "", time.Minute},
		{"Inf", "", time.Minute},
		{"-Inf", "", 0},
		{"NaN", "", 0},
		{"soon", "", 0},
		{now.Add(20 * time.Second).Format(http.TimeFormat), "", 20 * time.Second},
		{now.Add(-20 * time.Second).Format(http.TimeFormat), "", 0},
		{now.Add(48 * time.Hour).Format(http.TimeFormat), "", time.Minute},
		{now.Add(time.Hour + 5*time.Second).Format(http.TimeFormat), now.Add(time.Hour).Format(http.TimeFormat), 5 * time.Second}, // its clock is an hour ahead
	} {
		h := http.Header{}
		h.Set("Retry-After", c.value)
		h.Set("Date", c.date)
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("%q: %v, want %v", c.value, got, c.want)
		}
	}
	s := answering(t, 429, "", "", "Retry-After", "12")
	if v := mustExchange(t, openAI{}, s.base(t), request(params(t, transcript.OpenAI))); v.RetryAfter != 12*time.Second {
		t.Errorf("RetryAfter %v", v.RetryAfter)
	}
}

// cut answers with fewer bytes than it announced, and hangs up.
func cut(t *testing.T, status int, body string, chunked bool) *server {
	return listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if chunked {
			fmt.Fprintf(buffered, "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", status, len(body), body)
		} else {
			fmt.Fprintf(buffered, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s", status, len(body)+10, body)
		}
		_ = buffered.Flush()
	})
}

// An answer that breaks off is the backend's: broken where it would have counted, else what its status
// says. It is no death at work, of which two make a job poison.
func TestAnswerCutShort(t *testing.T) {
	for status, want := range map[int]Class{200: Broken, 400: Broken, 401: Misconfigured, 429: Busy, 500: Broken} {
		for _, chunked := range []bool{false, true} {
			v := mustExchange(t, openAI{}, cut(t, status, openAIUsage, chunked).base(t), request(params(t, transcript.OpenAI)))
			if v.Class != want || v.Answer.Body != nil || v.Problem != nil || v.Detail == "" {
				t.Errorf("status %d, chunked %v: class %d, %s", status, chunked, v.Class, v.Detail)
			}
		}
	}
	// A text that is whole by itself does not make up for it.
	v := mustExchange(t, whisperPool{}, cut(t, 200, "and so", false).base(t), request(params(t, transcript.OpenAI, "response_format", "text")))
	if v.Class != Broken || !strings.Contains(v.Detail, "before the answer was whole") {
		t.Errorf("text: class %d, %s", v.Class, v.Detail)
	}
}

func TestCancelWhileReading(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	released := make(chan struct{})
	s := listen(t, func(_ *server, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"text":`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(released)
	})
	r := request(params(t, transcript.OpenAI))
	req, err := openAI{}.Render(ctx, s.base(t), r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := (openAI{}).Read(resp, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
	<-released // the server saw that the client left
}

func TestCompressedAnswerThatNobodyAskedFor(t *testing.T) {
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	_, _ = zip.Write([]byte(openAIUsage))
	_ = zip.Close()
	for _, format := range []string{"json", "text"} {
		s := answering(t, 200, "", body.String(), "Content-Encoding", "gzip")
		v := mustExchange(t, whisperPool{}, s.base(t), request(params(t, transcript.OpenAI, "response_format", format)))
		if v.Class != Broken || !strings.Contains(v.Detail, "compressed") {
			t.Errorf("%s: class %d: %s", format, v.Class, v.Detail)
		}
	}
}

func TestDetailsHoldNoTranscript(t *testing.T) {
	const secret = "the patient said"
	for _, c := range []struct {
		status int
		body   string
	}{
		{200, `{"text":"` + secret}, {200, secret}, {200, `["` + secret + `"]`}, {200, "<html><title>" + secret}, {200, `{"error":"` + secret + `"}`},
		{200, `{"error":{"message":"` + secret + `","code":"` + secret + `"}}`}, {500, `{"error":"` + secret + `"}`}, {503, secret}, {404, secret}, {429, secret},
		{401, `{"detail":"` + secret + `"}`}, {502, "<html><title>" + secret + "</title></html>"}, {500, `{"error":"` + secret + ` CUDA out of memory ` + secret + `"}`},
		{422, `{"detail":[{"loc":["body","prompt"],"msg":"too long","input":"` + secret + `"}]}`},
		{400, `{"error":{"message":"prompt is \"` + secret + `\""}}`},
	} {
		v := mustExchange(t, openAI{}, answering(t, c.status, "application/json", c.body).base(t), request(params(t, transcript.OpenAI)))
		if v.Class == OK || strings.Contains(v.Detail, secret) {
			t.Errorf("%d %s: class %d, detail %q", c.status, c.body, v.Class, v.Detail)
		}
	}
	v := mustExchange(t, openAI{}, answering(t, 500, "application/json", `{"error":"CUDA out of memory\r\nx"}`).base(t), request(params(t, transcript.OpenAI)))
	if v.Detail != "500 Internal Server Error (out of memory)" {
		t.Errorf("detail %q", v.Detail)
	}
	v = mustExchange(t, openAI{}, answering(t, 308, "", "", "Location", "https://b/").base(t), request(params(t, transcript.OpenAI)))
	if v.Class != Misconfigured || !strings.Contains(v.Detail, "another host") || strings.Contains(v.Detail, "b/") { // it reaches clients
		t.Errorf("a redirect: class %d, detail %q", v.Class, v.Detail)
	}
}

func TestWhisperServersStatuses(t *testing.T) {
	for _, c := range []struct {
		about        string
		status       int
		kind, body   string
		want         Class
		problemParam string
	}{
		{"a proxy's own 400", 400, "application/json", `{"error":"the audio is not welcome"}`, ClientFault, ""},
		{"1.9: an undecodable file", 400, "text/plain", "Invalid request", ClientFault, "file"},
		{"behind a proxy", 400, "application/json", `{"error":"failed to read audio data"}`, ClientFault, "file"},
		{"not ready", 404, "text/plain", "File Not Found (/inference)", Loading, ""},
		{"a web server's 404", 404, "text/html", "<html><title>404</title></html>", Misconfigured, ""},
		{"a bad number", 500, "text/plain", "500 Internal Server Error\nstof", Broken, ""},
		{"before 2026-03: errors with 200", 200, "application/json", `{"error":"failed to process audio"}`, Broken, ""},
		{"a failed ffmpeg", 500, "application/json", `{"error":"FFmpeg conversion failed."}`, Broken, ""},
	} {
		v := mustExchange(t, whisperServer{}, answering(t, c.status, c.kind, c.body).base(t), request(params(t, transcript.OpenAI)))
		if v.Class != c.want {
			t.Errorf("%s: class %d (%s), want %d", c.about, v.Class, v.Detail, c.want)
		}
		if v.Problem != nil && (v.Problem.Param != c.problemParam || v.Problem.Status != c.status || !strings.Contains(v.Problem.Message, "audio")) {
			t.Errorf("%s: problem %+v", c.about, v.Problem)
		}
	}
}

func TestSilence(t *testing.T) {
	for _, body := range []string{`{"text":""}`, `{"text":" \n"}`, `{"text":" [BLANK_AUDIO]\n"}`, `{"text":"..."}`} {
		v := mustExchange(t, whisperServer{}, answering(t, 200, "application/json", body).base(t), request(params(t, transcript.OpenAI)))
		if v.Class != OK || v.Answer.Words {
			t.Errorf("%s: class %d, words %v", body, v.Class, v.Answer.Words)
		}
	}
	v := mustExchange(t, openAI{}, answering(t, 200, "application/json", `{"text":"","duration":12,"segments":[]}`).base(t), request(params(t, transcript.OpenAI, "response_format", "vtt")))
	if v.Class != OK || string(v.Answer.Body) != "WEBVTT\n\n" || v.Answer.AudioSeconds != 12 {
		t.Errorf("vtt of silence: class %d, %q, %v s", v.Class, v.Answer.Body, v.Answer.AudioSeconds)
	}
}

// Text that is not UTF-8 is repaired rather than passed on.
func TestInvalidUTF8(t *testing.T) {
	v := mustExchange(t, whisperServer{}, answering(t, 200, "text/html", " caf\xc3\n").base(t), request(params(t, transcript.WhisperServer, "response_format", "text")))
	if v.Class != OK || !strings.HasPrefix(string(v.Answer.Body), " caf\uFFFD") {
		t.Errorf("class %d: %q", v.Class, v.Answer.Body)
	}
}

func TestWhatWhisperpoolSaysOfItself(t *testing.T) {
	s := answering(t, 200, "application/json", openAIUsage, "X-Whisperpool-Instance", "4f0c", "X-Whisperpool-Emulator", "true")
	v := mustExchange(t, whisperPool{}, s.base(t), request(params(t, transcript.OpenAI)))
	if v.Instance != "4f0c" || !v.Emulator || v.Answer.AudioSeconds != 11 {
		t.Errorf("instance %q, emulator %v, %v s", v.Instance, v.Emulator, v.Answer.AudioSeconds)
	}
}
