package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestOfficialOpenAIClientWithKeys: what OpenAI's own client makes of wrong keys, limits and sizes. The
// backend is a made-up one, which counts.
func TestOfficialOpenAIClientWithKeys(t *testing.T) {
	real(t)
	var asked atomic.Int32
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"base","object":"model"}]}`)
			return
		}
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"text":"ask not what"}`)
	}))
	defer backend.Close()
	const key, limited = "sk-key-without-limits-0123456789", "sk-key-with-limits-0123456789"
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("free "+key+"\nlimited "+limited+" requests_per_minute=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := startProxy(t, "backend "+strings.TrimPrefix(backend.URL, "http://")+" {\nkind openai\nmodels base\n}\n"+
		"api_keys {file."+keys+"}\nupload {\nmax_size 25MiB\n}")
	runPython(t, "openai_keys.py", url, jfk(t).path, key, limited)
	if n := asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times, want twice", n)
	}
}
