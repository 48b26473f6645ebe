package calibrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/whisperpool/whisperpool/backend"
)

// server is what is measured.
type server struct {
	o      Options
	base   string
	api    string
	client *http.Client

	// What it says of itself, as far as it does.
	model, class, device string
	slots                int
	emulator             bool
}

// The APIs that it may speak.
const (
	apiOpenAI    = "openai"
	apiInference = "inference"
)

// newServer finds out what a server is.
func newServer(ctx context.Context, o Options) (*server, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no address: write http://host:port or https://host", o.URL)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // what is named is what is measured
	transport.MaxIdleConnsPerHost = 64
	s := &server{
		o: o, api: o.API, model: o.Model, client: &http.Client{Transport: transport},
		base: strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/v1"),
	}
	if err := s.look(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *server) close() { s.client.CloseIdleConnections() }

// look asks what the server tells of itself. Only one that is not there, or wants a key, is an error.
func (s *server) look(ctx context.Context) error {
	var report backend.Report
	status, err := s.get(ctx, "/load-report", &report)
	if err != nil {
		return fmt.Errorf("there is no server at %s: %w", s.base, err)
	}
	if status == http.StatusUnauthorized {
		return errors.New("the server wants an API key: give --key-file")
	}
	if status == http.StatusOK && report.Server == "whisperpool" {
		s.class, s.device, s.slots, s.emulator = report.GPUClass, report.Device, report.Slots, report.Emulator
		for _, m := range report.Models {
			if m.Default && s.model == "" {
				s.model = m.ID
			}
		}
	}
	var models struct{ Data []struct{ ID string } }
	status, err = s.get(ctx, "/v1/models", &models)
	if status == http.StatusUnauthorized {
		return errors.New("the server wants an API key: give --key-file")
	}
	listed := err == nil && status == http.StatusOK && len(models.Data) > 0
	if listed && s.model == "" {
		s.model = models.Data[0].ID
	}
	if s.api == "auto" {
		s.api = apiInference
		if listed || report.Server != "" {
			s.api = apiOpenAI
		}
	}
	if s.model == "" && report.Server == "" { // else it is loading
		return errors.New("the server does not tell its model: give --model, such as --model large-v3")
	}
	return nil
}

// get reads JSON, where the answer is some.
func (s *server) get(ctx context.Context, path string, v any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // whisper-server answers nothing while it works
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, err
	}
	s.authorize(req)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(body, v) != nil {
		return http.StatusNotFound, nil // such a page is not what was asked for
	}
	return resp.StatusCode, err
}

func (s *server) authorize(r *http.Request) {
	if s.o.Key != "" {
		r.Header.Set("Authorization", "Bearer "+s.o.Key)
	}
}

// answer is a transcript, as far as it matters here.
type answer struct {
	took   time.Duration // on the device, where the server tells; else the whole request
	end    time.Time
	tokens float64 // 0: not told
	words  bool    // there are some

	slots int // of the server; 0: not told
}

// learn takes over what an answer tells of the server, and what it did not tell while it was loading.
func (s *server) learn(ctx context.Context, a answer) error {
	if s.slots == 0 {
		s.slots = a.slots
	}
	if s.model == "" {
		return s.look(ctx)
	}
	return nil
}

// busyError is a refusal for now.
type busyError struct {
	text    string
	loading bool
	after   time.Duration
}

func (e *busyError) Error() string { return e.text }

// form is the request for a clip.
func (s *server) form(clip []byte) (contentType string, body *bytes.Buffer) {
	language := s.o.Language
	if language == "" {
		language = "en"
	}
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	model := s.model
	if model == "" {
		model = "whisper-1" // means the default
	}
	fields := [][2]string{{"model", model}, {"language", language}, {"temperature", "0"}, {"response_format", "verbose_json"}}
	if s.api == apiInference {
		// Without these it would encode once more, and decode what it doubts up to six times.
		fields = append(fields, [2]string{"no_language_probabilities", "true"}, [2]string{"temperature_inc", "0"})
	}
	for _, f := range fields {
		_ = w.WriteField(f[0], f[1]) // into memory
	}
	part, _ := w.CreateFormFile("file", "clip.wav")
	_, _ = part.Write(clip)
	_ = w.Close()
	return w.FormDataContentType(), body
}

// transcribe sends a clip and waits for the answer.
func (s *server) transcribe(ctx context.Context, clip []byte) (answer, error) {
	within, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	contentType, form := s.form(clip)
	path := "/v1/audio/transcriptions"
	if s.api == apiInference {
		path = "/inference"
	}
	req, err := http.NewRequestWithContext(within, http.MethodPost, s.base+path, form)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	s.authorize(req)
	began := time.Now()
	resp, err := s.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20)); err == nil {
			return s.understand(resp, body, began)
		}
	}
	if ctx.Err() == nil && within.Err() != nil {
		return answer{}, fmt.Errorf("no answer within %v: is the server busy with others, or too slow for clips of that length? See --timeout", s.o.Timeout)
	}
	return answer{}, err
}

// understand reads an answer.
func (s *server) understand(resp *http.Response, body []byte, began time.Time) (answer, error) {
	a := answer{end: time.Now()}
	if resp.Header.Get("X-Whisperpool-Backend") != "" {
		return a, errors.New("this is a proxy with several backends: calibrate each of them at its own address")
	}
	if resp.StatusCode != http.StatusOK {
		const longest = 200
		text := strings.ToValidUTF8(string(body[:min(len(body), longest)]), "?")
		err := fmt.Errorf("the server answered %d: %s", resp.StatusCode, strings.TrimSpace(text))
		if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
			after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return a, &busyError{err.Error(), strings.Contains(text, "loading"), time.Duration(max(after, 1)) * time.Second}
		}
		return a, err
	}
	var t struct {
		Text     string
		Segments []struct{ Tokens []int }
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return a, fmt.Errorf("the server's answer is no verbose_json: %w", err)
	}
	a.words = strings.TrimSpace(t.Text) != ""
	for _, segment := range t.Segments {
		a.tokens += float64(len(segment.Tokens))
	}
	a.took = a.end.Sub(began)
	if on := inference(resp.Header.Get("Server-Timing")); on > 0 {
		a.took = on
	}
	for part := range strings.SplitSeq(resp.Header.Get(backend.LoadHeader), ",") {
		if n, found := strings.CutPrefix(strings.TrimSpace(part), "slots="); found {
			a.slots, _ = strconv.Atoi(n)
		}
	}
	return a, nil
}

// inference is how long our own backend says that the device took; 0: it does not.
func inference(timing string) time.Duration {
	for part := range strings.SplitSeq(timing, ",") {
		if text, found := strings.CutPrefix(strings.TrimSpace(part), "inference;dur="); found {
			ms, err := strconv.ParseFloat(text, 64)
			if err == nil && ms > 0 && ms < 1e9 {
				return time.Duration(ms * float64(time.Millisecond))
			}
		}
	}
	return 0
}
