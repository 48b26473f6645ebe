package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "write what comes out as what is expected")

const dashes = "----------\n"

// TestAdapt adapts each Caddyfile in testdata and compares with what stands below the dashes: the
// handler's JSON, or the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(text), dashes)
			if !ok && !*update {
				t.Fatalf("no %s in it", strings.TrimSpace(dashes))
			}
			got := adapted(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+dashes+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// adapted is the JSON of the first whisper_pool handler in a Caddyfile, or the error.
func adapted(t *testing.T, input string) string {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error() + "\n"
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Errorf("warning: %s", w)
		}
	}
	var parsed any
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	handler := findHandler(parsed)
	if handler == nil {
		t.Fatalf("no handler in %s", config)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "\t")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(handler); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func findHandler(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		if v["handler"] == "whisper_pool" {
			return v
		}
		for _, part := range v {
			if h := findHandler(part); h != nil {
				return h
			}
		}
	case []any:
		for _, part := range v {
			if h := findHandler(part); h != nil {
				return h
			}
		}
	}
	return nil
}

// TestOrder: the handler comes before reverse_proxy without being told.
func TestOrder(t *testing.T) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(
		":80 {\n\treverse_proxy 127.0.0.1:1\n\twhisper_pool {\n\t\tbackend 127.0.0.1:2\n\t}\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := bytes.Index(config, []byte(`"whisper_pool"`)), bytes.Index(config, []byte(`"reverse_proxy"`))
	if ours < 0 || theirs < ours {
		t.Errorf("whisper_pool at %d, reverse_proxy at %d in %s", ours, theirs, config)
	}
}
