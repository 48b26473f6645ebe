package bench

import (
	"math/rand/v2"
	"testing"
)

// FuzzParseLengths: what is accepted draws lengths that can be made, and says what it is.
func FuzzParseLengths(f *testing.F) {
	for _, seed := range []string{
		"5", "5,10,30", "lognormal:12,1.2,600", "2.5s", "", ",", "lognormal:", "lognormal:1,3,14400", "NaN", "Inf", "-1", "1e309", "0x1p4",
		"lognormal:NaN,1,2", "lognormal:1,NaN,2", "5ss", " 5 , 6 ",
	} {
		f.Add(seed, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		l, err := ParseLengths(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		if l.String() == "" {
			t.Errorf("%q has no description", text)
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 20 {
			if x := l.next(rng); !(x >= secondsMin && x <= secondsMax) {
				t.Fatalf("%q drew %v s", text, x)
			}
		}
	})
}
