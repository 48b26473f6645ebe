package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProfilesAreReadAsTheyWereWritten(t *testing.T) {
	want := law(t, "A10G", "large")
	p := Profile{Class: "A10G", Model: "large-v3", Slots: 4, Law: NewProfileLaw(want), Speech: 0.7}
	path := filepath.Join(t.TempDir(), "a10g.json")
	if err := os.WriteFile(path, p.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadProfile(path)
	p.Version = profileVersion
	if err != nil || got != p || got.Law.Law() != want {
		t.Errorf("%+v, %v", got, err)
	}
	least, err := ParseProfile([]byte(`{"whisperpool_profile":1,"model":"base","law":{"window_ms":20}}`))
	if err != nil || least.Law.Law().Gain(4) != 1 {
		t.Errorf("a short one: %+v, %v", least, err)
	}
}

func TestMistakesInProfilesAreTold(t *testing.T) {
	for text, want := range map[string]string{
		``:   "EOF",
		`{}`: "whisperpool_profile is 0",
		`{"whisperpool_profile":2,"model":"x","law":{"fixed_ms":1}}`:                   "reads 1",
		`{"whisperpool_profile":1,"law":{"fixed_ms":1}}`:                               "no model",
		`{"whisperpool_profile":1,"model":"x"}`:                                        "all 0",
		`{"whisperpool_profile":1,"model":"x","law":{"fixed_ms":-1}}`:                  "negative",
		`{"whisperpool_profile":1,"model":"x","law":{"encode_ms":1}}`:                  "encode_ms",
		`{"whisperpool_profile":1,"model":"x","law":{"fixed_ms":1,"gain_max":-1}}`:     "gain_max",
		`{"whisperpool_profile":1,"model":"x","law":{"fixed_ms":1,"gain_exponent":2}}`: "gain_exponent",
		`{"whisperpool_profile":1,"model":"x","law":{"fixed_ms":1,"knee":-1}}`:         "knee",
		`{"whisperpool_profile":1,"model":"x","slots":65,"law":{"fixed_ms":1}}`:        "slots",
		`{"whisperpool_profile":1,"model":"x","speech":-1,"law":{"fixed_ms":1}}`:       "speech",
	} {
		if _, err := ParseProfile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %q", text, err, want)
		}
	}
	if _, err := ReadProfile("/no/such/profile.json"); err == nil || !strings.Contains(err.Error(), "/no/such/profile.json") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestUsefulSlots(t *testing.T) {
	for _, c := range []struct {
		class, model string
		want         int
	}{{"T4", "large", 2}, {"A10G", "large", 2}, {"H100", "large", 5}, {"H100", "base", 8}} {
		if got := law(t, c.class, c.model).UsefulSlots(8); got != c.want {
			t.Errorf("%s on %s: %d, want %d", c.model, c.class, got, c.want)
		}
	}
}
