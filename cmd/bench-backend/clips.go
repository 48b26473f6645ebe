package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/whisperpool/whisperpool/audio"
)

// clip is speech whose words are known.
type clip struct {
	Name    string
	Path    string
	Seconds float64
	Bucket  int // the length that it stands for, seconds
	Words   string
	Real    bool // a person speaks
}

// buckets are the lengths that are told apart, in seconds.
var buckets = []int{2, 3, 5, 7, 11, 20, 28}

// bucketOf is the least that is not shorter.
func bucketOf(seconds float64) int {
	for _, b := range buckets {
		if seconds <= float64(b)+0.05 {
			return b
		}
	}
	return 0
}

// clipsPerBucket are as many as make some thousand words in all.
var clipsPerBucket = map[int]int{2: 48, 3: 48, 5: 36, 7: 30, 11: 30, 20: 18, 28: 12}

// voice is a way to make a WAV of a text.
type voice struct {
	name    string
	command func(text, to string) (program string, args []string)
}

// voices read in turn: four of espeak-ng, which builds speech from formants, and three of flite, whose
// voices come from recordings of persons.
var voices = []voice{
	espeak("en-us", 150), flite("slt"), espeak("en-gb", 160), flite("rms"),
	espeak("en-us+f3", 140), flite("awb"), espeak("en-gb-scotland", 150),
}

func espeak(name string, wordsPerMinute int) voice {
	return voice{"espeak-" + name, func(text, to string) (string, []string) {
		return "espeak-ng", []string{"-v", name, "-s", strconv.Itoa(wordsPerMinute), "-w", to, text}
	}}
}

func flite(name string) voice {
	return voice{"flite-" + name, func(text, to string) (string, []string) {
		return "flite", []string{"-voice", name, "-o", to, "-t", text}
	}}
}

// synthesised makes the clips that voices read, in folder dir, those of a bucket spread over the text.
func synthesised(ctx context.Context, text []string, dir string, say func(string, ...any)) ([]clip, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var all []clip
	seen := map[string]bool{}
	for place, bucket := range buckets {
		n := clipsPerBucket[bucket]
		say("reading %d clips of %d s aloud", n, bucket)
		for i := range n {
			v := voices[(i+place)%len(voices)]
			from := newest(text, i*len(text)/n, (i+1)*len(text)/n, 5*bucket/2, seen)
			c := clip{Name: fmt.Sprintf("%02ds-%02d-%s", bucket, i, v.name), Bucket: bucket}
			c.Path = filepath.Join(dir, c.Name+".wav")
			if err := c.read(ctx, v, text, from); err != nil {
				return nil, err
			}
			all = append(all, c)
			for _, word := range plainWords(c.Words) {
				seen[word] = true
			}
		}
	}
	return all, nil
}

// newest is the sentence of some from which on the most words within reach were not seen before.
func newest(text []string, first, end, reach int, seen map[string]bool) int {
	best, most := first, -1
	for i := first; i < end; i++ {
		fresh, words := map[string]bool{}, plainWords(text[i]+" "+text[(i+1)%len(text)])
		for _, word := range words[:min(reach, len(words))] {
			if !seen[word] {
				fresh[word] = true
			}
		}
		if len(fresh) > most {
			best, most = i, len(fresh)
		}
	}
	return best
}

// read has a voice read from a sentence on, whole words only, so that the clip is nearly as long as its
// bucket says and never longer.
func (c *clip) read(ctx context.Context, v voice, text []string, from int) error {
	var words []string
	for i := 0; len(words) < 5*c.Bucket; i++ {
		words = append(words, strings.Fields(text[(from+i)%len(text)]+".")...)
	}
	count := max(2, 5*c.Bucket/2)
	limit := float64(c.Bucket)
	for try := 0; ; try++ {
		c.Words = strings.Join(words[:count], " ")
		program, args := v.command(c.Words, c.Path)
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s could not read aloud: %w\n%s", program, err, out)
		}
		var err error
		if c.Seconds, err = secondsOf(c.Path); err != nil {
			return err
		}
		switch {
		case c.Seconds > limit && count > 1 && try < 12:
			count = max(1, min(count-1, int(float64(count)*limit/c.Seconds)))
		case c.Seconds < limit-0.6 && try < 4 && count < len(words):
			count = min(len(words), max(count+1, int(float64(count)*(limit-0.2)/c.Seconds)))
		case c.Seconds > limit:
			return fmt.Errorf("%s needs %.1f s for %q", v.name, c.Seconds, c.Words)
		default:
			return nil
		}
	}
}

