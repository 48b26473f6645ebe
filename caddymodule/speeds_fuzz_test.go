package caddymodule

import (
	"testing"
	"time"
)

// FuzzSpeeds: stored speeds that are damaged are refused with words, and what is taken has an age.
func FuzzSpeeds(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"pool":"main","saved":"2026-11-24T12:00:00Z","speeds":[{"Address":"10.0.0.1:80","Class":"T4","Model":"base","Instance":"one","Age":60000000000,"Learned":{"Cost":{"Fixed":1,"PerSecond":2,"PerWindow":3},"Levels":[{"Occupancy":1,"Theta":0.25,"Spread":0.125,"Observations":4}],"Observations":4,"Fastest":0.5}}]}`,
		`{"version":1,"pool":"main","saved":"2026-11-24T12:00:00Z","speeds":[{"Address":"10.0.0.1:80","Model":"base","Age":9223372036854775807,"Learned":{"Cost":{"Fixed":1,"PerSecond":2,"PerWindow":3},"Levels":[{"Occupancy":1,"Theta":0.25,"Spread":0.125,"Observations":4}],"Observations":4,"Fastest":0.5}}]}`,
		`{"version":2}`, `{"version":1,"pool":"other"}`, `{"version":1,"pool":"main","speeds":null}`, `{"version":1,"pool":"main","saved":"9999-01-01T00:00:00Z","speeds":[{"Age":-9223372036854775808}]}`, `{`, ``, `[]`,
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text []byte) {
		speeds, err := readSpeeds(text, "main", now)
		if err != nil {
			if speeds != nil || err.Error() == "" {
				t.Errorf("%v with %v", speeds, err)
			}
			return
		}
		for _, s := range speeds {
			if err := s.Learned.Validate(); err != nil || s.Age < 0 {
				t.Errorf("taken: %+v, %v", s, err)
			}
		}
	})
}
