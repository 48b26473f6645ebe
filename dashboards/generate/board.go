package main

import "slices"

// object is a part of a dashboard's JSON.
type object = map[string]any

// board is a dashboard: rows of panels.
type board struct {
	uid, title, description string
	selects                 []object // variables behind data source, job, instance and pool
	rows                    []row
}

// row is a line of panels below a heading. The first of a board has no heading.
type row struct {
	title     string
	collapsed bool // for what not everybody has
	panels    []panel
}

// panel is an object of the dashboard's JSON, which [row.lay] gives a place.
type panel struct {
	width, height int
	object        object
}

const columns = 24 // of Grafana's grid

// The data source is a variable, since a fixed one would not be found where the dashboard is provisioned.
var datasource = object{"type": "prometheus", "uid": "${datasource}"}

func (b board) object() object {
	panels, y, id := []object{}, 0, 1
	for _, r := range b.rows {
		var some []object
		some, y = r.lay(y, &id)
		panels = append(panels, some...)
	}
	return object{
		"uid": b.uid, "title": b.title, "description": b.description, "tags": []string{"whisperpool"},
		"schemaVersion": 42, "version": 1, "editable": false, "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
		"time": object{"from": "now-1h", "to": "now"}, "timepicker": object{}, "fiscalYearStartMonth": 0, "preload": false,
		"panels": panels, "templating": object{"list": slices.Concat(everywhere(), b.selects)},
		"annotations": object{"list": []object{breakers(b.selection())}}, "links": b.links(),
	}
}

// lay places each panel as high as it can be, and there as far left.
func (r row) lay(y int, id *int) (out []object, end int) {
	place := func(o object, x, y, w, h int) object {
		o["id"], o["gridPos"] = *id, object{"x": x, "y": y, "w": w, "h": h}
		*id++
		return o
	}
	var heading object
	if r.title != "" {
		heading = place(object{"type": "row", "title": r.title, "collapsed": r.collapsed, "panels": []object{}}, 0, y, columns, 1)
		out = append(out, heading)
		y++
	}
	var taken [columns]int // down to where each column is
	for x := range taken {
		taken[x] = y
	}
	var inside []object
	for _, p := range r.panels {
		at, top := 0, slices.Max(taken[:])
		for x := range columns - p.width + 1 {
			if high := slices.Max(taken[x : x+p.width]); high < top {
				at, top = x, high
			}
		}
		inside = append(inside, place(p.object, at, top, p.width, p.height))
		for x := at; x < at+p.width; x++ {
			taken[x] = top + p.height
		}
	}
	if r.collapsed {
		heading["panels"] = inside
		return out, y
	}
	return append(out, inside...), slices.Max(taken[:])
}

// links lead to the other dashboards, with the choices that were made here.
func (b board) links() []object {
	return []object{{
		"type": "dashboards", "tags": []string{"whisperpool"}, "title": "whisperpool", "asDropdown": false, "icon": "external link",
		"includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "The other dashboards, with the same choices", "url": "",
	}, {
		"type": "link", "tags": []string{}, "title": "Runbook", "asDropdown": false, "icon": "doc",
		"includeVars": false, "keepTime": false, "targetBlank": true, "tooltip": "What to do when an alert fires", "url": runbook,
	}}
}

const runbook = "https://github.com/whisperpool/whisperpool/blob/main/docs/runbook.md"

// everywhere are the variables of every dashboard. None has a current value but All, since it would be that of whoever exported it.
func everywhere() []object {
	return []object{
		{"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0, "includeAll": false, "multi": false, "options": []object{}, "refresh": 1, "regex": ""},
		choice("job", "Job", `whisperpool_build_info`, true),
		choice("instance", "Instance", `whisperpool_build_info{job=~"$job"}`, true),
		choice("pool", "Pool", `whisperpool_queue_depth{job=~"$job", instance=~"$instance"}`, true),
	}
}

// choice is a variable with the values of a label that the series have.
func choice(name, label, series string, many bool) object {
	query := "label_values(" + series + ", " + name + ")"
	o := object{
		"type": "query", "name": name, "label": label, "datasource": datasource, "definition": query,
		"query": object{"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery", "qryType": 1},
		"hide":  0, "options": []object{}, "refresh": 2, "regex": "", "sort": 1, "multi": many, "includeAll": many,
	}
	if many {
		o["allValue"], o["current"] = ".+", object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}}
	}
	return o
}

// selection is what {$} stands for in the dashboard's queries.
func (b board) selection() string {
	s := `job=~"$job", instance=~"$instance", pool=~"$pool"`
	for _, v := range b.selects {
		name := v["name"].(string)
		s += ", " + name + `=~"$` + name + `"`
	}
	return s
}

// breakers marks the moments at which a backend was left alone or taken back.
func breakers(selection string) object {
	return object{
		"name": "Breakers", "enable": true, "hide": false, "datasource": datasource, "iconColor": "orange",
		"expr":        `sum by (pool, upstream, verdict, cause) (increase(whisperpool_breaker_transitions_total{` + selection + `, verdict=~"opened|closed"}[$__rate_interval])) > 0`,
		"titleFormat": "{{upstream}} {{verdict}}", "textFormat": "{{cause}}", "tagKeys": "pool,upstream,verdict", "step": "",
		"target": object{"refId": "Anno", "limit": 100, "matchAny": false, "tags": []string{}, "type": "tags"},
	}
}
