package convert

import (
	"encoding/binary"
	"math"
)

// appendHalves appends little-endian float32 numbers as float16, rounded to the
// nearest, ties to even. It reports false for a number that has no finite
// float16.
func appendHalves(to, singles []byte) ([]byte, bool) {
	for ; len(singles) >= 4; singles = singles[4:] {
		half := halfOf(math.Float32frombits(binary.LittleEndian.Uint32(singles)))
		if half&0x7c00 == 0x7c00 { // infinite, or not a number
			return to, false
		}
		to = binary.LittleEndian.AppendUint16(to, half)
	}
	return to, true
}

// appendSingles appends little-endian float16 numbers as float32, exactly.
func appendSingles(to, halves []byte) []byte {
	for ; len(halves) >= 2; halves = halves[2:] {
		single := singleOf(binary.LittleEndian.Uint16(halves))
		to = binary.LittleEndian.AppendUint32(to, math.Float32bits(single))
	}
	return to
}

// halfOf rounds to IEEE 754 binary16: 1 bit sign, 5 bits exponent (bias 15), 10
// bits fraction.
func halfOf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	magnitude := bits &^ (1 << 31)
	switch {
	case magnitude > 0x7f800000: // not a number
		return sign | 0x7e00
	case magnitude >= 0x477ff000: // from halfway between 65504 and the next step, 65536
		return sign | 0x7c00
	case magnitude >= 0x38800000: // from 2^-14, the smallest normal half
		// Drop 13 bits of fraction and move the bias from 127 to 15; a carry out
		// of the fraction goes into the exponent, as it should.
		odd := magnitude >> 13 & 1
		return sign | uint16((magnitude+0xfff+odd-(127-15)<<23)>>13)
	}
	// Subnormal: a multiple of 2^-24. Scaling by a power of two is exact.
	scaled := math.Float32frombits(magnitude) * (1 << 24)
	return sign | uint16(math.RoundToEven(float64(scaled)))
}

// singleOf widens a binary16.
func singleOf(half uint16) float32 {
	sign := uint32(half&0x8000) << 16
	exponent := uint32(half >> 10 & 0x1f)
	fraction := uint32(half & 0x3ff)
	switch exponent {
	case 0:
		f := float32(fraction) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
