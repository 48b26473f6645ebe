package bench

import (
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Drawing is a column of charts that becomes one SVG. It has a white ground of its own, so that it
// can be read on dark pages too.
type Drawing struct {
	Title string
	Note  string // small, below the title
	parts []chart
}

// chart is a part of a drawing.
type chart interface {
	height() int
	draw(c *canvas)
}

// Add puts a chart below the others.
func (d *Drawing) Add(c chart) { d.parts = append(d.parts, c) }

const (
	drawingWidth = 760
	margin       = 24
	inkColor     = "#24292f"
	faintColor   = "#6e7781"
	gridColor    = "#e3e6ea"
	groundColor  = "#ffffff"
)

// seriesColors are told apart by people who see few colours, too; the first is for what the drawing
// is about.
var seriesColors = []string{"#0b62c4", "#d9730d", "#3a8f5c", "#8a4fbf", "#b0405f", "#6e7781"}

// SVG writes the drawing.
func (d *Drawing) SVG() []byte {
	top := 64
	if d.Note == "" {
		top = 48
	}
	total := top
	for _, p := range d.parts {
		total += p.height() + margin
	}
	c := &canvas{}
	fmt.Fprintf(&c.out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12">`+"\n",
		drawingWidth, total, drawingWidth, total)
	c.rect(0, 0, drawingWidth, float64(total), groundColor)
	fmt.Fprintf(&c.out, `<text x="%d" y="30" font-size="16" font-weight="600" fill="%s">%s</text>`+"\n", margin, inkColor, escaped(d.Title))
	if d.Note != "" {
		fmt.Fprintf(&c.out, `<text x="%d" y="50" fill="%s">%s</text>`+"\n", margin, faintColor, escaped(d.Note))
	}
	for _, p := range d.parts {
		fmt.Fprintf(&c.out, `<g transform="translate(0 %d)">`+"\n", top)
		p.draw(c)
		c.out.WriteString("</g>\n")
		top += p.height() + margin
	}
	c.out.WriteString("</svg>\n")
	return []byte(c.out.String())
}

// canvas collects the SVG's elements.
type canvas struct{ out strings.Builder }

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

func (c *canvas) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(&c.out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, max(0, w), max(0, h), color)
}

func (c *canvas) line(x1, y1, x2, y2, width float64, color string) {
	fmt.Fprintf(&c.out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.1f"/>`+"\n", x1, y1, x2, y2, color, width)
}

// text writes at a point; anchor is start, middle or end.
func (c *canvas) text(x, y float64, anchor, color, s string) {
	fmt.Fprintf(&c.out, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, color, escaped(s))
}

func (c *canvas) heading(y float64, s string) {
	fmt.Fprintf(&c.out, `<text x="%d" y="%.1f" font-size="13" font-weight="600" fill="%s">%s</text>`+"\n", margin, y, inkColor, escaped(s))
}

// Point is a place in a line chart, in the units of its axes.
type Point struct{ X, Y float64 }

// Series is a line.
type Series struct {
	Name   string
	Points []Point
	Dashed bool // for what is calculated, not measured
}

// Tick is a place on an axis that is named.
type Tick struct {
	At   float64
	Text string
}

// LineChart has lines over a horizontal axis whose ticks are given; the vertical one starts at 0.
type LineChart struct {
	Title  string // says what the vertical axis measures
	XTitle string
	XTicks []Tick // at least two, ascending; the first and the last are the axis's ends
	Lines  []Series
}

const (
	lineChartHeight = 300
	plotLeft        = 64.0
	plotTop         = 46.0
	plotBottom      = lineChartHeight - 44.0
)

func (LineChart) height() int { return lineChartHeight }

func (l LineChart) draw(c *canvas) {
	top := 0.0
	for _, s := range l.Lines {
		for _, p := range s.Points {
			top = max(top, p.Y)
		}
	}
	ticks := niceTicks(top)
	top = ticks[len(ticks)-1].At
	left, right := plotLeft, float64(drawingWidth-margin)
	from, to := l.XTicks[0].At, l.XTicks[len(l.XTicks)-1].At
	x := func(v float64) float64 { return left + (right-left)*(v-from)/(to-from) }
	y := func(v float64) float64 { return plotBottom - (plotBottom-plotTop)*v/top }
	c.heading(14, l.Title)
	for _, t := range ticks {
		c.line(left, y(t.At), right, y(t.At), 1, gridColor)
		c.text(left-8, y(t.At)+4, "end", faintColor, t.Text)
	}
	for _, t := range l.XTicks {
		c.line(x(t.At), plotBottom, x(t.At), plotBottom+4, 1, faintColor)
		c.text(x(t.At), plotBottom+18, "middle", faintColor, t.Text)
	}
	c.text((left+right)/2, plotBottom+36, "middle", faintColor, l.XTitle)
	legend := left
	for i, s := range l.Lines {
		color := seriesColors[i%len(seriesColors)]
		var path strings.Builder
		for j, p := range s.Points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x(p.X), y(p.Y))
		}
		dash := ""
		if s.Dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		fmt.Fprintf(&c.out, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", path.String(), color, dash)
		c.line(legend, 30, legend+18, 30, 2, color)
		c.text(legend+24, 34, "start", inkColor, s.Name)
		legend += 44 + 7*float64(len(s.Name))
	}
}

