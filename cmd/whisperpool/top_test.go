package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// told is a status in which everything happens, names that would write to the terminal included.
const told = `{"time":"2026-03-01T10:20:30Z","drains":true,"pools":[{"name":"default","policy":"latency_aware","queued":12,"oldest_wait":3.25,"running":3,"slots":4,
"backends":[
 {"id":"h100","class":"H100","state":"up","slots":3,"served":1200,"failed":1,"speeds":[{"model":"base","ten_seconds":0.5},{"model":"large-v3","ten_seconds":1.25}],
  "jobs":[{"for":0.5,"predicted":1},{"for":3,"predicted":1},{"for":1,"predicted":0}]},
 {"id":"t4\u001b[2J","class":"T4","state":"down","why":"its health check fails","slots":1,"served":0,"failed":7,"speeds":[],"jobs":[]}],
"waiting":[{"model":"base","audio":12,"priority":"batch","waited":3.25,"backend":"h100","starts_in":0.5,"ends_in":130},
 {"model":"rare","audio":12,"priority":"default","waited":1,"starts_in":0,"ends_in":0}],
"placements":[{"at":"2026-03-01T10:20:29Z","model":"base","audio":3700,"backend":"h100","in_words":"it would be done there first","queued":0.1,"took":1,"running":true},
 {"at":"2026-03-01T10:20:20Z","model":"base","audio":3,"backend":"t4","in_words":"it was its turn","queued":0,"took":1,"result":"died"}],
"history":{"every":5,"queued":[0,0,0,0,8,8,8,8],"running":[1,1,1,1,4,4,4,4],"served":[1,2,3,4,5,6,7,8]}}]}`

func toldStatus(t *testing.T) (s topStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(told), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTopDraws(t *testing.T) {
	text := strings.Join(drawStatus(toldStatus(t), false), "\n")
	for _, want := range []string{
		"default  latency_aware", "running    3/4", "waiting     12", "for 3.2 s at most", "served      54", "▃██", "▁▆█", "▅█",
		"h100     H100   up     ▅!?    0.50 s     1200    1", "t4?[2J   T4     down   ·                 0       7       its health check fails",
		"3.2 s  base   12 s   batch     0.5 s      2 min 10 s  h100", "1.0 s  rare   12 s   default   not known  not known   nobody yet", "and 10 more",
		"h100  1 h 1 min  0.1 s   1.0 s  runs", "died, waits again  it was its turn",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("an escape sequence without colours: %q", text)
	}
	coloured := strings.Join(drawStatus(toldStatus(t), true), "\n")
	for _, want := range []string{"\x1b[32mup", "\x1b[1;31mdown", "\x1b[33m!"} {
		if !strings.Contains(coloured, want) {
			t.Errorf("no %q in %q", want, coloured)
		}
	}
	if got := strings.Join(drawStatus(topStatus{}, false), "\n"); !strings.Contains(got, "No pool is configured.") {
		t.Errorf("without pools: %s", got)
	}
}

// TestTopFitsTheTerminal: lines are cut to its width, whatever their colours, and what does not fit is told.
func TestTopFitsTheTerminal(t *testing.T) {
	lines := drawStatus(toldStatus(t), true)
	for _, size := range [][2]int{{80, 24}, {20, 5}, {1, 1}} {
		text := fitLines(lines, size[0], size[1])
		shown := strings.Split(text, "\r\n")
		if len(shown) > size[1] {
			t.Errorf("%v: %d lines", size, len(shown))
		}
		for i, line := range shown[:len(shown)-1] {
			plain := line
			for _, code := range []string{"\x1b[K", "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"} {
				plain = strings.ReplaceAll(plain, code, "")
			}
			if n := len([]rune(plain)); n > size[0] || strings.Contains(plain, "\x1b") {
				t.Errorf("%v: line %d has %d characters: %q", size, i, n, plain)
			}
		}
		if cut := strings.Contains(shown[len(shown)-1], "lines more"); cut != (len(lines) > size[1]) {
			t.Errorf("%v: ends with %q", size, shown[len(shown)-1])
		}
	}
}

// adminEndpoint serves the status as a proxy's admin endpoint does, and says whether it was asked as that wants.
func adminEndpoint(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/whisper_pool/pools" || r.Header.Get("Origin") == "" {
		http.Error(w, `{"error":"not so"}`, http.StatusForbidden)
		return
	}
	_, _ = io.WriteString(w, told)
}

// printed is what top prints to something that is no terminal.
func printed(t *testing.T, o topOptions) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	failure := o.run(t.Context(), os.Stdin, out)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), failure
}

func TestTopPrintsOnceWhenPiped(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(adminEndpoint))
	defer server.Close()
	text, err := printed(t, topOptions{address: strings.TrimPrefix(server.URL, "http://")})
	if err != nil || !strings.Contains(text, "its health check fails") || strings.Contains(text, "\x1b") {
		t.Errorf("%v: %q", err, text)
	}

	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &http.Server{Handler: http.HandlerFunc(adminEndpoint)}
	go func() { _ = local.Serve(l) }()
	defer local.Close()
	for _, address := range []string{"unix/" + socket, "unix/" + socket + "|0200"} {
		if text, err := printed(t, topOptions{address: address}); err != nil || !strings.Contains(text, "h100") {
			t.Errorf("%s: %v: %q", address, err, text)
		}
	}
}

func TestTopSaysWhatIsWrong(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	strange := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer strange.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for address, want := range map[string]string{
		strings.TrimPrefix(other.URL, "http://"):   "status 404",
		strings.TrimPrefix(strange.URL, "http://"): "something else than pools",
		strings.TrimPrefix(gone.URL, "http://"):    "--address",
		"localhost:1-9":                            "give host:port",
	} {
		if _, err := printed(t, topOptions{address: address}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", address, err, want)
		}
	}
}
