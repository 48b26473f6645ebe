package bench

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/audio"
)

func read(t *testing.T, c Clip) []byte {
	t.Helper()
	b, err := io.ReadAll(c.Open())
	if err != nil || int64(len(b)) != c.Size {
		t.Fatalf("%s: %d bytes, said %d, %v", c.Name, len(b), c.Size, err)
	}
	return b
}

func decode(t *testing.T, b []byte) []float32 {
	t.Helper()
	samples, _, err := audio.Decode(t.Context(), bytes.NewReader(b), int64(len(b)), audio.Options{SecondsMax: secondsMax})
	if err != nil {
		t.Fatal(err)
	}
	return samples
}

// What is uploaded is audio of the length that was drawn, in both encodings, with the same sound.
func TestSpeechIsAudioOfItsLength(t *testing.T) {
	for _, seconds := range []float64{0.1, 5, 59.99, 130.01} {
		job := Job{Seconds: seconds, Clip: 12345}
		var sounds [][]float32
		for _, encoding := range []Encoding{PCM, MuLaw} {
			s := NewSpeech(Lengths{list: []float64{seconds}}, encoding)
			b := read(t, s.Clip(job))
			info, err := audio.Probe(bytes.NewReader(b), int64(len(b)))
			if err != nil || math.Abs(info.Seconds-seconds) > 1.0/speechRate || info.Estimated {
				t.Fatalf("%v s in encoding %v is taken for %+v, %v", seconds, encoding, info, err)
			}
			sounds = append(sounds, decode(t, b))
		}
		loudest := 0.0
		for i, x := range sounds[0] {
			loudest = max(loudest, math.Abs(float64(x)))
			// Mu-law has steps of a sixteenth at the most, and of 1/8192 near zero.
			if d := math.Abs(float64(x - sounds[1][i])); d > 1.0/4096+math.Abs(float64(x))/16 {
				t.Fatalf("%v s, sample %d: %v in 16 bits, %v in mu-law", seconds, i, x, sounds[1][i])
			}
		}
		if seconds >= 5 && (loudest < 0.2 || loudest > 0.51) {
			t.Errorf("%v s: loudest sample %v", seconds, loudest)
		}
	}
}

func TestSpeechHasTheShapeOfSpeech(t *testing.T) {
	x := babble(60 * speechRate)
	quiet := 0
	const frame = speechRate / 50
	for at := 0; at < len(x); at += frame {
		energy := 0.0
		for _, v := range x[at : at+frame] {
			energy += v * v
		}
		if math.Sqrt(energy/frame) < 0.005 {
			quiet++
		}
	}
	if share := float64(quiet) / 3000; share < 0.1 || share > 0.4 {
		t.Errorf("%.0f %% of the minute is silent", 100*share)
	}
}

func TestClipsDiffer(t *testing.T) {
	s := NewSpeech(Lengths{list: []float64{5}}, PCM)
	jobs := NewSchedule(Load{Burst: 2}, s, 1).Jobs()
	if bytes.Equal(read(t, s.Clip(jobs[0])), read(t, s.Clip(jobs[1]))) {
		t.Error("two uploads are the same: an endpoint may keep answers")
	}
}

// Both ways out of the loop give the same bytes, whatever the size of the reads.
func TestTheLoopReadsAsItWrites(t *testing.T) {
	samples := []byte("0123456789")
	var written bytes.Buffer
	n, err := (&loop{samples: samples, at: 7, left: 25}).WriteTo(&written)
	if want := "7890123456789012345678901"; written.String() != want || n != 25 || err != nil {
		t.Errorf("wrote %q, %d, %v; want %q", written.String(), n, err, want)
	}
	for _, size := range []int{1, 3, 10, 64} {
		r := &loop{samples: samples, at: 7, left: 25}
		var got []byte
		for {
			p := make([]byte, size)
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if err == io.EOF {
				break
			}
		}
		if !bytes.Equal(got, written.Bytes()) {
			t.Errorf("read %q by %d", got, size)
		}
	}
}

func TestRecordings(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := NewSpeech(Lengths{}, PCM)
	short := read(t, s.Clip(Job{Seconds: 1}))
	write("short.wav", short)
	write("long.wav", read(t, s.Clip(Job{Seconds: 3})))
	text := write("README.txt", []byte("these are recordings"))
	r, err := LoadRecordings(dir)
	if err != nil || len(r.files) != 2 || r.String() != "2 recordings of 1 to 3 s" {
		t.Fatalf("%v, %v", r, err)
	}
	seen := map[float64]int{}
	for _, job := range NewSchedule(Load{Burst: 100}, r, 1).Jobs() {
		seen[job.Seconds]++
		if b := read(t, r.Clip(job)); job.Seconds == 1 && !bytes.Equal(b, short) {
			t.Fatal("not the file's content")
		}
	}
	if seen[1] < 30 || seen[3] < 30 || len(seen) != 2 {
		t.Errorf("chosen: %v", seen)
	}
	for what, path := range map[string]string{"README.txt": text, "no recording": t.TempDir(), "no such file": filepath.Join(dir, "nil")} {
		if _, err := LoadRecordings(path); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v, want something about %q", path, err, what)
		}
	}
}
