package e2e

import (
	"os/exec"
	"testing"
)

// TestOfficialOpenAIClient drives OpenAI's own Python client against the proxy, over our backend
// and over whisper.cpp's server.
func TestOfficialOpenAIClient(t *testing.T) {
	real(t)
	for name, startOne := range map[string]func() string{
		"our backend":    func() string { address, _ := startBackend(t, "base"); return address },
		"whisper-server": func() string { return startWhisperServer(t, "base") },
	} {
		t.Run(name, func(t *testing.T) {
			url := startProxy(t, "backend "+startOne()+" CPU\ndefault_model base")
			out, err := exec.Command(env(t, "WHISPERPOOL_OPENAI_PYTHON"), "openai_client.py", url, jfk(t).path, "base").CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
