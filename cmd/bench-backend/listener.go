package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
)

// listener has clips transcribed by servers that nobody else uses, so that their processor time is that
// of the clip. It starts them when they are first wanted.
type listener struct {
	options options
	name    string
	ps      stage.Processes
	servers map[string]*server
}

// server is a whisper server that was started.
type server struct {
	*stage.Process
	url string // without a path
}

func (l *listener) stop() { l.ps.Stop() }

// server is the one for a model, whose own path for short clips is on or off.
func (l *listener) server(ctx context.Context, model string, short bool) (*server, error) {
	key := model
	args := []string{"--model", l.options.modelPath(model), "--gpu", "off", "--threads", "1", "--slots", "1"}
	switch {
	case short:
		key += "-short"
		args = append(args, "--short-clips", "on")
	case hasFlag(l.options.backend, "--short-clips"):
		args = append(args, "--short-clips", "off")
	}
	if s := l.servers[key]; s != nil {
		return s, nil
	}
	l.ps.Dir = filepath.Join(l.options.out, "logs", l.name)
	s, err := startServer(ctx, &l.ps, key, l.options.backend, "--listen", args...)
	if err != nil {
		return nil, err
	}
	if l.servers == nil {
		l.servers = map[string]*server{}
	}
	l.servers[key] = s
	return s, nil
}

// startServer starts a program that is told its address with a flag, or its port with "--port".
func startServer(ctx context.Context, ps *stage.Processes, name, program, addressFlag string, args ...string) (*server, error) {
	port, err := stage.FreePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if addressFlag == "--port" {
		args = append(args, "--host", "127.0.0.1", "--port", fmt.Sprint(port))
	} else {
		args = append(args, addressFlag, address)
	}
	ps.Env = []string{"OMP_WAIT_POLICY=" + ompWaitPolicy}
	p, err := ps.Start(name, program, args...)
	if err != nil {
		return nil, err
	}
	p.Within = 2 * time.Minute // models are large
	return &server{p, "http://" + address}, p.Ready(ctx, "http://"+address+"/health")
}

// ompWaitPolicy has threads that wait sleep: where others use the processors too, one that spins takes
// them from the one that is waited for. It is set for every server alike.
const ompWaitPolicy = "passive"

var helps sync.Map // of program paths

// hasFlag tells whether a program's help names a flag.
func hasFlag(program, name string) bool {
	help, found := helps.Load(program)
	if !found {
		text, _ := exec.Command(program, "--help").CombinedOutput() //nolint:noctx // it ends at once
		help, _ = helps.LoadOrStore(program, string(text))
	}
	return strings.Contains(help.(string), name)
}

// hear has one clip transcribed and fills in what became of it.
func (l *listener) hear(ctx context.Context, t *task) error {
	s, err := l.server(ctx, t.Model, t.Path == pathShort)
	if err != nil {
		return err
	}
	fields := [][2]string{
		{"language", "en"}, {"response_format", "verbose_json"}, {"no_language_probabilities", "true"},
		{"temperature", "0"}, {"temperature_inc", fmt.Sprint(t.Inc)},
	}
	if t.Search == "beam" {
		fields = append(fields, [2]string{"beam_size", "5"})
	}
	if t.Path != pathFull && t.Path != pathShort {
		fields = append(fields, [2]string{"audio_ctx", t.Path})
	}
	cpu, began := stage.FamilySeconds(s.Pid()), time.Now()
	body, err := post(ctx, s.url+"/inference", t.file, fields)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Clip, err)
	}
	t.Wall, t.CPU = time.Since(began).Seconds(), stage.FamilySeconds(s.Pid())-cpu
	return t.read(body)
}

// read takes what matters from an answer in verbose_json.
func (h *heard) read(body []byte) error {
	var answer struct {
		Segments []struct {
			Text    string
			Logprob float64 `json:"avg_logprob"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%s: the answer is no JSON: %w", h.Clip, err)
	}
	h.Segments = len(answer.Segments)
	var texts []string
	for _, s := range answer.Segments {
		texts = append(texts, strings.TrimSpace(s.Text))
		h.Logprob = min(h.Logprob, s.Logprob)
		h.Ratio = max(h.Ratio, compressionRatio(s.Text))
	}
	h.Text = strings.Join(texts, " ")
	said := plainWords(h.Said)
	h.Words = len(said)
	h.Errors, h.Deleted = wordErrors(plainWords(h.Text), said)
	h.CPU, h.Wall = round(h.CPU, 100), round(h.Wall, 1000)
	return nil
}

func round(x, steps float64) float64 { return math.Round(x*steps) / steps }

var client = &http.Client{Timeout: 30 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 4 * time.Second}}

// post sends a file with fields and returns the body of a 200 answer.
func post(ctx context.Context, url, path string, fields [][2]string) ([]byte, error) {
	audio, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return postAudio(ctx, url, audio, fields)
}

func postAudio(ctx context.Context, url string, audio []byte, fields [][2]string) ([]byte, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("file", "clip.wav")
	if err == nil {
		_, err = part.Write(audio)
	}
	for _, f := range fields {
		if err == nil {
			err = w.WriteField(f[0], f[1])
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &form)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", w.FormDataContentType())
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(body[:min(len(body), 300)]))
	}
	return body, err
}
