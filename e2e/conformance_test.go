package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
)

// whole tells whether a test is to run in its whole form, which takes minutes: what names it is set by
// `make conformance` and `make soak`.
func whole(variable string) bool { return os.Getenv(variable) == "whole" }

// TestConformance sends whisper-backend and whisper.cpp's own server, built from the same source, the same
// requests. Every difference must be one of differencesJustified, and all of those must occur.
func TestConformance(t *testing.T) {
	real(t)
	all := whole("WHISPERPOOL_CONFORMANCE")
	models := []string{"tiny.en"}
	if all {
		models = append(models, "base")
	}
	clips := conformanceClips(t)
	report := &conformanceReport{occurred: map[string][]difference{}}
	for _, name := range models {
		ours, _ := startBackend(t, name, "--vad-model", model(t, "silero-v6.2.0"), "--models-dir", filepath.Dir(model(t, name)))
		theirs := startWhisperServer(t, name)
		for _, c := range conformanceCases(name, all) {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				report.requests++
				if c.fresh {
					report.compare(t, c, clips, name, ours, startWhisperServer(t, name))
					return
				}
				report.compare(t, c, clips, name, ours, theirs)
			})
		}
	}
	report.finish(t, all)
}

// conformanceCase is a request that both servers are sent.
type conformanceCase struct {
	name         string
	model        string   // the only one that it is for; "" for all
	method, path string   // POST /inference unless given
	clip         string   // of conformanceClips; "" for no file
	fields       []string // MODELS is the folder of the models
	fresh        bool     // whisper-server's answer depends on what it served before: a process that has served nothing
	plain        bool     // exactly these fields, without the settings that make answers comparable
}

func (c conformanceCase) upload(clips map[string][]byte) upload {
	u := upload{file: clips[c.clip]}
	for _, f := range c.fields {
		u.fields = append(u.fields, strings.Replace(f, "MODELS", os.Getenv("WHISPERPOOL_TEST_MODEL_DIR"), 1))
	}
	if c.plain {
		return u
	}
	named := func(name string) bool {
		return slices.ContainsFunc(u.fields, func(f string) bool { return strings.HasPrefix(f, name+"=") })
	}
	if !named("temperature_inc") { // a second try draws random numbers
		u.fields = append(u.fields, "temperature_inc=0")
	}
	if !named("audio_ctx") { // a third of the time
		u.fields = append(u.fields, "audio_ctx=512")
	}
	return u
}

// send sends the case's request to a server.
func (c conformanceCase) send(t *testing.T, address string, clips map[string][]byte) (reply, error) {
	method, path := c.method, c.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/inference"
	}
	if c.clip == "" && len(c.fields) == 0 {
		return exchange(t.Context(), method, "http://"+address+path, "", nil)
	}
	contentType, body := c.upload(clips).form()
	return exchange(t.Context(), method, "http://"+address+path, contentType, body)
}

// difference is one value that the two servers answer differently.
type difference struct {
	test         string
	c            conformanceCase
	model        string
	field        string  // without numbers: segments[].end
	theirs, ours any     // nil: not there
	status       int     // of both, where it is the same
	seconds      float64 // of the recording
}

func (d difference) String() string {
	return fmt.Sprintf("%s: %s: whisper-server %s, whisper-backend %s", d.test, d.field, shown(d.theirs), shown(d.ours))
}

func shown(v any) string {
	if v == nil {
		return "has none"
	}
	text := fmt.Sprintf("%v", v)
	if s, ok := v.(string); ok {
		text = strconv.Quote(s)
	}
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return text
}

// conformanceReport collects the differences of all cases.
type conformanceReport struct {
	requests, values int
	occurred         map[string][]difference // by the why of the justification
}

// compare sends a case's request to both servers at once, and judges each difference of the answers.
func (r *conformanceReport) compare(t *testing.T, c conformanceCase, clips map[string][]byte, model, ours, theirs string) {
	var (
		wg      sync.WaitGroup
		replies [2]reply
		errs    [2]error
	)
	for i, address := range []string{theirs, ours} {
		wg.Go(func() { replies[i], errs[i] = c.send(t, address, clips) })
	}
	wg.Wait()
	for i, name := range []string{"whisper-server", "whisper-backend"} {
		if errs[i] != nil {
			t.Fatalf("%s: %v", name, errs[i])
		}
	}
	fields := [2]map[string][]any{fieldsOf(t, replies[0]), fieldsOf(t, replies[1])}
	names := slices.Sorted(maps.Keys(fields[0]))
	names = append(names, slices.Sorted(maps.Keys(fields[1]))...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		a, b := fields[0][name], fields[1][name]
		r.values += len(a)
		if replies[0].status != replies[1].status && name != "status" {
			continue // an answer and a refusal have nothing in common
		}
		d := difference{test: t.Name(), c: c, model: model, field: name, status: replies[0].status, seconds: secondsOf(clips[c.clip])}
		if len(a) != len(b) {
			d.field, d.theirs, d.ours = name+" (how many)", len(a), len(b)
			r.judge(t, d)
			continue
		}
		for i := range a {
			if d.theirs, d.ours = a[i], b[i]; !same(a[i], b[i]) {
				r.judge(t, d)
			}
		}
	}
}

// secondsOf is how long a WAV file of ours lasts; 0 where it is none.
func secondsOf(file []byte) float64 {
	info, err := audio.Probe(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return 0
	}
	return info.Seconds
}

// same compares two values; numbers may differ in what is lost by writing them.
func same(a, b any) bool {
	x, isNumber := a.(float64)
	y, both := b.(float64)
	if isNumber && both {
		return math.Abs(x-y) <= 1e-5*max(1, math.Abs(x))
	}
	return a == b
}

