package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/cmd/stage"
)

func TestInterpretersAreRead(t *testing.T) {
	got, err := parseInterpreters("ray=/a/python, skyserve=")
	if want := []interpreter{{"ray", "/a/python"}, {"skyserve", ""}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		"traefik=/bin/x": `no "traefik" to compare with on request; there are ray, skyserve`,
		"ray=a,ray=b":    "ray is there twice",
		"ray=a,":         `no ""`,
	} {
		if _, err := parseInterpreters(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %q", text, err, want)
		}
	}
}

// Time is not sped up for those in Python, we and the rules set by hand run beside them, and nobody
// else does, least of all one that was not asked for.
func TestSlowedDownPlansHold(t *testing.T) {
	for _, p := range []plan{slowedDown([]interpreter{{program: "ray"}}, false), slowedDown([]interpreter{{program: "ray"}}, true)} {
		var names []string
		for _, one := range p.peers {
			names = append(names, one.Name)
		}
		want := []string{ours, "haproxy leastconn, tuned", "haproxy first, tuned", "ray serve, 25 ongoing", "ray serve, 1 ongoing"}
		if p.speedUp > 1 || p.repeats < 1 || !slices.Equal(names, want) {
			t.Errorf("%g times as fast, %d repeats, %q", p.speedUp, p.repeats, names)
		}
		for _, w := range p.workloads {
			load, _, err := w.load(p.speedUp)
			if err != nil || load.Check() != nil {
				t.Errorf("%s: %v, %v", w.Name(), err, load.Check())
			}
		}
	}
}

func TestPythonIsToldThePool(t *testing.T) {
	var pool pythonPool
	files := programs["ray"].files(cards2(), []int{18101})
	if err := json.Unmarshal([]byte(files["pool.json"]), &pool); err != nil {
		t.Fatal(err)
	}
	if pool.Port != 18101 || len(pool.Backends) != 2 || pool.Backends[1] != (pythonBackend{"127.0.0.1:9002", "H100", 5}) {
		t.Errorf("%+v", pool)
	}
	// Every peer of Ray Serve's has its route.
	for _, p := range onRequest {
		if _, ok := pool.Limits[p.path]; ok != (p.program == "ray") {
			t.Errorf("%s at %q: %v", p.Name, p.path, pool.Limits)
		}
	}
	if text := programs["skyserve"].files(cards2(), []int{1})["pool.json"]; strings.Contains(text, "limits") {
		t.Error(text)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here, so nobody reads the sources")
	}
	dir := t.TempDir()
	for _, name := range requestable() {
		for file, content := range programs[name].files(cards2(), []int{1}) {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), python, "-m", "py_compile", programs[name].args[0])
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// A peer that is not there or does not start is named, and leaves the others be; without ourselves
// there is nothing to compare.
func TestPeersThatDoNotStartAreNamed(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho no module named ray\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ps := &stage.Processes{Dir: t.TempDir()}
	defer ps.Stop()
	paths := map[string]string{"whisperpool": "/none", "ray": broken, "skyserve": ""}
	all, skipped, err := startPeers(t.Context(), ps, onRequest, paths, cards2())
	text := strings.Join(skipped, "\n")
	if err != nil || len(all) != 0 || len(skipped) != 2 {
		t.Errorf("%v, %q, %v", all, skipped, err)
	}
	for _, want := range []string{"ray: skipped, since ray ended at its start: no module named ray", "skyserve: skipped, since skyserve is not installed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	paths["whisperpool"] = broken
	if _, _, err := startPeers(t.Context(), ps, peers[:1], paths, cards2()); err == nil || !strings.Contains(err.Error(), "whisperpool ended at its start") {
		t.Errorf("%v", err)
	}
}

func TestPace(t *testing.T) {
	if a, b := pace(2.5), pace(0.5); a != "time sped up 2.5 times" || b != "time slowed down 2 times" {
		t.Errorf("%q, %q", a, b)
	}
}
