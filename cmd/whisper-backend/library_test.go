package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/backend/whispercpp"
)

// readable takes files for models whose text is "model", or "english" for one that knows English
// only, and counts how often it was asked.
func readable(asked *int) func(string) (whispercpp.Model, error) {
	return func(path string) (whispercpp.Model, error) {
		*asked++
		text, err := os.ReadFile(path) //nolint:gosec // the test's own
		m := whispercpp.Model{Vocab: 51865, AudioState: 512, TextLayers: 6}
		switch string(text) {
		case "model":
		case "english":
			m.Vocab--
		default:
			err = errors.Join(err, errors.New("no model"))
		}
		return m, err
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestModelFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	put(t, dir+"/ggml-small.bin", "model")
	put(t, dir+"/ggml-base.en.bin", "english")
	put(t, dir+"/ggml-turbo.bin", "model")
	put(t, dir+"/broken.bin", "x")
	put(t, dir+"/notes.txt", "model")
	put(t, dir+"/ggml-silero-v6.2.0.bin", "model")
	put(t, other+"/ggml-base.bin", "model")
	put(t, other+"/ggml-small.bin", "model") // the same id as one in the folder: that of --model counts

	var log bytes.Buffer
	asked := 0
	l := &modelFiles{
		fixed: []string{other + "/ggml-base.bin", other + "/ggml-small.bin"}, dir: dir,
		log: slog.New(slog.NewTextHandler(&log, nil)), seen: map[string]seenFile{}, header: readable(&asked),
	}
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	ids := func() string {
		var ids []string
		for _, m := range l.Models() {
			ids = append(ids, m.ID)
		}
		return strings.Join(ids, " ")
	}
	if got := ids(); got != "base small base.en turbo" {
		t.Errorf("models %s", got)
	}
	models := l.Models()
	if m := models[1]; m.Path != other+"/ggml-small.bin" || m.Bytes != 5 || !m.Multilingual || !m.Translates || m.SlotBytes < 50<<20 {
		t.Errorf("%+v", m)
	}
	if m := models[2]; m.Multilingual || m.Translates {
		t.Errorf("%+v", m)
	}
	if m := models[3]; !m.Multilingual || m.Translates {
		t.Errorf("%+v", m)
	}
	if n := strings.Count(log.String(), "no model"); n != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("the file that is none is logged %d times:\n%s", n, log.String())
	}
	before := asked
	ids()
	if asked != before {
		t.Error("files that are the same are read again")
	}
	put(t, dir+"/a-new-one.bin", "model")
	if got := ids(); got != "base small a-new-one base.en turbo" {
		t.Errorf("with a new one: %s", got)
	}
	if err := os.Remove(dir + "/ggml-turbo.bin"); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/broken.bin", "model")
	if got := ids(); got != "base small a-new-one broken base.en" {
		t.Errorf("changed: %s", got)
	}
}

func TestModelsOfAFolderKeepTheirDefault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd [name]*")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/ggml-medium.bin", "model")
	asked := 0
	l := &modelFiles{dir: dir, log: slog.New(slog.DiscardHandler), seen: map[string]seenFile{}, header: readable(&asked)}
	if err := l.check(); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/ggml-base.bin", "model")
	if got := l.Models(); len(got) != 2 || got[0].ID != "medium" || got[1].ID != "base" {
		t.Errorf("%+v", got)
	}
}

func TestModelFilesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/ggml-base.bin", "model")
	put(t, dir+"/base.bin", "model")
	empty := t.TempDir()
	asked := 0
	for _, c := range []struct {
		l    *modelFiles
		says string
	}{
		{&modelFiles{dir: dir + "/nowhere"}, "nowhere"},
		{&modelFiles{dir: dir + "/base.bin"}, "base.bin"},
		{&modelFiles{dir: empty}, empty},
		{&modelFiles{fixed: []string{dir + "/other.bin"}}, "other.bin"},
		{&modelFiles{fixed: []string{dir + "/base.bin", dir + "/ggml-base.bin"}}, "--model-id"},
	} {
		c.l.log, c.l.seen, c.l.header = slog.New(slog.DiscardHandler), map[string]seenFile{}, readable(&asked)
		if err := c.l.check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v %s: %v", c.l.fixed, c.l.dir, err)
		}
	}
	named := modelFiles{
		fixed: []string{dir + "/base.bin", dir + "/ggml-base.bin"}, fixID: "mine",
		log: slog.New(slog.DiscardHandler), seen: map[string]seenFile{}, header: readable(&asked),
	}
	if err := named.check(); err != nil || named.Models()[0].ID != "mine" || named.Models()[1].ID != "base" {
		t.Errorf("%v %+v", err, named.Models())
	}
}

func TestModelID(t *testing.T) {
	for path, want := range map[string]string{
		"/models/ggml-base.bin": "base", "ggml-base.en-q5_1.bin": "base.en-q5_1", "large-v3.bin": "large-v3",
	} {
		if got := modelID(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
