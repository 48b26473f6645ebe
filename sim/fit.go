package sim

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/whisperpool/whisperpool/policies"
)

// LoadTest is the table of one deployment: bursts of equal recordings, each all at once.
type LoadTest struct {
	Name  string // deployment, card, model and note, as far as the file has them
	GPU   string
	Model string
	Audio float64 // seconds
	Rows  []LoadTestRow
}

// LoadTestRow is one burst: how many at once, and the mean and the 95th percentile of the response
// times in seconds; P95 is 0 where there is none.
type LoadTestRow struct {
	AtOnce    int
	Mean, P95 float64
}

// defaultClip is the recording of a load test that does not say, in seconds. It hardly matters: a fit
// knows one length only.
const defaultClip = 5

// loadTestColumns are those that a file must have; others are read if there, or ignored.
var loadTestColumns = []string{"concurrency", "mean_s"}

// ParseLoadTests reads tables of load tests: comma-separated, with a line of column names, of which
// concurrency and mean_s must be there, and p95_s, audio_s, deployment, gpu, workers, model and note
// may be. Lines that begin with # are comments. Rows that agree in all but the figures are one table.
func ParseLoadTests(text []byte) ([]LoadTest, error) {
	r := csv.NewReader(bufio.NewReader(bytes.NewReader(text)))
	r.Comment = '#'
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; it must have a line of column names, and rows")
	}
	if err != nil {
		return nil, err
	}
	column := map[string]int{}
	for i, name := range names {
		column[strings.TrimSpace(name)] = i
	}
	for _, name := range loadTestColumns {
		if _, ok := column[name]; !ok {
			return nil, fmt.Errorf("there is no column %s; the columns are %s", name, strings.Join(names, ", "))
		}
	}
	var tests []LoadTest
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if tests, err = addRow(tests, column, fields, line); err != nil {
			return nil, err
		}
	}
	if len(tests) == 0 {
		return nil, errors.New("the file has column names and no rows")
	}
	return tests, nil
}

func addRow(tests []LoadTest, column map[string]int, fields []string, line int) ([]LoadTest, error) {
	word := func(name string) string {
		if i, ok := column[name]; ok {
			return strings.TrimSpace(fields[i])
		}
		return ""
	}
	var bad error
	number := func(name string, must bool) float64 {
		text := word(name)
		if text == "" && !must {
			return 0
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !positive(x) {
			bad = errors.Join(bad, fmt.Errorf("line %d: %s is %q, must be a number above 0", line, name, text))
		}
		return x
	}
	row := LoadTestRow{Mean: number("mean_s", true), P95: number("p95_s", false)}
	atOnce := number("concurrency", true)
	row.AtOnce = int(atOnce)
	audio := number("audio_s", false)
	if audio == 0 {
		audio = defaultClip
	}
	if bad == nil && atOnce != float64(row.AtOnce) {
		bad = fmt.Errorf("line %d: concurrency is %v, must be a whole number", line, atOnce)
	}
	if bad != nil {
		return nil, bad
	}
	var parts []string
	for _, name := range []string{"deployment", "gpu", "model", "note"} {
		if w := word(name); w != "" {
			parts = append(parts, w)
		}
	}
	name := strings.Join(parts, ", ")
	i := slices.IndexFunc(tests, func(t LoadTest) bool { return t.Name == name && t.Audio == audio })
	if i < 0 {
		i = len(tests)
		tests = append(tests, LoadTest{Name: name, GPU: word("gpu"), Model: word("model"), Audio: audio})
	}
	tests[i].Rows = append(tests[i].Rows, row)
	return tests, nil
}

// Fit is the card that comes closest to a load test: so many slots that do not slow each other down,
// each taking Service seconds a job.
type Fit struct {
	Slots   int
	Service float64
	Error   float64 // root of the mean square of the logs of fitted / measured, weighted as fitted
}

// Card is the fit as a card of a pool.
func (f Fit) Card(name string, sigma float64) Card {
	return Card{Name: name, Law: &Law{Fixed: f.Service, Sigma: sigma}, Slots: f.Slots}
}

// Study simulates the load test on its fit, at every size of burst.
func (t LoadTest) Study(f Fit, sigma float64, seeds int) Study {
	st := Study{About: t.Name, Seeds: seeds, Scenario: Scenario{
		Policy: policies.Default, Told: ToldNothing, Model: defaultModel, Cards: []Card{f.Card("card", sigma)},
		Load: Load{Burst: 1}, Audio: Audio{Fixed: t.Audio}, WarmUp: defaultWarmUpPerSlot * f.Slots, Seed: 1,
	}}
	for _, row := range t.Rows {
		st.Levels = append(st.Levels, float64(row.AtOnce))
	}
	return st
}

// slotsFitted is the most slots that a fit tries.
const slotsFitted = 512

// Fit finds the card: of each number of slots the service time is the one that is right on average, in
// logarithms; the number is that with the least square error. A burst of N has the weight of the root of
// N, since the figures of few jobs are that much less sure.
func (t LoadTest) Fit() Fit {
	best := Fit{Error: math.Inf(1)}
	weight := func(row LoadTestRow) float64 { return math.Sqrt(float64(row.AtOnce)) }
	for slots := 1; slots <= slotsFitted; slots++ {
		var logs, weights []float64
		for _, row := range t.Rows {
			average, late := slotSchedule(slots, row.AtOnce)
			logs, weights = append(logs, math.Log(row.Mean/average)), append(weights, weight(row))
			if row.P95 > 0 {
				logs, weights = append(logs, math.Log(row.P95/late)), append(weights, weight(row))
			}
		}
		sum, total := 0.0, 0.0
		for i := range logs {
			sum, total = sum+weights[i]*logs[i], total+weights[i]
		}
		middle, square := sum/total, 0.0
		for i := range logs {
			square += weights[i] * (logs[i] - middle) * (logs[i] - middle)
		}
		if e := math.Sqrt(square / total); e < best.Error {
			best = Fit{Slots: slots, Service: math.Exp(middle), Error: e}
		}
	}
	return best
}

// slotSchedule is the mean and the 95th percentile of the finish times of a burst of n jobs on slots
// that take a second each.
func slotSchedule(slots, n int) (average, p95 float64) {
	last := func(k int) float64 { return float64((k + slots - 1) / slots) }
	for k := 1; k <= n; k++ {
		average += last(k) / float64(n)
	}
	return average, last(int(math.Ceil(0.95 * float64(n))))
}
