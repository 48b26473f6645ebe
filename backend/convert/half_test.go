package convert

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// Every finite half survives the way to float32 and back.
func TestHalfRoundTrip(t *testing.T) {
	for bits := range 1 << 16 {
		half := uint16(bits)
		single := singleOf(half)
		if half&0x7c00 == 0x7c00 && half&0x3ff != 0 {
			if !math.IsNaN(float64(single)) {
				t.Errorf("%#04x became %v", half, single)
			}
			continue
		}
		if back := halfOf(single); back != half {
			t.Errorf("%#04x became %v and then %#04x", half, single, back)
		}
	}
}

// Known encodings of IEEE 754 binary16.
func TestHalfValues(t *testing.T) {
	for _, c := range []struct {
		single float32
		half   uint16
	}{
		{0, 0}, {float32(math.Copysign(0, -1)), 0x8000}, {1, 0x3c00}, {-2, 0xc000}, {0.1, 0x2e66}, {1.0 / 3, 0x3555},
		{65504, 0x7bff}, {65519, 0x7bff}, {65520, 0x7c00}, {1e9, 0x7c00}, {float32(math.Inf(-1)), 0xfc00},
		{0x1p-14, 0x0400}, {0x1p-24, 0x0001}, {0x1p-25, 0x0000}, {0x1.8p-25, 0x0001}, {0x1p-149, 0x0000},
		{1 + 0x1p-11, 0x3c00}, {1 + 0x3p-11, 0x3c02}, // ties go to the even neighbour
	} {
		if got := halfOf(c.single); got != c.half {
			t.Errorf("halfOf(%v) = %#04x, want %#04x", c.single, got, c.half)
		}
	}
}

// Rounding always takes the nearest half, the even one of two.
func TestHalfRounding(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		single := math.Float32frombits(random.Uint32N(0x47000000)) // 0 to 32768
		half := halfOf(single)
		distance := func(h uint16) float64 { return math.Abs(float64(singleOf(h)) - float64(single)) }
		for _, neighbour := range []uint16{half - 1, half + 1} {
			if half == 0 && neighbour > half+1 {
				continue
			}
			if distance(neighbour) < distance(half) || distance(neighbour) == distance(half) && half&1 == 1 {
				t.Fatalf("%v became %v, %v is nearer or even", single, singleOf(half), singleOf(neighbour))
			}
		}
	}
}

func TestAppendHalvesTellsOverflow(t *testing.T) {
	for _, c := range []struct {
		single float32
		ok     bool
	}{{65504, true}, {-65504, true}, {65520, false}, {float32(math.NaN()), false}, {float32(math.Inf(1)), false}} {
		data, _ := binary.Append(nil, binary.LittleEndian, c.single)
		if _, ok := appendHalves(nil, data); ok != c.ok {
			t.Errorf("%v: %v", c.single, ok)
		}
	}
}
