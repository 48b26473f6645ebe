package backend

import (
	"math"
	"testing"
	"time"
)

func TestRateOfTheLastMinute(t *testing.T) {
	start := time.Unix(5000, 0)
	r := newRate(start)
	for _, c := range []struct {
		at   float64 // seconds
		add  float64
		want float64
	}{
		{0, 0, 0},
		{0.5, 10, 10}, // in the first second
		{9.9, 0, 1},   // of ten
		{59, 50, 1},   // 60 of sixty
		{60.5, 0, 50.0 / 60},
		{118.5, 6, 56.0 / 60},
		{119.5, 0, 6.0 / 60},
		{1000, 0, 0},
		{1000.5, 60, 1},
		{900, 60, 2}, // a clock that went back
	} {
		now := start.Add(time.Duration(c.at * float64(time.Second)))
		r.add(now, c.add)
		if got := r.perSecond(now); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("at %v s: %v a second, want %v", c.at, got, c.want)
		}
	}
}
