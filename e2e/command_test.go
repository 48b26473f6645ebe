package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs a command to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTopLevelCaddyfileAdapts(t *testing.T) {
	real(t)
	caddyfile := filepath.Join("..", "Caddyfile")
	if out, code := run(t, binary(t, "whisperpool"), "adapt", "--config", caddyfile); code != 0 || !strings.Contains(out, `"handler":"whisper_pool"`) {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := run(t, binary(t, "whisperpool"), "validate", "--config", caddyfile); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := run(t, binary(t, "whisperpool"), "list-modules"); code != 0 || !strings.Contains(out, "http.handlers.whisper_pool") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestCaddyfileMistakeNamesFileAndLine(t *testing.T) {
	real(t)
	config := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(config, []byte(":8080 {\n\twhisper_pool {\n\t\tbackend 127.0.0.1:1 T4\n\t\tpolcy latency_aware\n\t}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := run(t, binary(t, "whisperpool"), "adapt", "--config", config)
	if code == 0 || !strings.Contains(out, "polcy") || !strings.Contains(out, "Caddyfile:4") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestBackendExplainsItself(t *testing.T) {
	real(t)
	out, code := run(t, binary(t, "whisper-backend"), "--help")
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, flag := range []string{"--model", "--slots", "--threads", "--listen", "--gpu", "--gpu-class", "--engine", "--max-upload"} {
		if !strings.Contains(out, flag) {
			t.Errorf("no %s in the help:\n%s", flag, out)
		}
	}
}

// TestBackendRefusesWhatIsNoModel: one sentence, at once.
func TestBackendRefusesWhatIsNoModel(t *testing.T) {
	real(t)
	dir := t.TempDir()
	text := filepath.Join(dir, "ggml-text.bin")
	if err := os.WriteFile(text, []byte(strings.Repeat("no model\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(model(t, "tiny.en"))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "ggml-cut.bin")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"missing": filepath.Join(dir, "ggml-none.bin"), "text": text, "cut": cut, "folder": dir} {
		out, code := run(t, binary(t, "whisper-backend"), "--model", path, "--listen", "127.0.0.1:"+freePort(t), "--gpu", "off")
		lines := strings.Count(strings.TrimSpace(out), "\n") + 1
		if code == 0 || lines > 3 || !strings.Contains(out, filepath.Base(path)) || strings.Contains(out, "goroutine") {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
	}
}

func TestConvertRefusesWhatIsNoModel(t *testing.T) {
	real(t)
	out, code := run(t, binary(t, "whisper-backend"), "convert", t.TempDir(), filepath.Join(t.TempDir(), "out.bin"))
	if code == 0 || strings.Count(strings.TrimSpace(out), "\n") > 0 {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestDocumentedCaddyfilesAdapt: what users copy from the documentation works.
func TestDocumentedCaddyfilesAdapt(t *testing.T) {
	real(t)
	for _, doc := range []string{"README.md", "docs/caddyfile.md"} {
		text, err := os.ReadFile(filepath.Join("..", doc))
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(text), "```caddyfile\n")
		if len(blocks) < 2 {
			t.Errorf("no Caddyfile in %s", doc)
		}
		for _, block := range blocks[1:] {
			caddyfile, _, _ := strings.Cut(block, "```")
			config := filepath.Join(t.TempDir(), "Caddyfile")
			if err := os.WriteFile(config, []byte(caddyfile), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, code := run(t, binary(t, "whisperpool"), "adapt", "--config", config); code != 0 {
				t.Errorf("%s: exit %d: %s", doc, code, out)
			}
		}
	}
}
