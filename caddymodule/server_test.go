package caddymodule

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/whisperpool/whisperpool/e2e/leaks"
)

// patience bounds every wait of the tests. On a machine that is twenty times as busy as it should be nothing
// comes near it.
const patience = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(runAsCaddy) != "" {
		caddycmd.Main()
		return
	}
	dir, err := os.MkdirTemp("", "caddymodule-test-*")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} { // where Caddy keeps its files
		if err := os.Setenv(name, dir); err != nil {
			panic(err)
		}
	}
	code := leaks.Run(m, nil,
		leaks.Known{Function: "github.com/DeRuina/timberjack.(*Logger).millRun"}, // Caddy's log writer: it does not end with its file,
		leaks.Known{Descriptor: "/caddy.log"},                                    // which Caddy leaves open when it stops
	)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

// freeAddress is an address of this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// wav is silence with the header of a WAV file.
func wav(seconds float64) []byte {
	samples := make([]byte, int(seconds*16000)*2)
	var b bytes.Buffer
	b.WriteString("RIFF")
	for _, v := range []any{
		uint32(36 + len(samples)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(16000), uint32(32000),
		uint16(2), uint16(16), []byte("data"), uint32(len(samples)), samples,
	} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	return b.Bytes()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// whisper is a server that backends of the pool are: it answers as our own does unless told
// otherwise, and remembers what it was sent.
type whisper struct {
	*httptest.Server
	models []string
	slots  int
	// kind is what it is found out to be.
	kind string
	// answer, when set, answers transcriptions instead.
	answer func(w http.ResponseWriter, r *http.Request, got sent)

	mu      sync.Mutex
	got     []sent
	running atomic.Int32
	peak    atomic.Int32
	probes  atomic.Int32
}

// sent is a transcription request as the server got it.
type sent struct {
	path     string
	host     string
	header   http.Header
	form     map[string][]string
	fileHash string
	fileSize int
}

func newWhisper(t *testing.T, change ...func(*whisper)) *whisper {
	t.Helper()
	s := &whisper{models: []string{"base"}, slots: 1, kind: "whisperpool"}
	for _, c := range change {
		c(s)
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *whisper) address() string { return strings.TrimPrefix(s.URL, "http://") }

func (s *whisper) requests() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sent(nil), s.got...)
}

// ServeHTTP answers probes by kind, and transcriptions.
func (s *whisper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		s.transcribe(w, r)
		return
	}
	s.probes.Add(1)
	var models []map[string]any
	for _, m := range s.models {
		models = append(models, map[string]any{
			"id": m, "object": "model", "multilingual": !strings.HasSuffix(m, ".en"), "translate": !strings.HasSuffix(m, ".en"), "words": true,
		})
	}
	switch {
	case s.kind == "whisperpool" && r.URL.Path == "/load-report":
		reply(w, map[string]any{"server": "whisperpool", "instance": s.URL, "ready": true, "slots": s.slots, "models": models})
	case s.kind == "openai" && r.URL.Path == "/v1/models":
		reply(w, map[string]any{"object": "list", "data": models})
	case s.kind == "whisper_server" && r.URL.Path == "/health":
		w.Header().Set("Server", "whisper.cpp")
		reply(w, map[string]any{"status": "ok"})
	case s.kind == "whisper_server" && r.URL.Path == "/":
		w.Header().Set("Server", "whisper.cpp")
		_, _ = io.WriteString(w, "<h1>Whisper.cpp Server</h1>")
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *whisper) transcribe(w http.ResponseWriter, r *http.Request) {
	now := s.running.Add(1)
	defer s.running.Add(-1)
	for peak := s.peak.Load(); now > peak && !s.peak.CompareAndSwap(peak, now); peak = s.peak.Load() {
	}
	got := sent{path: r.URL.Path, host: r.Host, header: r.Header.Clone()}
	if err := r.ParseMultipartForm(64 << 20); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	got.form = r.MultipartForm.Value
	if files := r.MultipartForm.File["file"]; len(files) == 1 {
		f, err := files[0].Open()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		data, _ := io.ReadAll(f)
		got.fileHash, got.fileSize = digest(data), len(data)
	}
	s.mu.Lock()
	s.got = append(s.got, got)
	s.mu.Unlock()
	if s.answer != nil {
		s.answer(w, r, got)
		return
	}
	speak(w, r, got)
}

// speak is the answer in the format that was asked for.
func speak(w http.ResponseWriter, _ *http.Request, got sent) {
	format := ""
	if v := got.form["response_format"]; len(v) > 0 {
		format = v[0]
	}
	switch format {
	case "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ask not what\n")
	case "verbose_json":
		reply(w, map[string]any{
			"task": "transcribe", "language": "english", "duration": 1.0, "text": " ask not what",
			"segments": []map[string]any{{"id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": " ask not what", "tokens": []int{1}}},
		})
	default:
		reply(w, map[string]any{"text": "ask not what"})
	}
}

// held is an answer that comes when it is let go.
func held(gate <-chan struct{}) func(http.ResponseWriter, *http.Request, sent) {
	return func(w http.ResponseWriter, r *http.Request, got sent) {
		select {
		case <-gate:
			speak(w, r, got)
		case <-r.Context().Done():
		}
	}
}

