package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParseStudy: a scenario file is refused with words, or makes scenarios that are valid at every
// level.
func FuzzParseStudy(f *testing.F) {
	files, err := filepath.Glob("../examples/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, seed := range []string{
		`{"pool":[{"class":"T4","count":2},{"class":"H100"}],"load":{"clients":[4,8]},"lengths":{"fixed_s":5},"jobs":100}`,
		`{"pool":[{"class":"T4","count":-1}]}`, `{"pool":null}`, `{"duration_s":1e300}`, `{"seeds":-1}`, `{}`, `[]`, `{"x":1}`, `{"pool":[]}{}`, "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		study, err := Parse(text)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		if len(study.Levels) == 0 || study.Seeds < 1 || study.Seeds > seedsMax {
			t.Fatalf("%d levels, %d seeds", len(study.Levels), study.Seeds)
		}
		for _, level := range study.Levels {
			if err := study.At(level, 0).Validate(); err != nil {
				t.Fatalf("accepted, but at %v: %v", level, err)
			}
		}
	})
}

// FuzzParseChanges: what is accepted can be written down and read again.
func FuzzParseChanges(f *testing.F) {
	for _, seed := range []string{"+2 T4", "-1 A10G +1 H100", "+1x T4", "+0 T4", "+99999999999999999999 T4", "- 3 x H100;", "+1 -2 +3", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		changes, err := ParseChanges(text)
		if err != nil {
			return
		}
		var written []string
		for _, c := range changes {
			if c.Count == 0 || c.Count < -cardsMax || c.Count > cardsMax || c.Kind == "" {
				t.Fatalf("%q: %+v", text, c)
			}
			written = append(written, c.String())
		}
		again, err := ParseChanges(strings.Join(written, " "))
		if err != nil || len(again) != len(changes) {
			t.Fatalf("%q became %q: %v, %v", text, written, again, err)
		}
		for i, c := range changes {
			if again[i] != c {
				t.Fatalf("%v became %v", c, again[i])
			}
		}
	})
}

// FuzzParseLoadTests: tables are refused with words, or hold numbers above 0 alone.
func FuzzParseLoadTests(f *testing.F) {
	if text, err := os.ReadFile("testdata/load_tests.csv"); err == nil {
		f.Add(text)
	}
	for _, seed := range []string{"concurrency,mean_s\n1,0.5\n", "concurrency,mean_s\n1.5,NaN\n", "mean_s\n", "# x\n", "a,b\n\"", "concurrency,mean_s,mean_s\n1,1\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tests, err := ParseLoadTests(text)
		if err != nil {
			return
		}
		for _, table := range tests {
			if len(table.Rows) == 0 || !positive(table.Audio) {
				t.Fatalf("%+v", table)
			}
			for _, row := range table.Rows {
				if row.AtOnce < 1 || !positive(row.Mean) || row.P95 < 0 {
					t.Fatalf("%+v", row)
				}
			}
		}
	})
}
