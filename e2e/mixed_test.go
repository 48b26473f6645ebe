package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// combination is a recording and what is asked of it.
type combination struct {
	name, model, path, clip string
	fields                  []string
	short                   bool // in the short form, too
}

const (
	openAITranslations = "/v1/audio/translations"
	inferencePath      = "/inference"
)

// combinations are as different from each other as can be: APIs, formats, searches, prompts, languages, words,
// parts of a recording, chance.
var combinations = []combination{
	{name: "greedy", model: "tiny.en", path: inferencePath, clip: "card", fields: []string{"temperature_inc=0"}},
	{name: "three beams", model: "tiny.en", path: inferencePath, clip: "short", fields: []string{"beam_size=3", "response_format=verbose_json"}, short: true},
	{name: "two beams and a prompt", model: "tiny.en", path: inferencePath, clip: "card", fields: []string{"beam_size=2", "prompt=Cards.", "response_format=verbose_json"}},
	{name: "short lines", model: "tiny.en", path: inferencePath, clip: "short", fields: []string{"response_format=srt", "max_len=12", "split_on_word=true"}},
	{name: "a part", model: "tiny.en", path: inferencePath, clip: "jfk", fields: []string{"response_format=vtt", "offset_t=5000", "duration=4000"}},
	{name: "a shrunk context", model: "tiny.en", path: inferencePath, clip: "card", fields: []string{"audio_ctx=256", "temperature_inc=0", "response_format=verbose_json"}, short: true},
	{name: "another shrunk context", model: "tiny.en", path: inferencePath, clip: "short", fields: []string{"audio_ctx=512", "temperature_inc=0"}, short: true},
	{name: "chance", model: "tiny.en", path: inferencePath, clip: "short", fields: []string{"temperature=0.6", "best_of=3", "audio_ctx=512", "response_format=verbose_json"}, short: true},
	{name: "second tries", model: "tiny.en", path: inferencePath, clip: "card", fields: []string{"logprob_thold=-0.01", "temperature_inc=0.5", "audio_ctx=512"}},
	{name: "no times", model: "tiny.en", path: inferencePath, clip: "card", fields: []string{"no_timestamps=true", "suppress_nst=true", "response_format=verbose_json"}},
	{name: "two speakers", model: "tiny.en", path: inferencePath, clip: "two speakers", fields: []string{"diarize=true", "response_format=srt"}},
	{name: "nothing but silence", model: "tiny.en", path: inferencePath, clip: "silence", fields: []string{"audio_ctx=256", "temperature_inc=0"}, short: true},
	{name: "text", model: "tiny.en", path: transcriptions, clip: "short", fields: []string{"response_format=text", "prompt=He was ill-disposed."}},
	{name: "words", model: "tiny.en", path: transcriptions, clip: "card", fields: []string{"response_format=verbose_json", "timestamp_granularities[]=word"}, short: true},
	{name: "subtitles", model: "tiny.en", path: transcriptions, clip: "short", fields: []string{"response_format=vtt"}},
	{name: "piece by piece", model: "tiny.en", path: transcriptions, clip: "two windows", fields: []string{"stream=true"}},
	{name: "piece by piece as text", model: "tiny.en", path: transcriptions, clip: "short", fields: []string{"stream=true", "response_format=text"}, short: true},
	{name: "as Bazarr asks", model: "tiny.en", path: "/asr?output=srt", clip: "card"},
	{name: "any language", model: "base", path: transcriptions, clip: "short", fields: []string{"response_format=verbose_json", "timestamp_granularities[]=word"}},
	{name: "German", model: "base", path: transcriptions, clip: "card", fields: []string{"language=de"}},
	{name: "translated", model: "base", path: openAITranslations, clip: "short"},
	{name: "languages", model: "base", path: inferencePath, clip: "card", fields: []string{"response_format=verbose_json", "language=auto", "audio_ctx=256"}, short: true},
	{name: "the language alone", model: "base", path: inferencePath, clip: "short", fields: []string{"response_format=verbose_json", "detect_language=true"}},
	{name: "five beams", model: "base", path: inferencePath, clip: "card", fields: []string{"beam_size=5", "temperature_inc=0"}},
	{name: "base, piece by piece", model: "base", path: transcriptions, clip: "short", fields: []string{"stream=true", "language=en", "prompt=Jane Austen"}},
}

// ask sends the combination's request, and gives back all of the answer that must always be the same.
func (c combination) ask(t *testing.T, address string, clips map[string][]byte) (string, error) {
	u := upload{file: clips[c.clip], fields: append([]string{"model=" + c.model}, c.fields...)}
	if strings.HasPrefix(c.path, "/asr") {
		u.part = "audio_file"
	}
	r, err := post(t.Context(), "http://"+address+c.path, u)
	if err != nil {
		return "", err
	}
	if r.status != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", r.status, r.body)
	}
	contentType := r.header.Get("Content-Type")
	if !strings.HasPrefix(contentType, "text/event-stream") {
		return contentType + "\n" + r.body, nil
	}
	var events []string // without the comments, which come when nothing else does
	for line := range strings.Lines(r.body) {
		if strings.HasPrefix(line, "data:") {
			events = append(events, line)
		}
	}
	return contentType + "\n" + strings.Join(events, ""), nil
}

// TestMixedRequestsAnswerAsAlone: what each of many clients gets of one process, which serves all of them side by
// side, is to the byte what it gets alone of a process that has served nothing else.
func TestMixedRequestsAnswerAsAlone(t *testing.T) {
	real(t)
	all := whole("WHISPERPOOL_SOAK")
	clips := conformanceClips(t)
	clips["card"] = wavFile(clipRate, 1, samplesOf(t, recordingNamed(t, "001.wav")))
	requests, shortClips, chosen := 500, "off", combinations
	if !all { // half the time: clips go to states with half the context
		requests, shortClips, chosen = 32, "on", nil
		for _, c := range combinations {
			if c.short {
				chosen = append(chosen, c)
			}
		}
	}
	flags := []string{"--threads", "1", "--beam-size-max", "5", "--queue", "32", "--short-clips", shortClips}

	alone := make([]string, len(chosen))
	for i, c := range chosen {
		t.Run("alone/"+c.name, func(t *testing.T) {
			address, _ := startBackend(t, c.model, append(flags, "--slots", "1")...)
			var err error
			if alone[i], err = c.ask(t, address, clips); err != nil {
				t.Fatal(err)
			}
		})
	}
	if t.Failed() {
		return
	}
	address, _ := startBackend(t, "tiny.en", append(flags, "--slots", "3", "--model", model(t, "base"))...)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d requests in the order of seed %d", requests, seed)
	askAll(t, requests, seed, len(chosen), func(which int) {
		c := chosen[which]
		if got, err := c.ask(t, address, clips); err != nil || got != alone[which] {
			t.Errorf("%s: %v: %q, alone on a fresh process %q", c.name, err, got, alone[which])
		}
	})
}

// askAll has 16 clients make so many requests, each kind as often as the others, in an order by chance.
func askAll(t *testing.T, requests int, seed uint64, kinds int, ask func(which int)) {
	t.Helper()
	const clients = 16
	order := make(chan int, requests)
	for _, k := range rand.New(rand.NewPCG(seed, 0)).Perm(requests) {
		order <- k % kinds
	}
	close(order)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for which := range order {
				if t.Failed() {
					return
				}
				ask(which)
			}
		})
	}
	wg.Wait()
}
