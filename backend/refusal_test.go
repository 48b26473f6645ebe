package backend_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// parts makes a form of parts with any headers: disposition parameters, content type, content.
func parts(list ...[3]string) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range list {
		h := textproto.MIMEHeader{"Content-Disposition": {"form-data; " + p[0]}}
		if p[1] != "" {
			h.Set("Content-Type", p[1])
		}
		part, _ := w.CreatePart(h)
		_, _ = io.WriteString(part, p[2])
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestBadInputIsToldApart(t *testing.T) {
	_, base := serve(t, backend.Config{UploadMax: 2 << 20, AudioMax: 10 * time.Second, BeamSizeMax: 3}, fast(t))
	tone := wav(0.5)
	model := [3]string{`name="model"`, "", "base"}
	file := [3]string{`name="file"; filename="a.wav"`, "audio/wav", string(tone)}
	type request struct {
		contentType string
		body        []byte
	}
	of := func(contentType string, body []byte) request { return request{contentType, body} }
	whole, cut := form(tone, "model", "base")
	many := make([]string, 0, 500)
	for range 250 {
		many = append(many, "prompt", "x")
	}
	for _, c := range []struct {
		name   string
		send   request
		status int
		code   string
		param  string
		says   string
	}{
		{"no body", of("", nil), 400, "invalid_content_type", "", "multipart/form-data"},
		{"JSON", of("application/json", []byte(`{"file":"x"}`)), 400, "invalid_content_type", "", "multipart/form-data"},
		{"urlencoded", of("application/x-www-form-urlencoded", []byte("file=x")), 400, "invalid_content_type", "", "multipart/form-data"},
		{"bare audio", of("audio/wav", tone), 400, "invalid_content_type", "", "multipart/form-data"},
		{"no boundary", of("multipart/form-data", []byte("x")), 400, "invalid_content_type", "", "boundary"},
		{"empty body", of("multipart/form-data; boundary=b", nil), 400, "upload_incomplete", "file", "cut short"},
		{"another boundary", of("multipart/form-data; boundary=b", []byte("--c\r\n\r\nx\r\n--c--\r\n")), 400, "upload_incomplete", "file", "cut short"},
		{"no end", of(whole, cut[:len(cut)-30]), 400, "upload_incomplete", "file", "cut short"},
		{"broken header", of("multipart/form-data; boundary=b", []byte("--b\r\nno header\r\n\r\nx\r\n--b--\r\n")), 400, "invalid_form", "", "well-formed"},

		{"no file", of(form(nil, "model", "base")), 400, "missing_required_parameter", "file", "missing"},
		{"wrong field", of(parts(model, [3]string{`name="audio"; filename="a.wav"`, "audio/wav", string(tone)})), 400, "missing_required_parameter", "file", `"audio"`},
		{"a name for a file", of(parts(model, [3]string{`name="file"`, "", "jfk.wav"})), 400, "not_a_file", "file", "with the @"},
		{"two files", of(parts(model, file, file)), 400, "too_many_values", "file", "one file a request"},
		{"empty file", of(form([]byte{}, "model", "base")), 400, "empty_file", "file", "empty"},
		{"text for audio", of(form([]byte("this is no sound at all"), "model", "base")), 400, "not_audio", "file", ""},
		{"noise for audio", of(form(bytes.Repeat([]byte{7, 130, 61, 0}, 5000), "model", "base")), 400, "not_audio", "file", ""},
		{"headers of a WAV only", of(form(tone[:44], "model", "base")), 400, "", "file", ""},
		{"half a header", of(form(tone[:20], "model", "base")), 400, "", "file", ""},
		{"a cut FLAC", of(form([]byte("fLaC\x00\x00\x00\x22"), "model", "base")), 400, "", "file", ""},
		{"too long", of(form(wav(11), "model", "base")), 413, "audio_too_long", "file", "10s"},
		{"too large", of(form(make([]byte, 3<<20), "model", "base")), 413, "upload_too_large", "file", "2097152"},

		{"no model", of(form(tone)), 400, "missing_required_parameter", "model", "whisper-1"},
		{"unknown model", of(form(tone, "model", "large-v9")), 404, "model_not_found", "model", `there is "base"`},
		{"unknown format", of(form(tone, "model", "base", "response_format", "docx")), 400, "", "response_format", "docx"},
		{"temperature too high", of(form(tone, "model", "base", "temperature", "1.5")), 400, "", "temperature", ""},
		{"temperature NaN", of(form(tone, "model", "base", "temperature", "NaN")), 400, "", "temperature", ""},
		{"temperature no number", of(form(tone, "model", "base", "temperature", "abc")), 400, "", "temperature", ""},
		{"unknown language", of(form(tone, "model", "base", "language", "klingon")), 400, "", "language", "klingon"},
		{"many fields", of(form(tone, many...)), 400, "too_many_fields", "", "200"},
		{"large fields", of(form(tone, "model", "base", "prompt", strings.Repeat("x", 1<<20))), 400, "fields_too_large", "", "1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := send(t, http.MethodPost, base+"/v1/audio/transcriptions", c.send.contentType, c.send.body)
			p := a.problem(t)
			if a.status != c.status || p.kind != "invalid_request_error" || p.param != c.param || c.code != "" && p.code != c.code {
				t.Errorf("%d %s", a.status, a.body)
			}
			if !strings.Contains(p.message, c.says) || !strings.HasSuffix(p.message, ".") {
				t.Errorf("message %q does not say %q", p.message, c.says)
			}
			if a.header.Get("X-Should-Retry") != "false" {
				t.Error("clients would try again in vain")
			}
		})
	}
}

