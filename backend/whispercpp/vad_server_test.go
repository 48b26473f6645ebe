//go:build whispercpp

package whispercpp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/backend"
)

// The tests here speak to a server that cuts silence out, with Silero's network and a real model in it.

// listening is such a server.
type listening struct {
	t    *testing.T
	base string
}

func listen(t *testing.T, model string, slots, detectors int) listening {
	t.Helper()
	cfg := backend.Config{Queue: 100, TempDir: t.TempDir(), VAD: true}
	for range detectors {
		cfg.Detectors = append(cfg.Detectors, openDetector(t))
	}
	s, err := backend.New(cfg, openReal(t, model, slots))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return listening{t, server.URL}
}

// wavFile is 16 kHz mono in 16 bits.
func wavFile(samples []float32) []byte {
	data := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data")
	data = binary.LittleEndian.AppendUint32(data, uint32(2*len(samples)))
	for _, s := range samples {
		data = binary.LittleEndian.AppendUint16(data, uint16(int16(s*(1<<15-1))))
	}
	binary.LittleEndian.PutUint32(data[4:], uint32(len(data)-8))
	return data
}

// ask posts a recording; fields are name, value, ...
func (l listening) ask(path string, samples []float32, fields ...string) string {
	l.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(fields); i += 2 {
		_ = form.WriteField(fields[i], fields[i+1])
	}
	name := "file"
	if strings.HasPrefix(path, "/asr") {
		name = "audio_file"
	}
	part, _ := form.CreateFormFile(name, "recording.wav")
	_, _ = part.Write(wavFile(samples))
	_ = form.Close()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.base+path, &body)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	return l.do(req)
}

func (l listening) do(req *http.Request) string {
	l.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		l.t.Errorf("%s: %d %s, %v", req.URL.Path, resp.StatusCode, text, err)
	}
	return string(text)
}

