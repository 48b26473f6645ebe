package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Bounds of generated audio in seconds: below the first whisper.cpp hears nothing, and an upload of
// the second is half a gigabyte.
const (
	secondsMin = 0.1
	secondsMax = 4 * 3600.0
)

// Lengths is a distribution of audio lengths. The zero value is none; see [ParseLengths].
type Lengths struct {
	list               []float64 // each with the same chance, or
	median, sigma, cap float64   // lognormal
}

// ParseLengths reads a distribution, in seconds: "5" (all the same), "5,10,30" (each with the same
// chance) or "lognormal:12,1.2,600" (median, standard deviation of the logarithm, longest).
func ParseLengths(s string) (Lengths, error) {
	numbers, lognormal := strings.CutPrefix(s, "lognormal:")
	var list []float64
	for field := range strings.SplitSeq(numbers, ",") {
		n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(field), "s"), 64)
		if err != nil {
			return Lengths{}, fmt.Errorf("%q is no distribution of lengths: write 5, or 5,10,30, or lognormal:12,1.2,600 (median, sigma, longest), in seconds", s)
		}
		list = append(list, n)
	}
	inBounds := func(x float64) bool { return x >= secondsMin && x <= secondsMax }
	if lognormal {
		if len(list) != 3 || !inBounds(list[0]) || !(list[1] >= 0 && list[1] <= 3) || !inBounds(list[2]) || list[2] < list[0] {
			return Lengths{}, fmt.Errorf("%q: lognormal wants a median of %g to %g seconds, a sigma of 0 to 3, and a longest that is at least the median", s, secondsMin, secondsMax)
		}
		return Lengths{median: list[0], sigma: list[1], cap: list[2]}, nil
	}
	for _, x := range list {
		if !inBounds(x) {
			return Lengths{}, fmt.Errorf("%q: a length must be within %g and %g seconds", s, secondsMin, secondsMax)
		}
	}
	return Lengths{list: list}, nil
}

// next draws a length, in whole hundredths of a second.
func (l Lengths) next(rng *rand.Rand) float64 {
	if len(l.list) == 1 {
		return l.list[0]
	}
	if len(l.list) > 1 {
		return l.list[rng.IntN(len(l.list))]
	}
	x := l.median * math.Exp(l.sigma*rng.NormFloat64())
	return math.Round(100*min(max(x, secondsMin), l.cap)) / 100
}

func (l Lengths) String() string {
	if len(l.list) == 0 {
		return fmt.Sprintf("lognormal, median %g s, sigma %g, at most %g s", l.median, l.sigma, l.cap)
	}
	texts := make([]string, len(l.list))
	for i, x := range l.list {
		texts[i] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(texts, ", ") + " s"
}