// Each of these would make whisper.cpp crash, loop for ever or answer with another client's words. Where there
// is no model to tell speech from silence, silence about that would be taken for a yes.
func TestInferenceRefusesWhatHurtsWhisper(t *testing.T) {
	_, base := serve(t, backend.Config{BeamSizeMax: 3}, fast(t))
	for _, c := range [][2]string{
		{"temperature", "1.1"}, {"temperature", "nan"}, {"temperature", "-0.1"}, {"temperature_inc", "1e-9"},
		{"offset_t", "-5"}, {"duration", "-1"}, {"beam_size", "4"}, {"best_of", "4"}, {"beam_size", "-2"},
		{"audio_ctx", "1501"}, {"audio_ctx", "-1"}, {"language", "zz"}, {"max_context", "x"}, {"vad", "true"},
	} {
		contentType, body := form(wav(0.1), c[0], c[1])
		a := send(t, http.MethodPost, base+"/inference", contentType, body)
		if a.problem(t).param != c[0] || a.status != http.StatusBadRequest {
			t.Errorf("%s=%s: %d %s", c[0], c[1], a.status, a.body)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", 404, ""}, {"POST", "/", 405, "GET, HEAD"}, {"POST", "/v1/audio/speech", 404, ""}, {"GET", "/v1/models/../../etc", 404, ""},
		{"GET", "/load", 405, "POST"}, {"GET", "//health", 404, ""}, {"GET", "/health/", 404, ""},
		{"GET", "/v1/audio/transcriptions", 405, "POST"}, {"PUT", "/inference", 405, "POST"},
		{"POST", "/health", 405, "GET, HEAD"}, {"DELETE", "/v1/models/base", 405, "GET, HEAD"}, {"POST", "/metrics", 405, "GET, HEAD"},
	} {
		a := send(t, c.method, base+c.path, "", []byte("some body"))
		if a.status != c.status || a.problem(t).kind != "invalid_request_error" || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d %s, Allow %q", c.method, c.path, a.status, a.body, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{"/health", "/v1/models", "/load-report", "/metrics"} {
		if a := send(t, http.MethodHead, base+path, "", nil); a.status != http.StatusOK || a.body != "" {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
}

// A client that looks for the answer only after its upload is sent still finds it, at least for
// uploads up to the drained size.
func TestClientsThatSendFirstSeeTheRefusal(t *testing.T) {
	_, base := serve(t, backend.Config{UploadMax: 1 << 10}, fast(t))
	for _, chunked := range []bool{false, true} {
		conn := dial(t, base)
		contentType, body := form(make([]byte, 900<<10), "model", "base")
		if chunked {
			fmt.Fprintf(conn, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", contentType, len(body), body)
		} else {
			fmt.Fprintf(conn, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", contentType, len(body), body)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("chunked %v: %v", chunked, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("chunked %v: %s", chunked, resp.Status)
		}
	}
}

// A client that asks before it sends is refused without having sent anything, at once.
func TestExpectContinueIsRefusedBeforeTheUpload(t *testing.T) {
	_, base := serve(t, backend.Config{UploadMax: 1 << 10}, fast(t))
	conn := dial(t, base)
	started := time.Now()
	fmt.Fprint(conn, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || time.Since(started) > 5*time.Second {
		t.Errorf("%s after %v", resp.Status, time.Since(started))
	}
}

func dial(t *testing.T, base string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// A refusal whose body was read leaves the connection usable, and so does an answer.
func TestConnectionsServeOn(t *testing.T) {
	_, base := serve(t, backend.Config{}, fast(t))
	conn := dial(t, base)
	reader := bufio.NewReader(conn)
	for i, path := range []string{"/v1/audio/transcriptions", "/nowhere", "/v1/audio/transcriptions", "/health", "/inference"} {
		contentType, body := form(wav(0.1), "model", "base")
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", path, contentType, len(body), body)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		switch path {
		case "/nowhere":
			want = http.StatusNotFound
		case "/health":
			want = http.StatusMethodNotAllowed
		}
		if resp.StatusCode != want {
			t.Errorf("request %d: %s", i, resp.Status)
		}
	}
}

func TestUploadsThatStallEnd(t *testing.T) {
	s, base := serve(t, backend.Config{}, fast(t))
	s.SetUploadStall(50 * time.Millisecond)
	conn := dial(t, base)
	fmt.Fprint(conn, "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	a := answer{resp.StatusCode, resp.Header, string(body)}
	if a.status != http.StatusRequestTimeout || a.problem(t).code != "upload_stalled" {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// An upload of unknown length goes through a file; nothing is left of it, nor while it is there has
// it a name.
func TestUploadsInFilesLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	e := newBlocking(1)
	_, base := serve(t, backend.Config{TempDir: dir}, e)
	contentType, body := form(wav(0.5), "model", "base")
	done := make(chan answer, 1)
	go func() {
		done <- sendWith(context.Background(), t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, io.MultiReader(bytes.NewReader(body)))
	}()
	await(t, e.started, "the job")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("a file with a name: %v, %v", left, err)
	}
	e.release <- struct{}{}
	if a := await(t, done, "the answer"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	_, base = serve(t, backend.Config{TempDir: dir + "/missing"}, e)
	a := sendWith(t.Context(), t, http.MethodPost, base+"/v1/audio/transcriptions", contentType, io.MultiReader(bytes.NewReader(body)))
	if a.status != http.StatusServiceUnavailable || a.problem(t).code != "no_space" || a.header.Get("Retry-After") == "" {
		t.Errorf("no room: %d %s", a.status, a.body)
	}
}
