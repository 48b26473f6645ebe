// Package dashboards_test holds the rules that Grafana's dashboard linter has, and more: that queries name metrics that
// exist, and that alerts lead to a page that says what to do. What needs Prometheus's own programs is skipped without
// them (scripts/test-env.sh tells where they are).
package dashboards_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type datasource struct{ Type, UID string }

type target struct {
	RefID        string
	Datasource   datasource
	Expr         string
	LegendFormat string
	Instant      bool
}

type link struct{ Title, URL string }

type property struct {
	ID    string
	Value json.RawMessage
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	Panels                   []panel
	Datasource               datasource
	Targets                  []target
	GridPos                  struct{ X, Y, W, H int }
	Options                  struct{ TextMode string }
	FieldConfig              struct {
		Defaults struct {
			Unit  string
			Links []link
		}
		Overrides []struct{ Properties []property }
	}
}

type variable struct {
	Name, Label, Type, AllValue string
	Datasource                  datasource
	Query                       json.RawMessage
	Current                     struct{ Text, Value []string }
	Refresh                     int
	Multi, IncludeAll           bool
}

type dashboard struct {
	file          string
	UID, Title    string
	ID            *int
	Tags          []string
	SchemaVersion int
	Editable      bool
	Inputs        json.RawMessage `json:"__inputs"`
	Panels        []panel
	Templating    struct{ List []variable }
	Annotations   struct {
		List []struct {
			Name, Expr string
			Datasource datasource
		}
	}
}

func dashboards(t *testing.T) (all []dashboard) {
	t.Helper()
	files, err := filepath.Glob("*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v: %v; three dashboards are expected", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: file}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// panels are all that draw something, also in collapsed rows.
func (d dashboard) panels() (all []panel) {
	for _, p := range d.Panels {
		if p.Type == "row" {
			all = append(all, p.Panels...)
			continue
		}
		all = append(all, p)
	}
	return all
}

var throughVariable = datasource{"prometheus", "${datasource}"}

// TestLint has the rules of Grafana's dashboard-linter, and what keeps a dashboard importable by hand, by provisioning and
// by a sidecar: no inputs, no number, a data source that is a variable everywhere.
func TestLint(t *testing.T) {
	for _, d := range dashboards(t) {
		if d.SchemaVersion != 42 || d.Editable || d.ID != nil || d.Inputs != nil {
			t.Errorf("%s: schema %d, editable %v, id %v, inputs %s", d.file, d.SchemaVersion, d.Editable, d.ID, d.Inputs)
		}
		if d.UID+".json" != d.file || len(d.UID) > 40 || !slices.Contains(d.Tags, "whisperpool") {
			t.Errorf("%s: uid %q, tags %q", d.file, d.UID, d.Tags)
		}
		lintVariables(t, d)
		for _, a := range d.Annotations.List {
			if a.Datasource != throughVariable {
				t.Errorf("%s: the annotation %s has the data source %v", d.file, a.Name, a.Datasource)
			}
			lintQuery(t, d.file, a.Name, a.Expr)
		}
		titles := map[string]bool{}
		for _, p := range d.panels() {
			if titles[p.Title] {
				t.Errorf("%s: two panels %q", d.file, p.Title)
			}
			titles[p.Title] = true
			lintPanel(t, d.file, p)
		}
		lintPlaces(t, d)
	}
}

func lintVariables(t *testing.T, d dashboard) {
	t.Helper()
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		all := slices.Equal(v.Current.Value, []string{"$__all"}) && slices.Equal(v.Current.Text, []string{"All"})
		if v.Label == "" || all != v.IncludeAll || len(v.Current.Value) > 1 {
			t.Errorf("%s: the variable %s has the label %q and the value %v", d.file, v.Name, v.Label, v.Current)
		}
		switch {
		case v.Type == "datasource":
			if v.Name != "datasource" || v.Label != "Data source" {
				t.Errorf("%s: the data source is the variable %s", d.file, v.Name)
			}
		case v.Datasource != throughVariable || v.Refresh != 2:
			t.Errorf("%s: the variable %s: %+v", d.file, v.Name, v)
		case v.Name == "job" || v.Name == "instance" || v.Name == "pool":
			if !v.Multi || !v.IncludeAll || v.AllValue != ".+" {
				t.Errorf("%s: the variable %s does not take all: %+v", d.file, v.Name, v)
			}
		}
	}
	if want := []string{"datasource", "job", "instance", "pool"}; len(names) < 4 || !slices.Equal(names[:4], want) {
		t.Errorf("%s: variables %v", d.file, names)
	}
}

