package caddymodule

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
)

func TestBelieve(t *testing.T) {
	for _, c := range []struct {
		name      string
		info      audio.Info
		size      int64
		seconds   float64
		estimated bool
	}{
		{"told", audio.Info{Format: audio.FLAC, Seconds: 11}, 100_000, 11, false},
		{"an hour of speech at 6 kbit/s", audio.Info{Format: audio.OggOpus, Seconds: 3600}, 2_700_000, 3600, false},
		{"a minute in nothing", audio.Info{Format: audio.FLAC, Seconds: 60}, 100, 60, false},
		{"ten hours in nothing", audio.Info{Format: audio.FLAC, Seconds: 36000}, 1000, 80, true},
		{"not told", audio.Info{Format: audio.MP3}, 160_000, 10, true},
		{"an estimate", audio.Info{Format: audio.MP3, Seconds: 9, Estimated: true}, 160_000, 9, true},
	} {
		if got := believe(c.info, c.size); got.Seconds != c.seconds || got.Estimated != c.estimated {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestLiesAboutLengthHurtNobody: a few bytes that claim a day, sent before others, don't make the proxy refuse
// these, and what is answered has no length that is not known.
func TestLiesAboutLengthHurtNobody(t *testing.T) {
	liar := []byte("fLaC\x80\x00\x00\x22")
	info := make([]byte, 34) // STREAMINFO: 16 kHz, mono, 16 bits, a day
	binary.BigEndian.PutUint16(info[0:], 4096)
	binary.BigEndian.PutUint16(info[2:], 4096)
	binary.BigEndian.PutUint64(info[10:], 16000<<44|15<<36|86400*16000)
	liar = append(append(liar, info...), make([]byte, 100)...)
	if got, err := audio.Probe(bytes.NewReader(liar), int64(len(liar))); err != nil || got.Seconds != 86400 {
		t.Fatalf("the file is not what it should be: %+v, %v", got, err)
	}
	gate := make(chan struct{})
	backend := newWhisper(t)
	backend.answer = held(gate)
	p := newProxy(t, "backend "+backend.address()+" H100\nqueue {\n\tmax_wait 60s\n}")
	p.ready(1)
	answers := make(chan response, 6)
	post := func(file []byte) {
		r, err := p.postWith(t.Context(), transcriptions, nil, file, "model=base", "response_format=verbose_json")
		if err != nil {
			t.Error(err)
		}
		answers <- r
	}
	go post(wav(1))
	eventually(t, "one runs", func() bool { return backend.running.Load() == 1 })
	for n := range 3 {
		go post(liar)
		eventually(t, "it waits", func() bool { return p.pool().dispatcher.Snapshot().Queued == n+1 })
	}
	go post(wav(2))
	eventually(t, "an honest one waits too", func() bool { return p.pool().dispatcher.Snapshot().Queued == 4 })
	close(gate)
	for range 5 {
		if r := <-answers; r.status != http.StatusOK {
			t.Errorf("status %d: %s", r.status, r.body)
		}
	}
}
