package backend

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseKeys(t *testing.T) {
	hash := func(keys ...string) (all [][sha256.Size]byte) {
		for _, k := range keys {
			all = append(all, sha256.Sum256([]byte(k)))
		}
		return all
	}
	for text, want := range map[string][][sha256.Size]byte{
		"a":                                hash("a"),
		"# mine\n\n  first \r\nsecond\n#x": hash("first", "second"),
	} {
		got, err := parseKeys(text)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%q: %d keys, %v", text, len(got), err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: key %d is another", text, i)
			}
		}
	}
	for text, says := range map[string]string{
		"": "openssl", "# only\n\n": "openssl", "ok\ntwo words": "line 2", "käse": "line 1", "a\x00b": "line 1",
	} {
		if _, err := parseKeys(text); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "words") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func bearing(header string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/models", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return r
}

func TestKeysAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	stamp := time.Now()
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		stamp = stamp.Add(time.Second) // another time, however coarse the file system's clock is
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	write("first\nsecond\n", 0o600)
	k, err := newKeys(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	check := func(header string, want bool) {
		t.Helper()
		if k.admits(bearing(header)) != want {
			t.Errorf("%q: %v", header, !want)
		}
	}
	check("Bearer first", true)
	check("bearer  second", true)
	for _, header := range []string{"", "Bearer", "Bearer ", "first", "Basic first", "Bearer firs", "Bearer First", "Bearer first second", "Bearer third"} {
		check(header, false)
	}
	write("third\n", 0o600)
	check("Bearer first", false)
	check("Bearer third", true)
	write("", 0o600) // some editor is at work
	check("Bearer third", true)
	check("Bearer third", true)
	if n := strings.Count(log.String(), "stay valid"); n != 1 {
		t.Errorf("said %d times that the old keys stay valid", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("Bearer third", true)
	write("fourth\n", 0o622)
	check("Bearer fourth", false) // anybody might have written it
	write("fourth\n", 0o644)
	check("Bearer fourth", true)
	if !strings.Contains(log.String(), "chmod 600") {
		t.Error("no warning of a file that everybody may read")
	}
	for _, key := range []string{"first", "third", "fourth"} {
		if strings.Contains(log.String(), key) {
			t.Errorf("the key %q is in the log", key)
		}
	}
}

func TestKeyFilesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil { //nolint:gosec // that is what is refused
		t.Fatal(err)
	}
	for path, says := range map[string]string{dir + "/none": "no such file", dir: "regular file", open: "chmod 600", os.DevNull: "regular file"} {
		if _, err := New(Config{KeyFile: path}, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
