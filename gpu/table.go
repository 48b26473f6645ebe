package gpu

import (
	"math"
	"time"
)

// row is what is estimated of a class.
type row struct {
	fixed               float64 // milliseconds a job
	base, large, turbo  cost
	gainBase, gainLarge float64
	kneeLarge           int // jobs side by side; there is no estimate for base
}

// cost is the time in milliseconds of a run of the encoder and of a token.
type cost struct{ encode, token float64 }

// rows hold the classes with a law.
//
// Costs are estimated from what whisper.cpp's author measured on a V100, an RTX 5090 and a DGX
// Spark (see v100) and from faster-whisper on a T4 (its issue 441: 6 minutes in 40 s). An H100 is
// not 15 but 4 to 5 times a T4, since small steps of the decoder wait for the launch of kernels.
// Gains are estimated from faster-whisper's issues 441 (T4: two jobs take twice as long) and 100,
// whisper-rs' issue 72, and CrispASR's issue 301 (3090 Ti: 8 replicas do at least twice as much).
//
// L4, A100 and CPU have none: nobody has published figures of
// whisper.cpp on them that could be turned into one, and a CPU's speed hangs on its cores.
var rows = map[Class]row{
	T4: {
		fixed: 60, base: cost{20, 2.0}, large: cost{230, 13}, turbo: cost{210, 2.2},
		gainBase: 1.5, gainLarge: 1.15, kneeLarge: 2,
	},
	A10G: {
		fixed: 40, base: cost{8, 1.4}, large: cost{95, 8}, turbo: cost{85, 1.5},
		gainBase: 2.5, gainLarge: 1.6, kneeLarge: 4,
	},
	H100: {
		fixed: 30, base: cost{2.5, 0.6}, large: cost{22, 3.3}, turbo: cost{20, 0.6},
		gainBase: 5, gainLarge: 3.0, kneeLarge: 8,
	},
}

// v100 is what whisper.cpp's author measured on a V100 with flash attention (in its
// scripts/bench-all-gg.txt, version ad4e3509). It gives the shape between the families that the
// table has and those that it has not.
var v100 = map[Family]cost{
	Tiny:   {4.01, 0.90},
	Base:   {7.00, 1.30},
	Small:  {18.68, 2.39},
	Medium: {53.17, 5.15},
	Large:  {85.77, 7.57},
}

// LawOf finds the law of a model on a class of GPU; both are names as users write them, in any
// case. ok is false when no law is known: for a class or a model without published figures.
func LawOf(class, model string) (law Law, ok bool) {
	r, ok := rows[ParseClass(class)]
	if !ok {
		return Law{}, false
	}
	family, ok := FamilyOf(model)
	if !ok {
		return Law{}, false
	}
	c := r.cost(family)
	law = Law{Fixed: ms(r.fixed), Encode: ms(c.encode), Token: ms(c.token)}
	switch family {
	case Tiny, Base:
		law.GainMax = r.gainBase
	default: // the encoder of small and up fills a card much as large's does
		law.GainMax, law.Knee = r.gainLarge, r.kneeLarge
	}
	return law, true
}

// cost is the row's own for base, large and turbo; for the others the V100's, scaled by how the
// class compares with a V100 at base and at large, in proportion on a logarithmic scale. (tiny is
// scaled as base is.)
func (r row) cost(f Family) cost {
	switch f {
	case Base:
		return r.base
	case Large:
		return r.large
	case Turbo:
		return r.turbo
	}
	at, base, large := v100[f], v100[Base], v100[Large]
	return cost{
		encode: at.encode * between(at.encode, base.encode, large.encode, r.base.encode, r.large.encode),
		token:  at.token * between(at.token, base.token, large.token, r.base.token, r.large.token),
	}
}

// between is the ratio to the V100 at x, when it is lowOwn / low at low and highOwn / high at high.
func between(x, low, high, lowOwn, highOwn float64) float64 {
	share := max(0, math.Log(x/low)/math.Log(high/low))
	return math.Pow(lowOwn/low, 1-share) * math.Pow(highOwn/high, share)
}

func ms(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
