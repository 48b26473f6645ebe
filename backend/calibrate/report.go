package calibrate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/whisperpool/whisperpool/gpu"
)

// report prints the law, how far the measured times are from it, and what else it can be used for.
func report(w io.Writer, r Result) {
	p, law := r.Profile, r.Profile.Law.Law()
	fmt.Fprintf(w, "%s on %s: %.4g ms a job, %.4g ms a window, %.3g ms a token (tokens %s)\n",
		p.Model, named(p.Class, p.Device), p.Law.Fixed, p.Law.Encode, p.Law.Token, p.Measured.Tokens)
	full := gpu.Job{Seconds: gpu.WindowSeconds, Speech: 1}
	fmt.Fprintf(w, "30 s of dense speech take %.3g s; the recordings had %.0f %% of its words\n\n", law.Typical(full).Seconds(), 100*p.Speech)

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "clip s\tjobs\tmeasured s\tlaw s\toff %\t")
	for _, seconds := range p.Measured.Lengths {
		var took, expected []float64
		for _, s := range r.Samples {
			if s.Beside == 1 && s.Seconds == seconds {
				took = append(took, s.Took)
				expected = append(expected, s.Took/law.Off(s))
			}
		}
		m, e := median(took), median(expected)
		fmt.Fprintf(t, "%.4g\t%d\t%.3f\t%.3f\t%+.1f\t\n", seconds, len(took), m, e, 100*(m/e-1))
	}
	fmt.Fprintln(t, "\t\t\t\t\t")
	fmt.Fprintln(t, "at once\tjobs\tgain\tlaw\toff %\t")
	for _, streams := range p.Measured.Streams[1:] {
		var gains, expected []float64
		for _, s := range r.Samples {
			if s.Beside > 1 && nearest(s.Beside, p.Measured.Streams) == streams {
				gains, expected = append(gains, law.GainOf(s)), append(expected, law.GainOf(s)*law.Off(s))
			}
		}
		if len(gains) == 0 {
			continue
		}
		g, e := median(gains), median(expected)
		fmt.Fprintf(t, "%d\t%d\t%.2f\t%.2f\t%+.1f\t\n", streams, len(gains), g, e, 100*(g/e-1))
	}
	_ = t.Flush()
	fmt.Fprintf(w, "\nmedian error %.1f %% alone, %.1f %% side by side\n", 100*p.Measured.Off, 100*p.Measured.OffBesides)
	fmt.Fprintf(w, "as a card of a pool for whisperpool simulate: %s\n", card(p))
}

// nearest is the number of streams that so many jobs side by side belong to.
func nearest(beside float64, streams []int) int {
	return slices.MinFunc(streams, func(a, b int) int {
		return cmp.Compare(math.Abs(float64(a)-beside), math.Abs(float64(b)-beside))
	})
}

func named(class, device string) string {
	switch {
	case class == "" && device == "":
		return "a device without a name"
	case class == "":
		return device
	}
	return class
}

// card is the profile as a card of a simulated pool.
func card(p gpu.Profile) string {
	law := p.Law.Law()
	fixed, perSecond := law.Line(p.Speech)
	line := map[string]any{"fixed_s": rounded(fixed.Seconds())}
	if perSecond > 0 {
		line["speed"] = rounded(1 / perSecond.Seconds())
	}
	text, err := json.Marshal(map[string]any{"class": p.Class, "law": line, "slots": max(1, p.Slots), "gain": law.GainMax})
	if err != nil {
		panic("calibrate: a card does not encode: " + err.Error())
	}
	return string(text)
}

// progress tells a person how far it is: on one line of a terminal, else at each tenth.
type progress struct {
	to       io.Writer
	terminal bool
	began    time.Time
	shown    int // percent
	open     bool
}

func newProgress(to io.Writer) *progress {
	p := &progress{to: to, began: time.Now(), shown: -1}
	if file, ok := to.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) show(done, total int) {
	step := 10
	if p.terminal {
		step = 1
	}
	percent := 100 * done / total / step * step
	if percent <= p.shown {
		return
	}
	p.shown = percent
	left := time.Duration(float64(time.Since(p.began)) / float64(done) * float64(total-done)).Round(time.Second)
	if !p.terminal {
		fmt.Fprintf(p.to, "measuring: %d of %d clips, about %v left\n", done, total, left)
		return
	}
	fmt.Fprintf(p.to, "\rmeasuring: %d of %d clips, about %v left   ", done, total, left)
	p.open = true
}

func (p *progress) note(text string) {
	p.end()
	fmt.Fprintf(p.to, "whisper-backend calibrate: %s\n", text)
}

func (p *progress) end() {
	if p.open {
		fmt.Fprintln(p.to)
		p.open = false
	}
}
