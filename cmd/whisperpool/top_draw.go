package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// topStatus is what top reads of GET /whisper_pool/pools. Times are in seconds.
type topStatus struct {
	Time  time.Time `json:"time"`
	Pools []topPool `json:"pools"`
}

type topPool struct {
	Name       string         `json:"name"`
	Policy     string         `json:"policy"`
	Queued     int            `json:"queued"`
	OldestWait float64        `json:"oldest_wait"`
	Running    int            `json:"running"`
	Slots      int            `json:"slots"`
	Backends   []topBackend   `json:"backends"`
	Waiting    []topWaiting   `json:"waiting"`
	Placements []topPlacement `json:"placements"`
	History    struct {
		Every   float64   `json:"every"`
		Queued  []float64 `json:"queued"`
		Running []float64 `json:"running"`
		Served  []float64 `json:"served"`
	} `json:"history"`
}

type topBackend struct {
	ID     string `json:"id"`
	Class  string `json:"class"`
	State  string `json:"state"`
	Why    string `json:"why"`
	Slots  int    `json:"slots"`
	Served uint64 `json:"served"`
	Failed uint64 `json:"failed"`
	Speeds []struct {
		Model      string  `json:"model"`
		TenSeconds float64 `json:"ten_seconds"`
	} `json:"speeds"`
	Jobs []struct {
		For       float64 `json:"for"`
		Predicted float64 `json:"predicted"`
	} `json:"jobs"`
}

type topWaiting struct {
	Model    string  `json:"model"`
	Audio    float64 `json:"audio"`
	Priority string  `json:"priority"`
	Waited   float64 `json:"waited"`
	Backend  string  `json:"backend"`
	StartsIn float64 `json:"starts_in"`
	EndsIn   float64 `json:"ends_in"`
}

type topPlacement struct {
	At      time.Time `json:"at"`
	Model   string    `json:"model"`
	Audio   float64   `json:"audio"`
	Backend string    `json:"backend"`
	InWords string    `json:"in_words"`
	Queued  float64   `json:"queued"`
	Took    float64   `json:"took"`
	Running bool      `json:"running"`
	Outcome string    `json:"outcome"`
	Result  string    `json:"result"`
}

// How much of the queue and of the placements is drawn.
const (
	topWaitingMax    = 10
	topPlacementsMax = 10
)

// paint colours text, or leaves it as it is.
type paint bool

func (p paint) in(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) good(text string) string { return p.in("32", text) }
func (p paint) odd(text string) string  { return p.in("33", text) }
func (p paint) bad(text string) string  { return p.in("1;31", text) }
func (p paint) dim(text string) string  { return p.in("2", text) }
func (p paint) head(text string) string { return p.in("1", text) }

// state colours the state of a backend as the status page does.
func (p paint) state(state, text string) string {
	switch state {
	case "up":
		return p.good(text)
	case "down", "open":
		return p.bad(text)
	}
	return p.odd(text)
}

// drawStatus are the lines that show the pools.
func drawStatus(s topStatus, pen paint) []string {
	lines := []string{pen.head("whisperpool") + "  " + s.Time.Local().Format(time.TimeOnly)}
	if len(s.Pools) == 0 {
		lines = append(lines, "", "No pool is configured.")
	}
	for _, pool := range s.Pools {
		lines = append(lines, "", fmt.Sprintf("%s  %s", pen.head(printable(pool.Name)), pen.dim(pool.Policy)))
		lines = append(lines, pool.counts(pen)...)
		lines = append(append(lines, ""), pool.backends(pen)...)
		lines = append(append(lines, ""), pool.waiting(pen)...)
		lines = append(append(lines, ""), pool.placements(pen)...)
	}
	return lines
}

func (p *topPool) counts(pen paint) []string {
	h := p.History
	served, minute := 0.0, h.Served[max(0, len(h.Served)-12):]
	for _, n := range minute {
		served += n
	}
	if len(minute) > 0 && h.Every > 0 {
		served *= 60 / (h.Every * float64(len(minute)))
	}
	oldest := "nobody waits"
	if p.Queued > 0 {
		oldest = "for " + inWords(p.OldestWait) + " at most"
	}
	return []string{
		fmt.Sprintf("running %6s  %s", fmt.Sprintf("%d/%d", p.Running, p.Slots), pen.dim(spark(append(h.Running, float64(p.Running)), float64(p.Slots)))),
		fmt.Sprintf("waiting %6d  %s  %s", p.Queued, pen.dim(spark(append(h.Queued, float64(p.Queued)), 1)), oldest),
		fmt.Sprintf("served  %6.0f  %s  a minute", served, pen.dim(spark(h.Served, 1))),
	}
}

