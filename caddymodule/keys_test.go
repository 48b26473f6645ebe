package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

const keyOfA, keyOfB = "sk-first-key-of-team-a-0123456789", "sk-first-key-of-team-b-0123456789"

func bearer(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

func writeKeys(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAPIKeys(t *testing.T) {
	backend := newWhisper(t)
	file := filepath.Join(t.TempDir(), "keys")
	sum := sha256.Sum256([]byte(keyOfB))
	writeKeys(t, file, "# who  key\nteam-a  "+keyOfA+"\n\nteam-b\tsha256:"+hex.EncodeToString(sum[:])+"  requests_per_minute=2\n")
	pool := "backend " + backend.address() + "\napi_keys {file." + file + "}\ntenant {http.auth.user.id}"
	p := newProxy(t, pool)
	p.ready(1)

	for name, header := range map[string]http.Header{
		"none": nil, "unknown": bearer("sk-nobody-has-this-key-0123456789"), "a part": bearer(keyOfA[:20]), "more": bearer(keyOfA + "0"),
		"empty": bearer(""), "another scheme": {"Authorization": {"Basic " + keyOfA}}, "huge": bearer(strings.Repeat("k", 2*keyMax)),
		"its hash": bearer("sha256:" + hex.EncodeToString(sum[:])),
	} {
		r, err := p.postWith(t.Context(), transcriptions, header, wav(1), "model=base")
		if err != nil {
			t.Fatal(err)
		}
		if _, code := r.problem(t); r.status != http.StatusUnauthorized || code != "invalid_api_key" ||
			r.header.Get("WWW-Authenticate") != `Bearer realm="whisperpool"` || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: status %d, %s, %v", name, r.status, code, r.header)
		}
	}
	for _, path := range []string{"/v1/models", "/v1/models/base", "/v1/models/none", "/inference"} { // nor does it tell what there is
		if r := p.get(path); r.status != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, r.status)
		}
	}
	if a, b := p.get("/health"), p.get("/elsewhere"); a.status != http.StatusOK || b.status != 203 {
		t.Errorf("/health %d, another path %d, without a key", a.status, b.status)
	}
	if n := len(backend.requests()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}

	ask := func(key string) response {
		t.Helper()
		r, err := persistent(func() (response, error) {
			return p.postWith(t.Context(), transcriptions, bearer(key), wav(1), "model=base")
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, key := range []string{keyOfA, keyOfB, keyOfB, keyOfA, keyOfA} {
		if r := ask(key); r.status != http.StatusOK {
			t.Fatalf("status %d: %s", r.status, r.body)
		}
	}
	r := ask(keyOfB)
	if _, code := r.problem(t); r.status != http.StatusTooManyRequests || code != "rate_limit_exceeded" || r.header.Get("Retry-After") == "" || r.header.Get("X-Should-Retry") != "" {
		t.Errorf("the third in a minute: status %d, %s, %v", r.status, code, r.header)
	}
	for _, got := range backend.requests() {
		if got.header.Get("Authorization") != "" {
			t.Error("a key was passed on to a backend")
		}
	}

	// A reload reads the file again, and gives nobody a new minute.
	const next = "sk-second-key-of-team-a-0123456789"
	writeKeys(t, file, "team-a "+next+"\nteam-b "+keyOfB+" requests_per_minute=2")
	p.mustLoad(site(p.url, pool))
	if a, b, c := ask(keyOfA), ask(next), ask(keyOfB); a.status != http.StatusUnauthorized || b.status != http.StatusOK || c.status != http.StatusTooManyRequests {
		t.Errorf("after the reload: the old key %d, the new one %d, that without requests left %d", a.status, b.status, c.status)
	}
	// One that fails leaves the keys as they were.
	writeKeys(t, file, "team-a short")
	if err := p.load(site(p.url, pool)); err == nil || strings.Contains(err.Error(), "short\n") || !strings.Contains(err.Error(), "line 1: key of team-a") {
		t.Errorf("loading a short key: %v", err)
	}
	if r := ask(next); r.status != http.StatusOK {
		t.Errorf("after a reload that failed: %d", r.status)
	}
	for _, key := range []string{keyOfA, keyOfB, next} {
		if strings.Contains(p.log(), key) {
			t.Errorf("a key is in the log")
		}
	}
}

// TestJobsOfAKey: so many at a time, over all of its keys, and no place is lost when a client leaves.
func TestJobsOfAKey(t *testing.T) {
	gate := make(chan struct{})
	backend := newWhisper(t, func(s *whisper) { s.slots = 4 })
	backend.answer = held(gate)
	t.Setenv("WHISPERPOOL_TEST_KEYS", "a "+keyOfA+" jobs=1\na "+keyOfB+" jobs=1")
	p := newProxy(t, "backend "+backend.address()+"\napi_keys {env.WHISPERPOOL_TEST_KEYS}")
	p.ready(1)
	ctx, leave := context.WithCancel(t.Context())
	go func() { _, _ = p.postWith(ctx, transcriptions, bearer(keyOfA), wav(1), "model=base") }()
	eventually(t, "one runs", func() bool { return backend.running.Load() == 1 })
	r, err := p.postWith(t.Context(), transcriptions, bearer(keyOfB), wav(1), "model=base")
	if err != nil {
		t.Fatal(err)
	}
	if _, code := r.problem(t); r.status != http.StatusTooManyRequests || code != "too_many_jobs" || r.header.Get("Retry-After") != "1" {
		t.Errorf("status %d, %s, %v", r.status, code, r.header)
	}
	leave()
	eventually(t, "its place is free", func() bool {
		p.pool().admissions.mu.Lock()
		defer p.pool().admissions.mu.Unlock()
		return p.pool().admissions.owners["a"].jobs == 0
	})
	close(gate)
	if r, err := p.postWith(t.Context(), transcriptions, bearer(keyOfB), wav(1), "model=base"); err != nil || r.status != http.StatusOK {
		t.Errorf("%v, status %d: %s", err, r.status, r.body)
	}
}

func TestBadKeys(t *testing.T) {
	secret := "sk-do-not-repeat-me-0123456789"
	for text, says := range map[string]string{
		"":                               "there is no key",
		"# a comment":                    "there is no key",
		secret:                           "line 1: write <name> <key>",
		"\n" + secret + " name":          "line 2: key of",
		"a short":                        "it has 5 characters",
		"a sha256:12":                    "64 hexadecimal digits",
		"a " + secret + " jobs=0":        "number from 1",
		"a " + secret + " jobs=1 jobs=1": "given once",
		"a " + secret + " " + secret:     "only requests_per_minute",
		"a " + secret + "\nb " + secret:  "a has the same key already",
		"a " + secret + "\na " + keyOfA + " jobs=1": "have different limits",
		`a"b ` + secret:                      "the name, which comes before the key",
		"a " + strings.Repeat("k", 3*keyMax): "line",
	} {
		_, err := parseKeys(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
		if err != nil && strings.Contains(err.Error(), secret) && !strings.HasPrefix(text, "\n") {
			t.Errorf("the key is in %v", err)
		}
	}
	backend := "backend 127.0.0.1:1\n"
	for _, option := range []string{"api_keys " + secret, "api_keys /etc/keys", `api_keys "{env.KEYS} ` + secret + `"`} {
		err := loadText(globalOptions("") + site("http://"+freeAddress(t), backend+option))
		if err == nil || !strings.Contains(err.Error(), "must name where the keys are") || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
	for _, option := range []string{"{env.WHISPERPOOL_NOT_SET}", "{file." + t.TempDir() + "/missing}"} {
		err := loadText(globalOptions("") + site("http://"+freeAddress(t), backend+"api_keys "+option))
		if err == nil || !strings.Contains(err.Error(), "nothing could be read from there") {
			t.Errorf("%s: %v", option, err)
		}
	}
}

// TestKeysAreNotInTheAdaptedConfiguration: it is printed, and kept by Caddy on disk.
func TestKeysAreNotInTheAdaptedConfiguration(t *testing.T) {
	t.Setenv("WHISPERPOOL_TEST_KEYS", "a "+keyOfA)
	text := globalOptions("") + site("http://localhost:1", "backend 127.0.0.1:1\napi_keys {env.WHISPERPOOL_TEST_KEYS}")
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil || !json.Valid(adapted) || strings.Contains(string(adapted), keyOfA) || !strings.Contains(string(adapted), `"api_keys":"{env.WHISPERPOOL_TEST_KEYS}"`) {
		t.Errorf("%v: %s", err, adapted)
	}
}

func TestRateIsEven(t *testing.T) {
	var a admissions
	g := &grant{name: "a", perMinute: 6}
	now := time.Now()
	for i := range 6 {
		if problem := a.enter(g, now); problem != nil {
			t.Fatalf("request %d: %v", i, problem)
		}
	}
	if problem := a.enter(g, now); problem == nil || problem.RetryAfter != 10*time.Second {
		t.Errorf("the seventh at once: %+v", problem)
	}
	if problem := a.enter(g, now.Add(9999*time.Millisecond)); problem == nil {
		t.Error("one too early")
	}
	if problem := a.enter(g, now.Add(10*time.Second)); problem != nil {
		t.Errorf("after a sixth of a minute: %v", problem)
	}
	later := now.Add(time.Hour)
	served := 0
	for range 20 {
		if a.enter(g, later) == nil {
			served++
		}
	}
	if served != 6 {
		t.Errorf("%d at once after an hour", served)
	}
}

func BenchmarkKeyLookup(b *testing.B) {
	for _, n := range []int{1, 10000} {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "n%d sk-0123456789-%020d\n", i, i)
		}
		ring, err := parseKeys(text.String())
		if err != nil {
			b.Fatal(err)
		}
		r := &http.Request{Header: bearer(fmt.Sprintf("sk-0123456789-%020d", n-1))}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if ring.of(r) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
