package dashboards_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// queries are all of the dashboards and of the rules, by where they are.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, d := range dashboards(t) {
		for _, p := range d.panels() {
			for _, q := range p.Targets {
				all[d.file+", "+p.Title+", "+q.RefID] = q.Expr
			}
		}
		for _, a := range d.Annotations.List {
			all[d.file+", annotation "+a.Name] = a.Expr
		}
		for _, v := range d.Templating.List {
			if inside := regexp.MustCompile(`label_values\((.*), \w+\)`).FindStringSubmatch(strings.ReplaceAll(string(v.Query), `\"`, `"`)); inside != nil {
				all[d.file+", variable "+v.Name] = inside[1]
			}
		}
	}
	for where, r := range rules(t) {
		all[where] = r.expr
	}
	for _, file := range []string{"../deploy/kubernetes/keda.yaml", "../deploy/kubernetes/hpa.yaml"} {
		found := regexp.MustCompile(`(?mi)^ +(?:metrics)?query: '?(.*?)'?$`).FindAllStringSubmatch(read(t, file), -1)
		if found == nil {
			t.Fatalf("%s has no query", file)
		}
		for i, query := range found {
			all[fmt.Sprint(file, ", ", i)] = query[1]
		}
	}
	return all
}

var (
	quotes   = regexp.MustCompile(`"[^"]*"`)
	matchers = regexp.MustCompile(`\{[^}]*\}`)
	grouping = regexp.MustCompile(`\b(by|on|group_left|group_right|ignoring|without) ?\([^)]*\)`)
	windows  = regexp.MustCompile(`\[[^\]]*\]`)
	word     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*( *\()?`)
	operator = regexp.MustCompile(`^(and|or|unless|bool|offset|by|on|group_left|sum|Inf|NaN|\dm|[smhd])$`)
)

// named are the metrics that a query names.
func named(expr string) (names []string) {
	for _, re := range []*regexp.Regexp{quotes, matchers, windows} {
		expr = re.ReplaceAllString(expr, "")
	}
	expr = grouping.ReplaceAllString(expr, "")
	expr = regexp.MustCompile(`\boffset \w+`).ReplaceAllString(expr, "")
	for _, w := range word.FindAllString(expr, -1) {
		if !strings.HasSuffix(w, "(") && !operator.MatchString(w) {
			names = append(names, w)
		}
	}
	return names
}

// exported are the metrics that there are, with their labels where these are known: the proxy's, as docs/metrics.md has
// them, which a test of caddymodule holds to the code; the backend's, as its source names them; those of others.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, name := range []string{
		"up", "caddy_config_last_reload_successful", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
		"DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_XID_ERRORS",
	} {
		all[name] = nil
	}
	page := read(t, "../docs/metrics.md")
	for _, row := range regexp.MustCompile("(?m)^\\| `(whisperpool_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(page, -1) {
		labels := append(strings.Split(strings.ReplaceAll(row[3], "`", ""), ", "), "job", "instance")
		all[row[1]] = labels
		if row[2] == "histogram" {
			all[row[1]+"_bucket"], all[row[1]+"_sum"], all[row[1]+"_count"] = append(labels[:len(labels):len(labels)], "le"), labels, labels
		}
	}
	if len(all) < 50 {
		t.Fatalf("docs/metrics.md has only %d metrics", len(all))
	}
	source := read(t, "../backend/metrics.go")
	for _, found := range regexp.MustCompile(`(\w+)\("(whisper_backend_\w+)"`).FindAllStringSubmatch(source, -1) {
		all[found[2]] = nil
		if found[1] == "histogram" {
			all[found[2]+"_bucket"] = nil
		}
	}
	for _, found := range regexp.MustCompile(`desc\("(\w+)"`).FindAllStringSubmatch(read(t, "../backend/gauges.go"), -1) {
		all["whisper_backend_"+found[1]] = nil
	}
	for _, r := range rules(t) {
		if r.record != "" {
			all[r.record] = nil
		}
	}
	return all
}

// TestQueriesNameMetricsThatExist, and select and group by labels that these have.
func TestQueriesNameMetricsThatExist(t *testing.T) {
	all, used := exported(t), map[string]bool{}
	for where, expr := range queries(t) {
		names := named(expr)
		if len(names) == 0 && !strings.HasPrefix(expr, "vector(") {
			t.Errorf("%s: no metric found in %s", where, expr)
		}
		for _, name := range names {
			used[name] = true
			if _, there := all[name]; !there {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range regexp.MustCompile(`(\w+)(=~|!~|!=|=)"`).FindAllStringSubmatch(s[2], -1) {
				if labels := all[s[1]]; labels != nil && !slices.Contains(labels, m[1]) {
					t.Errorf("%s: %s has no label %s", where, s[1], m[1])
				}
			}
		}
	}
	// What is exported and shown nowhere is either not needed or missed.
	for _, name := range []string{"whisperpool_unmeasured_audio_total", "whisperpool_record_failures_total"} {
		delete(all, name) // for who looks for a fault
	}
	for name := range all {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "whisperpool_") && !used[name] && !used[base] && !used[base+"_bucket"] && !used[base+"_sum"] {
			t.Errorf("no dashboard and no rule shows %s", name)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