func (p *topPool) backends(pen paint) []string {
	rows := [][]string{{"BACKEND", "CLASS", "STATE", "SLOTS", "10 S TAKE", "SERVED", "FAILED", ""}}
	for _, b := range p.Backends {
		speed := ""
		if len(b.Speeds) > 0 {
			least := b.Speeds[0].TenSeconds
			for _, s := range b.Speeds {
				least = min(least, s.TenSeconds)
			}
			speed = fmt.Sprintf("%.2f s", least)
		}
		rows = append(rows, []string{b.ID, b.Class, b.State, b.slots(), speed, fmt.Sprint(b.Served), fmt.Sprint(b.Failed), b.Why})
	}
	return table(rows, pen, func(row, column int, text string) string {
		switch column {
		case 2, 7:
			return pen.state(p.Backends[row].State, text)
		case 3:
			return strings.ReplaceAll(text, "!", pen.odd("!"))
		}
		return text
	})
}

// slots draws each slot as a character.
func (b *topBackend) slots() string {
	var out strings.Builder
	for _, j := range b.Jobs {
		switch {
		case j.Predicted <= 0:
			out.WriteRune('?')
		case j.For > j.Predicted:
			out.WriteRune('!')
		default:
			out.WriteRune(bars[min(len(bars)-1, int(j.For/j.Predicted*float64(len(bars))))])
		}
	}
	for i := len(b.Jobs); i < b.Slots; i++ {
		out.WriteRune('·')
	}
	return out.String()
}

func (p *topPool) waiting(pen paint) []string {
	if len(p.Waiting) == 0 {
		return []string{pen.dim("Nothing waits.")}
	}
	rows := [][]string{{"WAITS", "MODEL", "AUDIO", "PRIORITY", "STARTS IN", "DONE IN", "WHERE"}}
	for _, w := range p.Waiting[:min(len(p.Waiting), topWaitingMax)] {
		starts, ends, where := "not known", "not known", "nobody yet"
		if w.Backend != "" {
			starts, ends, where = inWords(w.StartsIn), inWords(w.EndsIn), w.Backend
		}
		rows = append(rows, []string{inWords(w.Waited), w.Model, inWords(w.Audio), w.Priority, starts, ends, where})
	}
	lines := table(rows, pen, nil)
	if more := p.Queued - len(rows) + 1; more > 0 {
		lines = append(lines, pen.dim(fmt.Sprintf("and %d more", more)))
	}
	return lines
}

func (p *topPool) placements(pen paint) []string {
	if len(p.Placements) == 0 {
		return []string{pen.dim("Nothing was placed yet.")}
	}
	rows := [][]string{{"PLACED", "ON", "AUDIO", "WAITED", "TOOK", "", "WHY THERE"}}
	for _, one := range p.Placements[:min(len(p.Placements), topPlacementsMax)] {
		outcome := one.Outcome
		switch {
		case one.Running:
			outcome = "runs"
		case outcome == "" && one.Result == "success":
			outcome = "served"
		case outcome == "":
			outcome = one.Result + ", waits again"
		}
		rows = append(rows, []string{one.At.Local().Format(time.TimeOnly), one.Backend, inWords(one.Audio), inWords(one.Queued), inWords(one.Took), outcome, one.InWords})
	}
	return table(rows, pen, func(_, column int, text string) string {
		if word := strings.TrimSpace(text); column == 5 && word != "served" && word != "runs" {
			return pen.bad(text)
		}
		return text
	})
}

// table aligns rows under the first, which is their head. Each cell is coloured, if at all, after it has its width.
func table(rows [][]string, pen paint, colour func(row, column int, text string) string) []string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
			widths[i] = max(widths[i], len([]rune(row[i])))
		}
	}
	lines := make([]string, len(rows))
	for r, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			text += strings.Repeat(" ", widths[i]-len([]rune(text)))
			switch {
			case r == 0:
				text = pen.dim(text)
			case colour != nil:
				text = colour(r-1, i, text)
			}
			cells[i] = text
		}
		lines[r] = strings.TrimRight(strings.Join(cells, "  "), " ")
	}
	return lines
}

// printable has nothing in it that a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkWidth is how many characters a curve takes; each shows the most of its samples.
const sparkWidth = 30

// spark draws samples, the newest at the right, above zero and up to the most of them, or least if that is more.
func spark(samples []float64, least float64) string {
	const each = 4 // samples a character: ten minutes in all
	most := max(1, least)
	for _, v := range samples {
		most = max(most, v)
	}
	var out []rune
	for end := len(samples); end > 0 && len(out) < sparkWidth; end -= each {
		peak := slices.Max(samples[max(0, end-each):end])
		out = append(out, bars[min(len(bars)-1, int(peak/most*float64(len(bars)-1)+0.5))])
	}
	slices.Reverse(out)
	return strings.Repeat(" ", sparkWidth-len(out)) + string(out)
}

// inWords is a time in seconds as a person would say it.
func inWords(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case seconds < 9.95:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 99.5:
		return fmt.Sprintf("%.0f s", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
