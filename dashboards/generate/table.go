package main

import (
	"maps"
	"slices"
)

// column is one of a table: a label, or the value of a query.
type column struct {
	name   string // its heading
	label  string // of the series, else
	expr   string // an instant query
	unit   string
	text   bool // the query's value is 1, and a label of it is what counts
	width  int
	look   []object // more properties
	digits any
}

// table is a panel with a row for each combination of labels. All queries have the labels of the first columns.
func (b board) table(width, height int, title, description string, columns ...column) panel {
	var queries []query
	rename, order, hide := object{}, object{}, object{"Time": true}
	overrides := []object{}
	for i, c := range columns {
		field := c.label
		if c.expr != "" {
			queries = append(queries, query{expr: c.expr})
			value := "Value #" + string(rune('A'+len(queries)-1))
			if c.text {
				hide[value] = true
			} else {
				field = value
			}
		}
		rename[field], order[field] = c.name, i
		properties := []object{}
		if c.unit != "" {
			properties = append(properties, object{"id": "unit", "value": c.unit})
		}
		if c.digits != nil {
			properties = append(properties, object{"id": "decimals", "value": c.digits})
		}
		if c.width > 0 {
			properties = append(properties, object{"id": "custom.width", "value": c.width})
		}
		if properties = append(properties, c.look...); len(properties) > 0 {
			overrides = append(overrides, object{"matcher": object{"id": "byName", "options": c.name}, "properties": properties})
		}
	}
	p := b.panel("table", width, height, title, description, queries)
	p.object["transformations"] = []object{
		{"id": "merge", "options": object{}},
		{"id": "organize", "options": object{"excludeByName": hide, "indexByName": order, "renameByName": rename, "includeByName": object{}}},
	}
	p.object["fieldConfig"] = object{"overrides": overrides, "defaults": object{
		"unit": "short", "mappings": []object{}, "links": []object{}, "color": object{"mode": "thresholds"},
		"thresholds": object{"mode": "absolute", "steps": []object{{"color": "text", "value": nil}}},
		"custom":     object{"align": "auto", "cellOptions": object{"type": "auto"}, "inspect": false, "filterable": false},
	}}
	p.object["options"] = object{"frameIndex": 0, "showHeader": true, "cellHeight": "sm", "sortBy": []object{}, "footer": object{"show": false, "reducer": []string{"sum"}, "fields": "", "countRows": false}}
	return p
}

// colored shows a table's cell in the color of its value, and mapped in those of its words.
func colored(steps ...object) []object {
	return []object{
		{"id": "custom.cellOptions", "value": object{"type": "color-text"}},
		{"id": "thresholds", "value": object{"mode": "absolute", "steps": steps}},
	}
}

func mapped(colors map[string]string) []object {
	options := object{}
	for i, word := range sorted(colors) {
		options[word] = object{"color": colors[word], "index": i, "text": word}
	}
	return []object{
		{"id": "custom.cellOptions", "value": object{"type": "color-text"}},
		{"id": "mappings", "value": []object{{"type": "value", "options": options}}},
	}
}

func step(color string, at any) object { return object{"color": color, "value": at} }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
