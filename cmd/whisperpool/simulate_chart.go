package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"

	"github.com/whisperpool/whisperpool/sim"
)

// The measures of the chart, in pixels.
const (
	chartLabel  = 210 // for the names
	chartCell   = 128 // for one level
	chartBar    = 74  // of a cell: for the longest bar
	chartRow    = 19
	chartMargin = 16
	chartTop    = 66
	chartGap    = 50 // between the two panels
	// barsTo is the ratio at which a bar ends, whatever it is beyond.
	barsTo = 8.0
)

// The chart's colours: ours, told all, the others; text, small text and whiskers.
const (
	chartOurs   = "#0b62c4"
	chartBest   = "#7fb2e5"
	chartOther  = "#b4bac2"
	chartInk    = "#24292f"
	chartFaint  = "#6e7781"
	chartGround = "#ffffff"
)

// compareChart draws two panels, a row for each rival and a column for each level: the mean as a
// multiple of the bound, and the 99th percentile as a multiple of ours. Bars grow with the logarithm.
func compareChart(st sim.Study, outcomes []sim.Outcomes) []byte {
	rivals := len(outcomes) / len(st.Levels)
	panel := chartRow * (rivals + 1)
	width := chartLabel + chartCell*len(st.Levels) + 2*chartMargin
	height := chartTop + 2*panel + chartGap + 2*chartMargin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="%s"/>`+"\n", width, height, chartGround)
	write(&b, chartMargin, 26, 15, chartInk, "600", chartTitle(st))
	tails := func(o sim.Outcomes) sim.Spread { return o.Of(p99Of) }
	drawPanel(&b, chartTop, "Mean response time, times the least possible", st, outcomes, rivals,
		func(o sim.Outcomes, _ sim.Outcomes) sim.Spread { return o.Of(ratioOf) }, ratioText)
	drawPanel(&b, chartTop+panel+chartGap, "99th percentile of the response time, in seconds; bars against ours", st, outcomes, rivals,
		func(o, ours sim.Outcomes) sim.Spread {
			s, base := tails(o), tails(ours).Median
			return sim.Spread{Median: s.Median / base, Low: s.Low / base, High: s.High / base}
		}, func(o sim.Outcomes) string { return seconds(tails(o).Median) })
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func chartTitle(st sim.Study) string {
	if st.Recorded != nil {
		return "Pool: " + st.Pool()
	}
	return "Pool: " + st.Pool() + ", by " + st.Load.Word()
}

func ratioText(o sim.Outcomes) string { return fmt.Sprintf("%.2f", o.Of(ratioOf).Median) }

// drawPanel draws one of them; value gives a bar's length, given what it measures for the first rival too.
func drawPanel(b *strings.Builder, top int, title string, st sim.Study, outcomes []sim.Outcomes, rivals int,
	value func(o, ours sim.Outcomes) sim.Spread, text func(o sim.Outcomes) string) {
	write(b, chartMargin, top-18, 12, chartFaint, "400", title)
	for column, level := range st.Levels {
		x := chartMargin + chartLabel + column*chartCell
		label := fmt.Sprintf("%.4g", level)
		if st.Recorded != nil {
			label = "recorded jobs"
		}
		write(b, x, top+8, 12, chartInk, "600", label)
		ours := outcomes[column*rivals]
		for row := range rivals {
			o := outcomes[column*rivals+row]
			y := top + chartRow*(row+1)
			if column == 0 {
				write(b, chartMargin, y+10, 12, chartInk, weight(row), o.Rival.Name())
			}
			s := value(o, ours)
			fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="11" rx="1.5" fill="%s"/>`+"\n", x, y, barLength(s.Median), colour(o, row))
			if s.High > s.Low {
				fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n",
					float64(x)+barLength(s.Low), float64(y)+5.5, float64(x)+barLength(s.High), float64(y)+5.5, chartInk)
			}
			write(b, x+int(max(barLength(s.Median), barLength(s.High)))+5, y+10, 11, chartInk, weight(row), text(o))
		}
	}
}

// barLength is a stub for 1 and all there is for barsTo.
func barLength(ratio float64) float64 {
	if math.IsNaN(ratio) || ratio <= 0 {
		return 0
	}
	const stub = 3
	return stub + (chartBar-stub)*min(1, max(0, math.Log(ratio)/math.Log(barsTo)))
}

func colour(o sim.Outcomes, row int) string {
	switch {
	case row == 0:
		return chartOurs
	case o.Rival.Told == sim.ToldLaw:
		return chartBest
	}
	return chartOther
}

func weight(row int) string {
	if row == 0 {
		return "600"
	}
	return "400"
}

func write(b *strings.Builder, x, y, size int, fill, weight, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" font-size="%d" font-weight="%s" fill="%s">`, x, y, size, weight, fill)
	_ = xml.EscapeText(b, []byte(text)) // a Builder takes everything
	b.WriteString("</text>\n")
}
