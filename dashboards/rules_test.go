package dashboards_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type rule struct {
	record, alert, expr string
	labels, annotations map[string]string
	lasts               string
}

// rules are those of the rule files, by where they are.
func rules(t *testing.T) map[string]rule {
	t.Helper()
	files, err := filepath.Glob("rules/*.yml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v: %v", files, err)
	}
	all := map[string]rule{}
	for _, file := range files {
		var content struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Record, Alert, Expr, For string
					Labels, Annotations      map[string]string
				}
			}
		}
		decoder := yaml.NewDecoder(strings.NewReader(read(t, file)))
		decoder.KnownFields(true)
		if err := decoder.Decode(&content); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, g := range content.Groups {
			for i, r := range g.Rules {
				all[fmt.Sprintf("%s, %s, %d %s%s", file, g.Name, i, r.Record, r.Alert)] = rule{r.Record, r.Alert, r.Expr, r.Labels, r.Annotations, r.For}
			}
		}
	}
	return all
}

// pages are the alerts that may wake somebody.
var pages = []string{"WhisperpoolRequestsTurnedAway", "WhisperpoolDeadlinesMissed", "WhisperpoolNoUsableBackend", "WhisperpoolAbsent"}

// TestAlerts: each is a page or a ticket, waits before it fires, says what is wrong, and leads to a heading of the runbook; each
// heading there is an alert's; each alert has tests.
func TestAlerts(t *testing.T) {
	headings := regexp.MustCompile(`(?m)^## (Whisperpool\w+)$`).FindAllStringSubmatch(read(t, "../docs/runbook.md"), -1)
	files, err := filepath.Glob("rules/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests := ""
	for _, file := range files {
		tests += read(t, file)
	}
	var alerts []string
	for where, r := range rules(t) {
		if r.alert == "" {
			if r.record == "" || !regexp.MustCompile(`^\w+:\w+:\w+$`).MatchString(r.record) {
				t.Errorf("%s: a rule is called level:metric:operation", where)
			}
			continue
		}
		alerts = append(alerts, r.alert)
		severity := "ticket"
		if slices.Contains(pages, r.alert) {
			severity = "page"
		}
		if r.labels["severity"] != severity || len(r.labels) != 1 || r.lasts == "" {
			t.Errorf("%s: labels %v, for %q; it is a %s", where, r.labels, r.lasts, severity)
		}
		if summary, description := r.annotations["summary"], r.annotations["description"]; len(summary) < 20 || len(description) < 40 || len(summary) > 160 {
			t.Errorf("%s: summary %q, description %q", where, summary, description)
		}
		want := "https://github.com/whisperpool/whisperpool/blob/main/docs/runbook.md#" + strings.ToLower(r.alert)
		if r.annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, not %s", where, r.annotations["runbook_url"], want)
		}
		if !slices.ContainsFunc(headings, func(h []string) bool { return h[1] == r.alert }) {
			t.Errorf("docs/runbook.md has no heading %s", r.alert)
		}
		if !strings.Contains(tests, `alertname="`+r.alert+`", alertstate="firing"`) {
			t.Errorf("no test has %s fire", r.alert)
		}
	}
	for _, h := range headings {
		if !slices.Contains(alerts, h[1]) {
			t.Errorf("docs/runbook.md tells of %s, which is no alert", h[1])
		}
	}
}

// promtool is Prometheus's own, or the test is skipped.
func promtool(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("WHISPERPOOL_PROMETHEUS")
	if folder == "" {
		t.Skip("WHISPERPOOL_PROMETHEUS is not set: eval \"$(scripts/test-env.sh)\"")
	}
	return filepath.Join(folder, "promtool")
}

func promtoolSays(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), promtool(t), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: promtool takes the rules, and each story of rules/tests comes true.
func TestRules(t *testing.T) {
	promtool(t)
	for pattern, args := range map[string][]string{"rules/*.yml": {"check", "rules"}, "rules/tests/*.yml": {"test", "rules"}} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 3 {
			t.Fatalf("%v: %v", files, err)
		}
		for _, file := range files {
			t.Run(args[0]+" "+filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				promtoolSays(t, append(args[:2:2], file)...)
			})
		}
	}
}

// evaluable is a query as Grafana sends it when all of everything is chosen.
func evaluable(expr string) string {
	expr = strings.ReplaceAll(expr, "$__rate_interval", "5m")
	expr = strings.ReplaceAll(expr, "$__range", "1h")
	return regexp.MustCompile(`\$[a-z]\w*`).ReplaceAllString(expr, ".*")
}

// TestQueriesParse: Prometheus's own parser takes every query.
func TestQueriesParse(t *testing.T) {
	promtool(t)
	var file bytes.Buffer
	file.WriteString("groups:\n- name: all\n  rules:\n")
	for where, expr := range queries(t) {
		record := "q:" + regexp.MustCompile(`\W+`).ReplaceAllString(where, "_")
		fmt.Fprintf(&file, "  - record: %s\n    expr: %q\n", record, evaluable(expr))
	}
	path := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	promtoolSays(t, "check", "rules", path)
}

