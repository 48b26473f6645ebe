package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
)

// runPython runs a script that drives OpenAI's client. Should it hang, what it printed tells where.
func runPython(t *testing.T, script string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askMax)
	defer cancel()
	out, err := exec.CommandContext(ctx, env(t, "WHISPERPOOL_OPENAI_PYTHON"), append([]string{script}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v, %v\n%s", err, ctx.Err(), out)
	}
	t.Logf("%s", out)
}

// runNode runs the script that drives OpenAI's client for Node.
func runNode(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askMax)
	defer cancel()
	folder := env(t, "WHISPERPOOL_OPENAI_NODE")
	out, err := exec.CommandContext(ctx, filepath.Join(folder, "bin", "node"), append([]string{"openai_node.mjs", folder}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v, %v\n%s", err, ctx.Err(), out)
	}
	t.Logf("%s", out)
}

// TestOfficialOpenAIClient drives OpenAI's own clients against our backend alone, and against the proxy over
// it and over whisper.cpp's server.
func TestOfficialOpenAIClient(t *testing.T) {
	real(t)
	const name, translating = "tiny.en", "base" // a dozen transcriptions each, on a core that others use too
	clip := jfk(t).path
	backend, _ := startBackend(t, name, "--threads", threads(), "--short-clips", "on", "--model", model(t, translating))
	t.Run("our backend alone", func(t *testing.T) {
		runPython(t, "openai_client.py", "http://"+backend, clip, name, translating)
		runNode(t, "http://"+backend, clip, name, translating)
	})
	t.Run("our backend", func(t *testing.T) {
		url := startProxy(t, "backend "+backend+" CPU\ndefault_model "+name)
		runPython(t, "openai_client.py", url, clip, name)
		runNode(t, url, clip, name)
	})
	t.Run("whisper-server", func(t *testing.T) {
		url := startProxy(t, "backend "+startWhisperServer(t, name)+" CPU\ndefault_model "+name)
		runPython(t, "openai_client.py", url, clip, name)
	})
}
