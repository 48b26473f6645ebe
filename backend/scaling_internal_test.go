package backend

import (
	"testing"
	"time"
)

func TestScalerDecides(t *testing.T) {
	start := time.Unix(1000, 0)
	type step struct {
		at      int // seconds
		ongoing int
		want    int // slots from then on
	}
	for _, c := range []struct {
		name        string
		target      float64
		up, down    time.Duration
		least, most int
		slots       int
		steps       []step
	}{
		{"as many as the target asks for", 10, 0, 0, 1, 30, 1, []step{{0, 10, 1}, {1, 11, 2}, {2, 95, 10}, {3, 300, 30}, {4, 1000, 30}, {5, 0, 1}}},
		{"never out of bounds", 1, 0, 0, 2, 4, 2, []step{{0, 0, 2}, {1, 9, 4}, {2, 3, 3}}},
		{"a burst shorter than the delay changes nothing", 1, 10 * time.Second, time.Minute, 1, 8, 1,
			[]step{{0, 8, 1}, {9, 8, 1}, {10, 1, 1}, {11, 8, 1}, {20, 8, 1}, {21, 8, 8}}},
		{"the size wanted last is taken", 1, 10 * time.Second, 0, 1, 8, 1, []step{{0, 8, 1}, {5, 2, 1}, {10, 3, 3}}},
		{"a lull shorter than the delay changes nothing", 1, 0, 30 * time.Second, 1, 8, 8,
			[]step{{0, 0, 8}, {29, 0, 8}, {30, 8, 8}, {31, 0, 8}, {60, 0, 8}, {61, 0, 1}}},
		{"up and down have delays of their own", 1, 5 * time.Second, 20 * time.Second, 1, 4, 2,
			[]step{{0, 4, 2}, {4, 1, 2}, {6, 4, 2}, {11, 4, 4}, {12, 1, 4}, {31, 1, 4}, {32, 1, 1}}},
		{"below one there is a slot in hand", 0.8, 0, 0, 1, 8, 1, []step{{0, 1, 2}, {1, 2, 3}, {2, 4, 5}, {3, 0, 1}}},
	} {
		s := scaler{least: c.least, most: c.most, target: c.target, up: c.up, down: c.down}
		slots := c.slots
		for _, step := range c.steps {
			slots = s.decide(start.Add(time.Duration(step.at)*time.Second), step.ongoing, slots)
			if slots != step.want {
				t.Errorf("%s: after %d s with %d jobs there are %d slots, want %d", c.name, step.at, step.ongoing, slots, step.want)
			}
		}
	}
}