// metric reads a number from /metrics.
func (l listening) metric(name string) float64 {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.base+"/metrics", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(l.do(req))
	if found == nil {
		l.t.Fatalf("there is no %s", name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return value
}

// verbose is OpenAI's verbose_json.
type verbose struct {
	Duration float64
	Text     string
	Words    []struct {
		Word       string
		Start, End float64
	}
	Segments []struct {
		Text       string
		Start, End float64
	}
}

func (l listening) verbose(samples []float32, fields ...string) (v verbose) {
	l.t.Helper()
	text := l.ask("/v1/audio/transcriptions", samples, append([]string{
		"model", "whisper-1", "response_format", "verbose_json", "timestamp_granularities[]", "word",
	}, fields...)...)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		l.t.Errorf("%v: %s", err, text)
	}
	return v
}

// plain are a text's words without case and punctuation.
func plain(text string) []string {
	return strings.FieldsFunc(strings.ToLower(strings.ReplaceAll(text, "'", "")), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

func TestSilenceCostsNoWindowAndMovesNoWord(t *testing.T) {
	l := listen(t, "tiny.en", 1, 1)
	clip := speechSamples(t, 0, 11)
	const silence = 40
	whole := slices.Concat(clip, make([]float32, silence*SampleRate), clip)
	alone := l.verbose(clip, "vad_filter", "false")
	before := l.metric("whisper_backend_windows_total")
	both := l.verbose(whole)
	windows := l.metric("whisper_backend_windows_total") - before
	cut := l.metric("whisper_backend_silence_seconds_total")
	l.verbose(whole, "vad_filter", "false")
	without := l.metric("whisper_backend_windows_total") - before - windows
	t.Logf("%v s: %v windows where silence is cut out, %v where it is not; cut out: %v s", both.Duration, windows, without, cut)
	if windows != 1 || without < 3 || cut < silence || cut > silence+4 || both.Duration != 2*11+silence {
		t.Errorf("%v s: %v windows, %v without; %v s cut out", both.Duration, windows, without, cut)
	}
	if len(both.Words) != 2*len(alone.Words) {
		t.Fatalf("%q, alone %q", both.Text, alone.Text)
	}
	// How exactly whisper times a word goes by what is beside it; in which recording it is does not.
	off := 0.0
	for i, word := range both.Words {
		want, shift := alone.Words[i%len(alone.Words)], 0.0
		if i >= len(alone.Words) {
			shift = 11 + silence
		}
		if !slices.Equal(plain(word.Word), plain(want.Word)) || word.Start < shift || word.End > shift+11 || word.End < word.Start {
			t.Errorf("word %d is %+v, alone it is %+v, %v s before", i, word, want, shift)
		}
		off += math.Abs(word.Start - shift - want.Start)
	}
	off /= float64(len(both.Words))
	t.Logf("words begin %.2f s from where they do alone, on average", off)
	if off > 0.6 {
		t.Errorf("words begin %.2f s from where they do alone, on average", off)
	}
	for _, s := range both.Segments {
		if s.Start < 11 && s.End > 11+silence || s.Start > 11.2 && s.Start < 11+silence || s.End > 2*11+silence {
			t.Errorf("a segment from %v to %v s", s.Start, s.End)
		}
	}
}

func TestWhereNobodySpeaksNothingIsHeard(t *testing.T) {
	l := listen(t, "tiny.en", 1, 1)
	for name, samples := range map[string][]float32{"silence": make([]float32, 70*SampleRate), "noise": noise(20, 0.05)} {
		for path, fields := range map[string][]string{
			"/v1/audio/transcriptions": {"model", "whisper-1", "response_format", "text"}, "/inference": {"response_format", "text"}, "/asr": nil,
		} {
			if text := strings.TrimSpace(l.ask(path, samples, fields...)); text != "" {
				t.Errorf("%s to %s: %q", name, path, text)
			}
		}
	}
	if n := l.metric("whisper_backend_windows_total"); n != 0 {
		t.Errorf("%v windows", n)
	}
	if n := l.metric("whisper_backend_silence_seconds_total"); n != 3*70+3*20 {
		t.Errorf("%v s of silence", n)
	}
}

// recorded is a recording with known words.
type recorded struct {
	name    string
	samples []float32
	words   []string
}

// recordings are those of scripts/recordings.sh.
func recordings(t testing.TB) (all []recorded) {
	t.Helper()
	dir := os.Getenv("WHISPERPOOL_RECORDINGS")
	if dir == "" {
		t.Skip("WHISPERPOOL_RECORDINGS is not set; `make test` sets it")
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(manifest)) {
		columns := strings.Split(strings.TrimSpace(line), "\t")
		if len(columns) != 3 || strings.HasPrefix(line, "#") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, columns[0]))
		if err != nil {
			t.Fatal(err)
		}
		samples, _, err := audio.Decode(t.Context(), bytes.NewReader(data), int64(len(data)), audio.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, recorded{filepath.Base(columns[0]), samples, plain(columns[2])})
	}
	if len(all) < 10 {
		t.Fatalf("only %d recordings", len(all))
	}
	return all
}

// wordErrors is the least number of words to insert, delete and replace.
func wordErrors(got, want []string) int {
	row := make([]int, len(want)+1)
	for j := range row {
		row[j] = j
	}
	for i, word := range got {
		diagonal := row[0]
		row[0] = i + 1
		for j := range want {
			same := diagonal
			if word != want[j] {
				same++
			}
			diagonal = row[j+1]
			row[j+1] = min(same, row[j]+1, diagonal+1)
		}
	}
	return row[len(want)]
}

// No word is lost by cutting silence out, neither by our rules nor by whisper.cpp's.
func TestNoWordIsLostWithTheSilence(t *testing.T) {
	l := listen(t, "tiny.en", 1, 1)
	var samples []float32
	var words []string
	for _, clip := range recordings(t)[:6] { // sentences
		samples = slices.Concat(samples, make([]float32, 10*SampleRate), clip.samples)
		words = append(words, clip.words...)
	}
	api := []string{"model", "whisper-1", "response_format", "text", "vad_filter"}
	kept := wordErrors(plain(l.ask("/v1/audio/transcriptions", samples, append(api, "false")...)), words)
	windows := l.metric("whisper_backend_windows_total")
	for name, text := range map[string]string{
		"our rules":         l.ask("/v1/audio/transcriptions", samples, append(api, "true")...),
		"whisper.cpp's own": l.ask("/inference", samples, "response_format", "text", "best_of", "5"),
	} {
		cut := wordErrors(plain(text), words)
		t.Logf("%d words in %d s: %d errors with %s; with all of the silence %d", len(words), len(samples)/SampleRate, cut, name, kept)
		if cut > kept+len(words)/20 {
			t.Errorf("%d words, %d errors with %s, %d with all of the silence: %q", len(words), cut, name, kept, text)
		}
	}
	spent := l.metric("whisper_backend_windows_total") - windows
	t.Logf("%v windows with all of the silence, %v without it, twice", windows, spent)
	if spent/2 > windows*2/3 {
		t.Errorf("%v windows with all of the silence, %v without it, twice", windows, spent)
	}
}

func TestStreamsWithoutSilenceAreTheirOwn(t *testing.T) {
	l := listen(t, "tiny.en", 2, 2)
	var clips [][]float32
	for i, clip := range recordings(t)[1:4] {
		clips = append(clips, slices.Concat(make([]float32, (i+1)*SampleRate), clip.samples, make([]float32, 5*SampleRate)))
	}
	stream := func(clip []float32) string {
		return l.ask("/v1/audio/transcriptions", clip, "model", "whisper-1", "stream", "true")
	}
	alone := make([]string, len(clips))
	for i, clip := range clips {
		if alone[i] = stream(clip); !strings.Contains(alone[i], "transcript.text.delta") || !strings.Contains(alone[i], "transcript.text.done") {
			t.Errorf("%q", alone[i])
		}
	}
	done := regexp.MustCompile(`(?m)^data: .*transcript.text.done.*$`)
	var clients sync.WaitGroup
	for i := range clips {
		clients.Go(func() {
			if got := stream(clips[i]); done.FindString(got) != done.FindString(alone[i]) {
				t.Errorf("clip %d: %q, alone %q", i, got, alone[i])
			}
		})
	}
	clients.Wait()
}
