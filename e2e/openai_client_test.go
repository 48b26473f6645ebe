package e2e

import (
	"context"
	"os/exec"
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

// TestOfficialOpenAIClient drives OpenAI's own Python client against the proxy, over our backend
// and over whisper.cpp's server.
func TestOfficialOpenAIClient(t *testing.T) {
	real(t)
	for _, c := range []struct {
		name  string
		start func(t *testing.T, model string) string
	}{
		{"our backend", func(t *testing.T, model string) string {
			address, _ := startBackend(t, model, "--threads", threads())
			return address
		}},
		{"whisper-server", startWhisperServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			const model = "tiny.en" // a dozen transcriptions, on a core that others use too
			url := startProxy(t, "backend "+c.start(t, model)+" CPU\ndefault_model "+model)
			runPython(t, "openai_client.py", url, jfk(t).path, model)
		})
	}
}
