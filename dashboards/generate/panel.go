package main

import (
	"cmp"
	"regexp"
	"strings"
)

// looks are what a panel has beside its queries.
type looks struct {
	unit    string
	stack   bool
	percent bool // stacked, as shares
	steps   bool // for what jumps
	bars    bool
	least   any // lower end of the axis; nil: by the data
	most    any
	line    []float64 // dashed lines where it gets bad: at the second, if there is one, it is red
	decimal any
	colors  map[string]string // of series, by name
	links   []object
	none    string // instead of a number, where there is none; without it a dash
	dashed  string // a regular expression: series that are drawn so
	right   bool   // the legend beside the picture, as a table
	calcs   []string
}

// query is a query and how its series are called. In expr {$} stands for the selection of the dashboard.
type query struct{ expr, legend string }

// quantile is one of a histogram, by labels, from its classic buckets or, where these are not scraped, from the native ones.
func quantile(q, metric, by, more string) string {
	series, le := metric, "le"
	if by != "" {
		le += ", " + by
	}
	classic := "histogram_quantile(" + q + ", sum by (" + le + ") (rate(" + series + "_bucket{$" + more + "}[$__rate_interval])))"
	native := "histogram_quantile(" + q + ", sum by (" + by + ") (rate(" + series + "{$" + more + "}[$__rate_interval])))"
	return classic + " or " + native
}

// total is the rate of the sum of a histogram, by labels, in both forms; [count] that of its count.
func total(metric, by, more string) string { return part("sum", metric, by, more, "$__rate_interval") }

func count(metric, by, more string) string {
	return part("count", metric, by, more, "$__rate_interval")
}

func part(what, metric, by, more, window string) string {
	return "(sum by (" + by + ") (rate(" + metric + "_" + what + "{$" + more + "}[" + window + "])) or " +
		"sum by (" + by + ") (histogram_" + what + "(rate(" + metric + "{$" + more + "}[" + window + "]))))"
}

var selected = regexp.MustCompile(`\{\$([^}]*)\}`)

// in writes out the selection.
func (b board) in(expr string) string {
	return selected.ReplaceAllString(expr, "{"+strings.ReplaceAll(b.selection(), "$", "$$")+"$1}")
}

// ofPools is for metrics that have no class: of the selection only job, instance and pool are kept.
func ofPools(expr string) string {
	return selected.ReplaceAllString(expr, `{`+strings.ReplaceAll(board{}.selection(), "$", "$$")+`$1}`)
}

func (b board) targets(table bool, queries []query) []object {
	var out []object
	for i, q := range queries {
		t := object{"refId": string(rune('A' + i)), "datasource": datasource, "expr": b.in(q.expr), "legendFormat": q.legend, "editorMode": "code"}
		if table {
			t["format"], t["instant"], t["range"] = "table", true, false
		} else {
			t["range"], t["instant"] = true, false
		}
		out = append(out, t)
	}
	return out
}

// panel is what all kinds of panels have.
func (b board) panel(kind string, width, height int, title, description string, queries []query) panel {
	return panel{width, height, object{
		"type": kind, "title": title, "description": description, "datasource": datasource,
		"targets": b.targets(kind == "table", queries), "transparent": false,
	}}
}

func thresholds(look looks) object {
	steps := []object{{"color": "green", "value": nil}}
	colors := []string{"orange", "red"}
	if len(look.line) == 1 {
		colors = colors[1:]
	}
	for i, at := range look.line {
		steps = append(steps, object{"color": colors[i], "value": at})
	}
	return object{"mode": "absolute", "steps": steps}
}

func (look looks) defaults() object {
	d := object{"unit": look.unit, "thresholds": thresholds(look), "mappings": []object{}, "links": []object{}}
	if look.links != nil {
		d["links"] = look.links
	}
	for name, value := range map[string]any{"min": look.least, "max": look.most, "decimals": look.decimal} {
		if value != nil {
			d[name] = value
		}
	}
	return d
}