// taking is an answer that takes a while, as a GPU would.
func taking(d time.Duration) func(http.ResponseWriter, *http.Request, sent) {
	return func(w http.ResponseWriter, r *http.Request, got sent) {
		done := make(chan struct{})
		timer := time.AfterFunc(d, func() { close(done) })
		defer timer.Stop()
		held(done)(w, r, got)
	}
}

// proxy is Caddy with our handler.
type proxy struct {
	t    *testing.T
	url  string
	logs string
	more string // global options
	// admin is the address of Caddy's admin endpoint; "": off.
	admin string
}

// options of every test's Caddy: no admin endpoint, nothing written outside of the test's folders.
func globalOptions(logs string) string {
	output, storage := "discard", ""
	if logs != "" {
		output = "file " + logs
		storage = "\tstorage file_system " + filepath.Join(filepath.Dir(logs), "storage") + "\n" // addresses may come up again in another test
	}
	return fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n%s\tlog {\n\t\toutput %s\n\t\tlevel DEBUG\n\t}\n\tgrace_period 5s\n}\n", storage, output)
}

// newProxy starts Caddy with one site that has the pool.
func newProxy(t *testing.T, pool string) *proxy {
	t.Helper()
	return newProxyWith(t, true, pool)
}

// newProxyWith is newProxy, with the listener wrapper or without.
func newProxyWith(t *testing.T, wrapped bool, pool string) *proxy {
	t.Helper()
	p := &proxy{t: t, url: "http://" + freeAddress(t), logs: filepath.Join(t.TempDir(), "caddy.log")}
	if wrapped {
		p.more = ownListener
	}
	stopAfter(t)
	p.mustLoad(site(p.url, pool))
	return p
}

func stopAfter(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func site(url, pool string) string {
	return fmt.Sprintf("%s {\n\twhisper_pool {\n%s\n\t}\n\trespond /elsewhere \"next\" 203\n}\n", url, pool)
}

func (p *proxy) mustLoad(sites string) {
	p.t.Helper()
	if err := p.load(sites); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) load(sites string) error {
	defer client.CloseIdleConnections() // Caddy closes them too, some of them while they are used next
	options := strings.TrimSuffix(globalOptions(p.logs), "}\n") + p.more + "}\n"
	if p.admin != "" {
		options = strings.Replace(options, "admin off", "admin "+p.admin, 1)
	}
	return loadText(options + sites)
}

func loadText(caddyfile string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// reply of the proxy.
type response struct {
	status int
	header http.Header
	body   string
}

// problem is the error in OpenAI's shape.
func (r response) problem(t *testing.T) (message, code string) {
	t.Helper()
	var body struct {
		Error *struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || body.Error == nil || body.Error.Message == "" || body.Error.Type == "" {
		t.Fatalf("status %d is no error in OpenAI's shape: %s", r.status, r.body)
	}
	if body.Error.Code != nil {
		code = *body.Error.Code
	}
	return body.Error.Message, code
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: patience}

func (p *proxy) get(path string) response {
	p.t.Helper()
	return p.persist(func() (response, error) { return send(p.t.Context(), http.MethodGet, p.url+path, nil, nil) })
}

// post sends a form; fields are "name=value", the file may be nil.
func (p *proxy) post(path string, file []byte, fields ...string) response {
	p.t.Helper()
	return p.persist(func() (response, error) { return p.postWith(p.t.Context(), path, nil, file, fields...) })
}

// persist sends again what was reset: for a moment after a reload, a new connection may still get to
// the listener of the configuration before, which Caddy is about to close.
func (p *proxy) persist(try func() (response, error)) response {
	p.t.Helper()
	r, err := persistent(try)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func persistent(try func() (response, error)) (response, error) {
	for tries := 1; ; tries++ {
		r, err := try()
		broken := func(cause error) bool { return errors.Is(err, cause) }
		if tries == 5 || !slices.ContainsFunc([]error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, net.ErrClosed}, broken) {
			return r, err
		}
	}
}

func (p *proxy) postWith(ctx context.Context, path string, header http.Header, file []byte, fields ...string) (response, error) {
	body, contentType := form(file, fields...)
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", contentType)
	return send(ctx, http.MethodPost, p.url+path, h, body)
}

func form(file []byte, fields ...string) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if file != nil {
		part, _ := w.CreateFormFile("file", "secret-name.wav")
		_, _ = part.Write(file)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		_ = w.WriteField(name, value)
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

func send(ctx context.Context, method, url string, header http.Header, body []byte) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, string(text)}, err
}

const transcriptions = "/v1/audio/transcriptions"

// pool finds the pool of the process, without keeping it.
func (p *proxy) pool() *Pool {
	pool := loadPool(defaultPoolName)
	pool.release()
	return pool
}

// ready waits until so many backends are usable.
func (p *proxy) ready(usable int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d backends are usable", usable), func() bool {
		return countUsable(p.pool().dispatcher.Snapshot()) == usable
	})
}

func (p *proxy) log() string {
	text, err := os.ReadFile(p.logs)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
