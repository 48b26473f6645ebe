package backend

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// keys are the API keys of a file, of which a client must have one. The file is read again when it
// changes, so that keys can be added and taken away while jobs run.
type keys struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	hashes [][sha256.Size]byte
	size   int64
	time   time.Time
	broken string // what was logged of a file that could not be read again
}

// newKeys reads the file.
func newKeys(path string, log *slog.Logger) (*keys, error) {
	k := &keys{path: path, log: log}
	return k, k.read()
}

const keyFileMax = 1 << 20 // bytes; some ten thousand keys

// read takes over what is in the file now, or nothing of it if it is of no use.
func (k *keys) read() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("cannot read the API keys: %w", err)
	}
	k.size, k.time = info.Size(), info.ModTime()
	switch mode := info.Mode().Perm(); {
	case !info.Mode().IsRegular():
		return fmt.Errorf("the API keys cannot be read: %s is not a regular file", k.path)
	case info.Size() > keyFileMax:
		return fmt.Errorf("%s has %d bytes, which is too much for a file of API keys", k.path, info.Size())
	case mode&0o022 != 0:
		return fmt.Errorf("others than its owner may write the API keys: chmod 600 %s", k.path)
	case mode&0o004 != 0:
		k.log.Warn("everybody on this machine may read the API keys; better chmod 600", "file", k.path)
	}
	text, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("cannot read the API keys: %w", err)
	}
	hashes, err := parseKeys(string(text))
	if err != nil {
		return fmt.Errorf("%s %w", k.path, err)
	}
	k.hashes, k.broken = hashes, ""
	return nil
}

// parseKeys reads a key a line; empty lines and those that begin with # do not count.
func parseKeys(text string) ([][sha256.Size]byte, error) {
	var hashes [][sha256.Size]byte
	number := 0
	for line := range strings.Lines(text) {
		number++
		key := strings.TrimSpace(line)
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return nil, fmt.Errorf("has a key in line %d with a space or another character that no header can hold", number)
		}
		hashes = append(hashes, sha256.Sum256([]byte(key)))
	}
	if len(hashes) == 0 {
		return nil, errors.New("holds no API key: write one a line, such as what `openssl rand -hex 32` prints")
	}
	return hashes, nil
}

// refresh reads the file again if it has changed. While it cannot be read the old keys are valid.
func (k *keys) refresh() {
	info, err := os.Stat(k.path)
	k.mu.Lock()
	same := err == nil && info.Size() == k.size && info.ModTime().Equal(k.time)
	k.mu.Unlock()
	if !same {
		k.reload()
	}
}

// reload reads the file again and says what came of it, once.
func (k *keys) reload() {
	err := k.read()
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		k.log.Info("read the API keys again", "keys", len(k.hashes))
	case err.Error() != k.broken:
		k.broken = err.Error()
		k.log.Error("the API keys could not be read again, so the old ones stay valid", "error", err)
	}
}

// admits tells whether a request bears one of the keys. It takes as long for a wrong key as for a
// right one, and compares hashes, so that the time tells nothing about a key.
func (k *keys) admits(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = "" // is no key
	}
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	k.refresh()
	k.mu.Lock()
	defer k.mu.Unlock()
	found := 0
	for i := range k.hashes {
		found |= subtle.ConstantTimeCompare(got[:], k.hashes[i][:])
	}
	return found == 1
}

// open are the requests that need no key: a probe of /health, which says nothing but that the server
// is there, and what browsers ask before they may send one. The load report and the metrics need a
// key, since they tell models and customers' traffic.
func openToAll(r *http.Request) bool {
	return r.Method == http.MethodOptions || r.URL.Path == "/health"
}

// guarded lets only requests with a key through to next.
func (s *Server) guarded(next http.Handler) http.Handler {
	if s.keys == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openToAll(r) || s.keys.admits(r) {
			next.ServeHTTP(w, r)
			return
		}
		s.metrics.refused("invalid_api_key")
		w.Header().Set("WWW-Authenticate", `Bearer realm="whisper-backend"`)
		message := "Incorrect API key provided."
		if r.Header.Get("Authorization") == "" {
			message = "You didn't provide an API key; send it as the header Authorization: Bearer KEY."
		}
		s.refuse(w, r, &transcript.Error{
			Status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key", Message: message, Final: true,
		}, false)
	})
}

// ReloadKeys reads the API keys again, if there are any, and logs what came of it.
func (s *Server) ReloadKeys() {
	if s.keys != nil {
		s.keys.reload()
	}
}