// Bar is a row of a bar chart.
type Bar struct {
	Name      string
	Value     float64
	Low, High float64 // of a whisker, when High is more than 0
	Text      string  // beside it
	Strong    bool    // what the chart is about
}

// BarChart has horizontal bars from 0, and a mark at one value where that means something.
type BarChart struct {
	Title string
	Bars  []Bar
	Mark  float64 // 0: none
}

const barStep = 24

func (b BarChart) height() int { return 26 + barStep*len(b.Bars) }

func (b BarChart) draw(c *canvas) {
	const nameWidth, textWidth = 190.0, 150.0
	top := b.Mark
	for _, bar := range b.Bars {
		top = max(top, bar.Value, bar.High)
	}
	if top == 0 {
		top = 1
	}
	left, right := margin+nameWidth, drawingWidth-margin-textWidth
	x := func(v float64) float64 { return left + (right-left)*v/top }
	c.heading(14, b.Title)
	for i, bar := range b.Bars {
		y := float64(26 + i*barStep)
		color := "#9aa4af"
		if bar.Strong {
			color = seriesColors[0]
		}
		c.text(left-8, y+14, "end", inkColor, bar.Name)
		c.rect(left, y+3, x(bar.Value)-left, barStep-8, color)
		if bar.High > 0 {
			c.line(x(bar.Low), y+11, x(bar.High), y+11, 1.5, inkColor)
			c.line(x(bar.Low), y+7, x(bar.Low), y+15, 1.5, inkColor)
			c.line(x(bar.High), y+7, x(bar.High), y+15, 1.5, inkColor)
		}
		c.text(max(x(bar.Value), x(bar.High))+8, y+14, "start", inkColor, bar.Text)
	}
	if b.Mark > 0 {
		c.line(x(b.Mark), 22, x(b.Mark), float64(26+barStep*len(b.Bars)), 1.5, seriesColors[1])
	}
}

// niceTicks are round numbers from 0 to at least top.
func niceTicks(top float64) []Tick {
	if !(top > 0) {
		top = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(top)))
	for _, part := range []float64{0.2, 0.25, 0.5, 1, 2} {
		if top/(step*part) <= 6 {
			step *= part
			break
		}
	}
	n := int(math.Ceil(top/step - 1e-9))
	var ticks []Tick
	for i := range n + 1 {
		v := float64(i) * step
		ticks = append(ticks, Tick{v, strconv.FormatFloat(math.Round(v*1e9)/1e9, 'g', -1, 64)})
	}
	return ticks
}