// judge looks for the justification of a difference.
func (r *conformanceReport) judge(t *testing.T, d difference) {
	t.Helper()
	for _, j := range differencesJustified {
		if j.field.MatchString(d.field) && j.cases.MatchString(d.model+"/"+d.c.name) && (j.holds == nil || j.holds(d)) {
			r.occurred[j.why] = append(r.occurred[j.why], d)
			return
		}
	}
	t.Errorf("not in the table of justified differences: %v", d)
}

// finish prints the table and wants all of it to have occurred.
func (r *conformanceReport) finish(t *testing.T, all bool) {
	t.Helper()
	var table strings.Builder
	for _, j := range differencesJustified {
		found := r.occurred[j.why]
		if len(found) == 0 {
			if (all || !j.whole) && !t.Failed() {
				t.Errorf("this difference no longer occurs, take it out of the table: %v in %v: %s", j.field, j.cases, j.why)
			}
			continue
		}
		fmt.Fprintf(&table, "%4d x %s\n       such as %v\n", len(found), j.why, found[0])
	}
	t.Logf("%d requests, %d values compared; the differences, all justified:\n%s", r.requests, r.values, table.String())
}

// justified is a difference that is meant to be there.
type justified struct {
	field *regexp.Regexp        // whole field names
	cases *regexp.Regexp        // MODEL/NAME of the cases in which it may be
	holds func(difference) bool // what the difference is, where that can be said
	whole bool                  // occurs in the whole form only
	why   string
}

func justify(field, cases, why string, holds func(difference) bool) justified {
	return justified{field: regexp.MustCompile("^(?:" + field + ")$"), cases: regexp.MustCompile("^(?:" + cases + ")$"), why: why, holds: holds}
}

// inWhole marks differences that only the whole form shows.
func (j justified) inWhole() justified {
	j.whole = true
	return j
}

// headersCompared are those that say something to a client of whisper-server's.
var headersCompared = []string{"Content-Type", "Access-Control-Allow-Origin", "Access-Control-Allow-Headers"}

// fieldsOf takes an answer apart: names without numbers, and the values in order.
func fieldsOf(t *testing.T, r reply) map[string][]any {
	fields := map[string][]any{"status": {float64(r.status)}}
	for _, name := range headersCompared {
		if value := r.header.Get(name); value != "" {
			fields["header "+name] = []any{value}
		}
	}
	contentType, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	switch contentType {
	case "application/json":
		var value any
		if err := json.Unmarshal([]byte(r.body), &value); err != nil {
			t.Errorf("no JSON: %v: %s", err, r.body)
		}
		flatten("", value, fields)
	case "application/x-subrip", "text/vtt":
		cues(r.body, fields)
	default:
		for line := range strings.Lines(r.body) {
			fields["line"] = append(fields["line"], line)
		}
	}
	return fields
}

// flatten puts the leaves of a JSON value under their names.
func flatten(name string, value any, into map[string][]any) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			under := key
			if name != "" {
				under = name + "." + key
			}
			flatten(under, v[key], into)
		}
	case []any:
		for _, element := range v {
			flatten(name+"[]", element, into)
		}
	default:
		into[name] = append(into[name], v)
	}
}

var cueTimes = regexp.MustCompile(`^(\d+):(\d\d):(\d\d)[.,](\d{3}) --> (\d+):(\d\d):(\d\d)[.,](\d{3})$`)

// cues takes subtitles apart: times become seconds, all else is lines.
func cues(body string, into map[string][]any) {
	for line := range strings.Lines(body) {
		parts := cueTimes.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if parts == nil {
			into["line"] = append(into["line"], line)
			continue
		}
		for i, name := range []string{"cue start", "cue end"} {
			seconds := 0.0
			for k, unit := range []float64{3600, 60, 1, 0.001} {
				n, _ := strconv.Atoi(parts[1+4*i+k]) // digits
				seconds += float64(n) * unit
			}
			into[name] = append(into[name], seconds)
		}
	}
}

// conformanceClips are the files that the cases send.
func conformanceClips(t *testing.T) map[string][]byte {
	t.Helper()
	speech := map[string][]int16{}
	var long []int16
	for _, r := range recordings(t) {
		base := filepath.Base(r.path)
		speech[base] = samplesOf(t, r.path)
		long = append(long, speech[base]...)
	}
	jfk, short := speech["jfk.wav"], speech["sense_and_sensibility_01_austen_64kb-0880.wav"]
	other := speech["sense_and_sensibility_01_austen_64kb-0930.wav"]
	silence := make([]int16, 2*clipRate)
	turns := twoChannels(append(slices.Clone(short), make([]int16, len(other))...), append(make([]int16, len(short)), other...))
	clip := wavFile(clipRate, 1, short)
	return map[string][]byte{
		"jfk": wavFile(clipRate, 1, jfk), "short": clip, "two windows": wavFile(clipRate, 1, long),
		"two speakers": wavFile(clipRate, 2, turns), "both channels": wavFile(clipRate, 2, twoChannels(short, short)),
		"8 kHz":   wavFile(8000, 1, resampled(short, 8000)),
		"44.1":    wavFile(44100, 2, twoChannels(resampled(short, 44100), resampled(short, 44100))),
		"floats":  wavOf(clipRate, 1, 32, 3, floats(short)),
		"spaced":  wavFile(clipRate, 1, slices.Concat(short, make([]int16, 12*clipRate), other)),
		"silence": wavFile(clipRate, 1, silence), "50 ms": wavFile(clipRate, 1, short[:clipRate/20]),
		"cut": clip[:len(clip)/2], "no data": wavFile(clipRate, 1, nil), "header": clip[:20], "samples": clip[44:],
		"empty": {}, "garbage": []byte(strings.Repeat("this is no audio\n", 50)),
	}
}
