package e2e

import (
	"os/exec"
	"testing"
)

// TestOfficialOpenAIClient drives OpenAI's own Python client against the proxy, over our backend
// and over whisper.cpp's server.
func TestOfficialOpenAIClient(t *testing.T) {
	real(t)
	for _, c := range []struct {
		name, model string
		start       func(t *testing.T) string
	}{
		{"our backend", "base", func(t *testing.T) string { address, _ := startBackend(t, "base", "--threads", "2"); return address }},
		{"whisper-server", "tiny.en", func(t *testing.T) string { return startWhisperServer(t, "tiny.en") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := startProxy(t, "backend "+c.start(t)+" CPU\ndefault_model "+c.model)
			out, err := exec.Command(env(t, "WHISPERPOOL_OPENAI_PYTHON"), "openai_client.py", url, jfk(t).path, c.model).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