func (look looks) overrides() []object {
	out := []object{}
	for _, name := range sorted(look.colors) {
		out = append(out, object{
			"matcher":    object{"id": "byName", "options": name},
			"properties": []object{{"id": "color", "value": object{"mode": "fixed", "fixedColor": look.colors[name]}}},
		})
	}
	if look.dashed != "" {
		out = append(out, object{
			"matcher": object{"id": "byRegexp", "options": "/" + look.dashed + "/"},
			"properties": []object{
				{"id": "custom.lineStyle", "value": object{"fill": "dash", "dash": []int{8, 6}}}, {"id": "custom.fillOpacity", "value": 0},
			},
		})
	}
	return out
}

// graph is a panel with time from left to right.
func (b board) graph(width, height int, title, description string, look looks, queries ...query) panel {
	p := b.panel("timeseries", width, height, title, description, queries)
	draw := object{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "gradientMode": "none", "lineInterpolation": "linear", "showPoints": "never",
		"pointSize": 5, "spanNulls": false, "axisPlacement": "auto", "axisLabel": "", "scaleDistribution": object{"type": "linear"},
		"stacking": object{"mode": "none", "group": "A"}, "thresholdsStyle": object{"mode": "off"}, "axisBorderShow": false, "axisColorMode": "text",
		"barAlignment": 0, "hideFrom": object{"legend": false, "tooltip": false, "viz": false}, "insertNulls": false, "axisCenteredZero": false,
	}
	if len(queries) > 1 { // filled lines over each other are mud
		draw["fillOpacity"] = 0
	}
	if look.stack || look.percent {
		draw["fillOpacity"], draw["lineWidth"], draw["stacking"] = 60, 0, object{"mode": "normal", "group": "A"}
	}
	if look.percent {
		draw["stacking"] = object{"mode": "percent", "group": "A"}
	}
	if look.steps {
		draw["lineInterpolation"] = "stepAfter"
	}
	if look.bars {
		draw["drawStyle"], draw["fillOpacity"], draw["lineWidth"] = "bars", 80, 0
	}
	if look.line != nil {
		draw["thresholdsStyle"] = object{"mode": "dashed"}
	}
	defaults := look.defaults()
	defaults["custom"], defaults["color"] = draw, object{"mode": "palette-classic"}
	legend := object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}}
	if look.right {
		legend["displayMode"], legend["placement"] = "table", "right"
	}
	if look.calcs != nil {
		legend["calcs"] = look.calcs
	}
	p.object["fieldConfig"] = object{"defaults": defaults, "overrides": look.overrides()}
	p.object["options"] = object{"legend": legend, "tooltip": object{"mode": "multi", "sort": "desc", "hideZeros": false}}
	return p
}

// number is a panel with the last value of one series, or of a few.
func (b board) number(width, height int, title, description string, look looks, queries ...query) panel {
	p := b.panel("stat", width, height, title, description, queries)
	defaults := look.defaults()
	defaults["color"], defaults["noValue"] = object{"mode": "thresholds"}, cmp.Or(look.none, "–")
	p.object["fieldConfig"] = object{"defaults": defaults, "overrides": look.overrides()}
	p.object["options"] = object{
		"reduceOptions": object{"values": false, "calcs": []string{"last"}, "fields": ""}, "orientation": "auto", "textMode": "auto",
		"wideLayout": true, "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "showPercentChange": false, "percentChangeColorMode": "standard",
	}
	return p
}

// bars is a panel with a bar for each series.
func (b board) bars(width, height int, title, description string, look looks, queries ...query) panel {
	p := b.panel("bargauge", width, height, title, description, queries)
	defaults := look.defaults()
	defaults["color"] = object{"mode": "fixed", "fixedColor": "blue"}
	p.object["fieldConfig"] = object{"defaults": defaults, "overrides": look.overrides()}
	p.object["options"] = object{
		"reduceOptions": object{"values": false, "calcs": []string{"lastNotNull"}, "fields": ""}, "orientation": "horizontal", "displayMode": "basic",
		"valueMode": "color", "namePlacement": "auto", "showUnfilled": true, "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
		"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": []string{}},
	}
	return p
}