func secondsOf(path string) (float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return 0, err
	}
	info, err := audio.Probe(file, stat.Size())
	return info.Seconds, err
}

// recorded are the recordings, and those of the novel joined in all sorts of ways, written to dir.
func recorded(ctx context.Context, folder, dir string) ([]clip, error) {
	single, err := manifest(folder)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(single)
	var novel []clip
	for _, c := range single {
		if strings.Contains(c.Path, "librivox") {
			novel = append(novel, c)
		}
	}
	n := len(novel)
	var joins [][]clip
	for i := range n {
		for j := range n {
			if i != j {
				joins = append(joins, []clip{novel[i], novel[j]})
			}
		}
		for length := 3; length <= n; length++ {
			var some []clip
			for k := range length {
				some = append(some, novel[(i+k)%n])
			}
			joins = append(joins, some)
		}
	}
	for _, parts := range joins {
		c, err := join(ctx, parts, dir)
		if err != nil {
			return nil, err
		}
		if c.Bucket != 0 {
			all = append(all, c)
		}
	}
	return all, nil
}

// manifest reads the recordings: file, seconds, words.
func manifest(folder string) ([]clip, error) {
	file, err := os.Open(filepath.Join(folder, "manifest.tsv"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []clip
	for lines := bufio.NewScanner(file); lines.Scan(); {
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) < 3 || strings.HasPrefix(columns[0], "#") {
			continue
		}
		seconds, err := strconv.ParseFloat(columns[1], 64)
		if err != nil {
			return nil, fmt.Errorf("manifest.tsv: %w", err)
		}
		name := strings.TrimSuffix(filepath.Base(columns[0]), ".wav")
		all = append(all, clip{Name: "real-" + name, Path: filepath.Join(folder, columns[0]), Seconds: seconds, Bucket: bucketOf(seconds), Words: columns[2], Real: true})
	}
	if len(all) < 6 {
		return nil, fmt.Errorf("only %d recordings in %s", len(all), folder)
	}
	return all, nil
}

// join makes one recording of several.
func join(ctx context.Context, parts []clip, dir string) (clip, error) {
	var samples []float32
	var names, words []string
	for _, p := range parts {
		some, err := samplesOf(ctx, p.Path)
		if err != nil {
			return clip{}, err
		}
		samples = append(samples, some...)
		names = append(names, p.Name[max(0, len(p.Name)-4):])
		words = append(words, p.Words)
	}
	c := clip{Name: "real-" + strings.Join(names, ""), Seconds: float64(len(samples)) / audio.SampleRate, Words: strings.Join(words, " "), Real: true}
	c.Bucket, c.Path = bucketOf(c.Seconds), filepath.Join(dir, c.Name+".wav")
	return c, os.WriteFile(c.Path, wav(samples), 0o644)
}

func samplesOf(ctx context.Context, path string) ([]float32, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	samples, _, err := audio.Decode(ctx, file, stat.Size(), audio.Options{})
	return samples, err
}

// wav is a file of 16 kHz, mono, 16 bits.
func wav(samples []float32) []byte {
	le := binary.LittleEndian
	data := uint32(2 * len(samples))
	b := le.AppendUint32([]byte("RIFF"), 36+data)
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(le.AppendUint16(b, 1), 1)
	b = le.AppendUint32(le.AppendUint32(b, audio.SampleRate), 2*audio.SampleRate)
	b = le.AppendUint16(le.AppendUint16(b, 2), 16)
	b = le.AppendUint32(append(b, "data"...), data)
	for _, s := range samples {
		b = le.AppendUint16(b, uint16(int16(math.Round(float64(max(-1, min(1, s)))*32767))))
	}
	return b
}