func lintPanel(t *testing.T, file string, p panel) {
	t.Helper()
	where := file + ", " + p.Title
	if p.Title == "" || len(p.Description) < 20 || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource != throughVariable {
		t.Errorf("%s: description %q, unit %q, %d targets, data source %v", where, p.Description, p.FieldConfig.Defaults.Unit, len(p.Targets), p.Datasource)
	}
	for _, q := range p.Targets {
		if q.Datasource != throughVariable || q.LegendFormat == "" && p.Type != "table" || q.Instant != (p.Type == "table" || p.Options.TextMode == "name") {
			t.Errorf("%s: %+v", where, q)
		}
		lintQuery(t, file, p.Title, q.Expr)
	}
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})`)
	window   = regexp.MustCompile(`\[([^\]]*)\]`)
	ranged   = regexp.MustCompile(`(rate|increase)\($`)
	foreign  = regexp.MustCompile(`^(DCGM_|whisper_backend_|whisperpool:)`)
)

// lintQuery: a query selects job and instance, counters only rise, and windows go with the scrape interval, where they are
// not meant to be longer.
func lintQuery(t *testing.T, file, title, expr string) {
	t.Helper()
	where := file + ", " + title
	for _, at := range selector.FindAllStringSubmatchIndex(expr, -1) {
		name, labels := expr[at[2]:at[3]], expr[at[4]:at[5]]
		if !foreign.MatchString(name) && (!strings.Contains(labels, `job=~"$job", instance=~"$instance"`) || !strings.Contains(labels, `pool=~"$pool"`)) {
			t.Errorf("%s: %s%s selects no job, instance or pool", where, name, labels)
		}
		if rises := regexp.MustCompile(`_(total|bucket|sum|count)$`).MatchString(name); rises && !ranged.MatchString(expr[:at[0]]) {
			t.Errorf("%s: %s is a counter, and neither under rate nor under increase", where, name)
		}
	}
	for _, w := range window.FindAllStringSubmatch(expr, -1) {
		if !slices.Contains([]string{"$__rate_interval", "$__rate_interval:", "$__range", "15m"}, w[1]) {
			t.Errorf("%s: the window %s is none of those that are known", where, w[1])
		}
	}
}

// lintPlaces: no panel lies over another, and none is outside of the grid.
func lintPlaces(t *testing.T, d dashboard) {
	t.Helper()
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		for _, one := range append([]panel{p}, p.Panels...) {
			if one.ID == 0 || ids[one.ID] {
				t.Errorf("%s: %q has the id %d", d.file, one.Title, one.ID)
			}
			ids[one.ID] = true
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, over := taken[[2]int{x, y}]; over || x > 23 {
					t.Errorf("%s: %q lies over %q at %d, %d", d.file, p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	if d.UID == "whisperpool-overview" && d.Panels[0].Title != "Why was this slow" {
		t.Errorf("the first panel of the overview is %q", d.Panels[0].Title)
	}
}

// TestLinks: what leads from one dashboard to another names one that is there, and variables that it has.
func TestLinks(t *testing.T) {
	all, links := dashboards(t), 0
	for _, d := range all {
		for _, p := range d.panels() {
			found := p.FieldConfig.Defaults.Links
			for _, o := range p.FieldConfig.Overrides {
				for _, property := range o.Properties {
					if property.ID == "links" {
						var some []link
						if err := json.Unmarshal(property.Value, &some); err != nil {
							t.Fatal(err)
						}
						found = append(found, some...)
					}
				}
			}
			for _, l := range found {
				links++
				lintLink(t, all, d.file+", "+p.Title, l)
			}
		}
	}
	if links < 3 {
		t.Errorf("only %d links lead to a backend", links)
	}
}

func lintLink(t *testing.T, all []dashboard, where string, l link) {
	t.Helper()
	parts := regexp.MustCompile(`^/d/([a-z-]+)/[a-z-]+\?(.*)$`).FindStringSubmatch(l.URL)
	if l.Title == "" || parts == nil {
		t.Errorf("%s: %+v", where, l)
		return
	}
	i := slices.IndexFunc(all, func(d dashboard) bool { return d.UID == parts[1] })
	if i < 0 {
		t.Errorf("%s: there is no dashboard %s", where, parts[1])
		return
	}
	var given []string
	for _, v := range regexp.MustCompile(`\$\{(\w+):queryparam\}|var-(\w+)=`).FindAllStringSubmatch(parts[2], -1) {
		given = append(given, v[1]+v[2])
	}
	for _, v := range all[i].Templating.List {
		if !slices.Contains(given, v.Name) {
			t.Errorf("%s: %s does not say which %s", where, l.URL, v.Name)
		}
	}
	if len(given) != len(all[i].Templating.List) {
		t.Errorf("%s: %s gives %v", where, l.URL, given)
	}
}
