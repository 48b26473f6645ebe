// Package deploy_test sees to it that what operators copy keeps pace with the program: a flag that was
// renamed would be found out at somebody's next restart.
package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFlagsExist(t *testing.T) {
	declared := map[string]bool{}
	for _, m := range regexp.MustCompile(`f\.\w+\(&[\w.]+, "([\w-]+)"`).FindAllStringSubmatch(
		read(t, "..", "cmd", "whisper-backend", "options.go"), -1) {
		declared[m[1]] = true
	}
	if len(declared) < 10 {
		t.Fatalf("only %d flags found in cmd/whisper-backend/options.go", len(declared))
	}
	used := regexp.MustCompile(`(?:^|[ "=])--([a-z][\w-]*)`)
	for _, file := range []string{"systemd/whisper-backend@.service", "systemd/backend.env", "Containerfile"} {
		found := 0
		for line := range strings.Lines(read(t, file)) {
			if file == "Containerfile" && (!strings.Contains(line, "whisper-backend") || strings.Contains(line, "docker build")) || strings.Contains(line, "systemctl") {
				continue // docker's own flags, apt's, and systemd's
			}
			line = strings.ReplaceAll(line, "--gpus", "")
			for _, m := range used.FindAllStringSubmatch(line, -1) {
				found++
				if !declared[m[1]] && m[1] != "help" {
					t.Errorf("%s uses --%s, which whisper-backend does not have", file, m[1])
				}
			}
		}
		if found == 0 {
			t.Errorf("%s: no flag found", file)
		}
	}
}

func TestContainerCopiesWhatIsThere(t *testing.T) {
	for _, m := range regexp.MustCompile(`(?m)^COPY ([^-\n].*) \S+$`).FindAllStringSubmatch(read(t, "Containerfile"), -1) {
		for name := range strings.FieldsSeq(m[1]) {
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Errorf("Containerfile: %v", err)
			}
		}
	}
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "..", "go.mod"))[1]
	if !strings.Contains(read(t, "Containerfile"), "golang:"+want+".") {
		t.Errorf("Containerfile does not build with Go %s, which go.mod names", want)
	}
}

func TestUnitIsOneThatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	// Nothing is installed where the tests run, and systemd looks for the programs.
	unit := regexp.MustCompile(`/opt/whisperpool/whisper-backend|/usr/bin/nvidia-modprobe|/bin/kill`).
		ReplaceAllString(read(t, "systemd", "whisper-backend@.service"), "/bin/true")
	path := filepath.Join(t.TempDir(), "whisper-backend@0.service")
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", path).CombinedOutput(); err != nil || strings.Contains(string(out), "whisper-backend@0") {
		t.Errorf("%v: %s", err, out)
	}
}
