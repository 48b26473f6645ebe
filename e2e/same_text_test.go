package e2e

import (
	"net/http"
	"path/filepath"
	"sync"
	"testing"
)

// TestSameTextAsWhisperServer: with the same model and settings, and without chance, every recording gives the
// same text as on whisper.cpp's server. That one's first decoder draws from a generator which is never seeded
// again, so with beams its answers depend on what it served before; ours are those of a process that has
// served nothing, whatever it served. So with beams each recording gets a new whisper-server, and all of them
// the same process of ours.
func TestSameTextAsWhisperServer(t *testing.T) {
	real(t)
	all := whole("WHISPERPOOL_CONFORMANCE")
	models, heard, fields := []string{"tiny.en"}, recordingsAll(t), []string{"temperature_inc=0", "response_format=json"}
	if all {
		models = append(models, "base")
	} else { // a third of the time, and the shortest recordings
		fields = append(fields, "audio_ctx=512")
		heard = heard[len(heard)-4:]
	}
	for _, name := range models {
		ours, _ := startBackend(t, name)
		reused := startWhisperServer(t, name)
		for _, search := range []struct {
			name, beams string
			fresh       bool
		}{{"greedy", "1", false}, {"five beams", "5", true}} {
			t.Run(name+"/"+search.name, func(t *testing.T) {
				same := 0
				for _, path := range heard {
					theirs := reused
					if search.fresh {
						theirs = startWhisperServer(t, name)
					}
					if sameText(t, path, ours, theirs, append(fields, "beam_size="+search.beams)...) {
						same++
					}
				}
				t.Logf("%d of %d recordings have the same text", same, len(heard))
			})
		}
	}
}

// sameText sends a recording to both servers.
func sameText(t *testing.T, path, ours, theirs string, fields ...string) bool {
	t.Helper()
	var (
		wg     sync.WaitGroup
		bodies [2]string
	)
	for i, address := range []string{ours, theirs} {
		wg.Go(func() {
			status, _, body, err := ask(t.Context(), "http://"+address+inferencePath, path, fields...)
			if err != nil || status != http.StatusOK {
				t.Errorf("%s: status %d, %v: %s", filepath.Base(path), status, err, body)
				return
			}
			bodies[i] = textOf(t, body)
		})
	}
	wg.Wait()
	if bodies[0] != bodies[1] {
		t.Errorf("%s with %v: whisper-backend %q, whisper-server %q", filepath.Base(path), fields, bodies[0], bodies[1])
	}
	return bodies[0] == bodies[1] && bodies[0] != ""
}
