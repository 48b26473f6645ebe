//go:build whispercpp

package whispercpp

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// quantised is a real model with its weights in another form, made by whisper.cpp's own tool.
func quantised(t testing.TB, name, form string) string {
	t.Helper()
	model := realModel(t, name)
	if form == "f16" {
		return model
	}
	prefix := os.Getenv("LIBWHISPER_PREFIX")
	if prefix == "" {
		t.Skip("LIBWHISPER_PREFIX is not set; `make test` sets it")
	}
	path := filepath.Join(t.TempDir(), "ggml-"+name+"-"+form+".bin")
	if out, err := exec.CommandContext(t.Context(), filepath.Join(prefix, "bin", "whisper-quantize"), model, path, form).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// What whisper-quantize makes is taken for the model that it is, served under its own name, and hears what
// is said.
func TestQuantisedModels(t *testing.T) {
	whole := fileSize(realModel(t, "tiny.en"))
	for form, share := range map[string][2]float64{"q5_0": {0.30, 0.45}, "q8_0": {0.50, 0.62}} {
		t.Run(form, func(t *testing.T) {
			path := quantised(t, "tiny.en", form)
			header, err := CheckModel(path)
			if err != nil {
				t.Fatal(err)
			}
			if header.Multilingual() || header.family() != "tiny.en" {
				t.Errorf("a %s model, multilingual: %v", header.family(), header.Multilingual())
			}
			e := open(t, Config{ModelPath: path, Slots: 1, Threads: 1, Cold: true})
			info := e.Info()
			if info.Model != "tiny.en-"+form {
				t.Errorf("its name is %q", info.Model)
			}
			if got := float64(e.memory.weights) / float64(whole); got < share[0] || got > share[1] {
				t.Errorf("its weights are taken to be %.2f of the unquantised ones'", got)
			}
			got := mustTranscribe(t, e, speechSamples(t, 0, 11), greedy())
			want := plain("and so my fellow americans ask not what your country can do for you ask what you can do for your country")
			if heard := plain(textOf(got)); !slices.Equal(heard, want) {
				t.Errorf("heard %q", heard)
			}
			if err := os.Truncate(path, int64(fileSize(path))-1); err != nil {
				t.Fatal(err)
			}
			checkRefused(t, "a byte less", path, "cut short")
		})
	}
}

// BenchmarkForms compares forms of the weights, and flash attention with none, over all recordings: three
// times each, in turn. Run it with -benchtime 1x on an idle core.
func BenchmarkForms(b *testing.B) {
	clips := recordings(b)
	search := greedy()
	for _, model := range []string{"tiny.en", "base"} {
		type form struct {
			name  string
			cfg   Config
			texts []string
		}
		var forms []*form
		for _, weights := range []string{"f16", "q8_0", "q5_0"} {
			cfg := Config{ModelPath: quantised(b, model, weights), Slots: 1, Threads: 1, GPU: GPUOff, FlashAttention: true}
			forms = append(forms, &form{name: weights, cfg: cfg})
		}
		without := forms[0].cfg
		without.FlashAttention = false
		forms = append(forms, &form{name: "f16-without-flash-attention", cfg: without})
		for range 3 {
			for _, f := range forms {
				b.Run(model+"/"+f.name, func(b *testing.B) {
					_, before := statm(b)
					opened, err := New(f.cfg)
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = opened.Close() }()
					e := opened.(*engine)
					errors, words := 0, 0
					began := userSeconds(b)
					for b.Loop() {
						errors, words, f.texts = 0, 0, nil
						for _, clip := range clips {
							heard := plain(textOf(mustTranscribe(b, e, clip.samples, search)))
							errors += wordErrors(heard, clip.words)
							words += len(clip.words)
							f.texts = append(f.texts, strings.Join(heard, " "))
						}
					}
					_, after := statm(b)
					b.ReportMetric((userSeconds(b)-began)/float64(b.N), "cpu-s")
					b.ReportMetric(float64(after-before)/1e6, "MB")
					b.ReportMetric(float64(errors), "wrong")
					b.ReportMetric(float64(words), "words")
				})
			}
		}
		same := 0
		for i := range clips {
			if forms[0].texts[i] == forms[len(forms)-1].texts[i] {
				same++
			}
		}
		b.Logf("%s: flash attention changes the words of %d of %d recordings", model, len(clips)-same, len(clips))
	}
}

// userSeconds is the processor time that this process has taken by itself.
func userSeconds(t testing.TB) float64 {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return float64(usage.Utime.Sec) + float64(usage.Utime.Usec)/1e6
}
