//go:build whispercpp

package whispercpp

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLogPassesOnWhatIsWrong(t *testing.T) {
	var out bytes.Buffer
	var sink logSink
	sink.logger.Store(slog.New(slog.NewTextHandler(&out, nil)))
	sink.add(2, "whisper_backend_init_gpu: using CUDA0 backend\n")
	sink.add(ggmlError, "whisper_full_with_state: failed to encode\n") // a client that left
	sink.add(ggmlWarn, "\n")
	if out.Len() > 0 || sink.noDevice != 0 {
		t.Errorf("said %q", out.String())
	}
	sink.forget()
	sink.add(ggmlWarn, "a warning\n")
	sink.add(ggmlError, "whisper_backend_init_gpu: failed to initialize CUDA0 backend\n")
	sink.add(ggmlError, "and so nothing works\n")
	for _, want := range []string{"level=WARN msg=\"whisper.cpp: a warning\"", "level=ERROR", "failed to initialize CUDA0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
	if first := sink.firstError(); !strings.Contains(first, "failed to initialize") || sink.noDevice != 1 {
		t.Errorf("the first error is %q, %d devices failed", first, sink.noDevice)
	}
}

// What the library says for debugging holds prompts and texts: it is not logged at any level.
func TestLogForDebuggingIsDropped(t *testing.T) {
	var out bytes.Buffer
	var sink logSink
	sink.logger.Store(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 100})))
	sink.add(2, "whisper_init_state: kv self size\n")
	sink.add(ggmlDebug, "whisper_full_with_state: prompt[3] = secret\n")
	sink.add(ggmlContinued, "secret\n")
	if said := out.String(); !strings.Contains(said, "kv self size") || strings.Contains(said, "secret") {
		t.Errorf("said %q", said)
	}
}