// TestCardsJoin: DCGM's series meet the backends by the card's UUID, also where two share one. There is no card where the dashboards are drawn, so
// that these queries are evaluated here.
func TestCardsJoin(t *testing.T) {
	promtool(t)
	var found []panel
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			if p.Type == "row" && strings.Contains(p.Title, "DCGM") {
				found = append(found, p.Panels...)
			}
		}
	}
	want := map[string]string{
		"Power, by class":              `[{labels: '{class="T4"}', value: 140}, {labels: '{class="H100"}', value: 500}]`,
		"Energy for a second of audio": `[{labels: '{class="T4"}', value: 14}, {labels: '{class="H100"}', value: 5}]`,
		"Engine active": `[{labels: '{pool="main", upstream="t4-1", class="T4", UUID="GPU-1"}', value: 0.5}, ` +
			`{labels: '{pool="main", upstream="h-1", class="H100", UUID="GPU-3"}', value: 0.9}, {labels: '{pool="main", upstream="h-2", class="H100", UUID="GPU-3"}', value: 0.9}]`,
		"Memory used": `[{labels: '{pool="main", upstream="t4-1", class="T4", UUID="GPU-1"}', value: 4000}]`,
		"Temperature": `[{labels: '{pool="main", upstream="t4-1", class="T4", UUID="GPU-1"}', value: 70}]`,
		"Xid errors":  `[{labels: '{pool="main", upstream="t4-1", class="T4", UUID="GPU-1"}', value: 0}]`,
	}
	var file bytes.Buffer
	file.WriteString("evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n")
	of := func(instance, upstream, class, more string) string {
		return `{job="w", instance="` + instance + `", pool="main", upstream="` + upstream + `", class="` + class + `"` + more + `}`
	}
	for series, values := range map[string]string{
		`whisperpool_backend_info` + of("a", "t4-1", "T4", `, device="Tesla T4", gpu_uuid="GPU-1"`):                    "1+0x20",
		`whisperpool_backend_info` + of("b", "t4-1", "T4", `, device="Tesla T4", gpu_uuid="GPU-1"`):                    "1+0x20", // another proxy
		`whisperpool_backend_info` + of("a", "t4-2", "T4", `, device="Tesla T4", gpu_uuid="GPU-2"`):                    "1+0x20",
		`whisperpool_backend_info` + of("a", "h-1", "H100", `, device="NVIDIA H100", gpu_uuid="GPU-3"`):                "1+0x20",
		`whisperpool_backend_info` + of("a", "h-2", "H100", `, device="NVIDIA H100", gpu_uuid="GPU-3"`):                "1+0x20", // on the same card
		`whisperpool_backend_info` + of("a", "cpu", "CPU", `, device="EPYC", gpu_uuid=""`):                             "1+0x20",
		`whisperpool_audio_seconds_total` + of("a", "t4-1", "T4", `, model="base"`):                                    "0+600x20",
		`whisperpool_audio_seconds_total` + of("a", "h-1", "H100", `, model="base"`):                                   "0+6000x20",
		`DCGM_FI_DEV_POWER_USAGE{job="dcgm", instance="x:9400", gpu="0", UUID="GPU-1", modelName="Tesla T4"}`:          "70+0x20",
		`DCGM_FI_DEV_POWER_USAGE{job="dcgm", instance="x:9400", gpu="1", UUID="GPU-2"}`:                                "70+0x20",
		`DCGM_FI_DEV_POWER_USAGE{job="dcgm", instance="y:9400", gpu="0", UUID="GPU-3"}`:                                "500+0x20",
		`DCGM_FI_DEV_POWER_USAGE{job="dcgm", instance="z:9400", gpu="0", UUID="GPU-4"}`:                                "300+0x20", // serves something else
		`DCGM_FI_PROF_GR_ENGINE_ACTIVE{job="dcgm", instance="x:9400", gpu="0", UUID="GPU-1", Hostname="x"}`:            "0.5+0x20",
		`DCGM_FI_PROF_GR_ENGINE_ACTIVE{job="dcgm", instance="y:9400", gpu="0", UUID="GPU-3", hostname="y", pod="one"}`: "0.9+0x20",
		`DCGM_FI_DEV_FB_USED{job="dcgm", instance="x:9400", gpu="0", UUID="GPU-1"}`:                                    "4000+0x20",
		`DCGM_FI_DEV_GPU_TEMP{job="dcgm", instance="x:9400", gpu="0", UUID="GPU-1"}`:                                   "70+0x20",
		`DCGM_FI_DEV_XID_ERRORS{job="dcgm", instance="x:9400", gpu="0", UUID="GPU-1"}`:                                 "0+0x20",
	} {
		fmt.Fprintf(&file, "  - {series: '%s', values: '%s'}\n", series, values)
	}
	file.WriteString("  promql_expr_test:\n")
	if len(found) != len(want) {
		t.Fatalf("%d panels are of the cards", len(found))
	}
	for _, p := range found {
		samples, known := want[p.Title]
		if !known {
			t.Errorf("nothing is known of %q", p.Title)
		}
		fmt.Fprintf(&file, "  - expr: %q\n    eval_time: 15m\n    exp_samples: %s\n", evaluable(p.Targets[0].Expr), samples)
	}
	path := filepath.Join(t.TempDir(), "cards_test.yml")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	promtoolSays(t, "test", "rules", path)
}

// TestDocumentedScraping: Prometheus takes what docs/dashboards.md shows.
func TestDocumentedScraping(t *testing.T) {
	promtool(t)
	block := regexp.MustCompile("(?s)```yaml\n(scrape_configs:.*?)```").FindStringSubmatch(read(t, "../docs/dashboards.md"))
	if block == nil {
		t.Fatal("docs/dashboards.md shows no scrape_configs")
	}
	folder, err := filepath.Abs("rules")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	config := strings.NewReplacer("/etc/prometheus/rules", folder, "/etc/prometheus/whisper-key", key).Replace(block[1])
	for file, text := range map[string]string{key: "secret", path: config} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtoolSays(t, "check", "config", path)
}
