package caddymodule

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// TestDocumentedConfigurations: what the documentation shows as a Caddyfile is one, for this version of Caddy.
func TestDocumentedConfigurations(t *testing.T) {
	for _, file := range []string{"../docs/security.md", "../docs/caddyfile.md", "../docs/logs.md", "../docs/autoscaling.md", "../docs/status.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("%s shows none", file)
		}
		for i, block := range blocks {
			config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(block[1]), map[string]any{"filename": "Caddyfile"})
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s, number %d: %v, %v", file, i+1, err, warnings)
			}
			if strings.Contains(block[1], "max_header_size") && (!strings.Contains(string(config), `"max_header_bytes":32000`) ||
				!strings.Contains(string(config), `"read_header_timeout":10000000000`)) {
				t.Errorf("%s: the limits are not in %s", file, config)
			}
		}
	}
}
