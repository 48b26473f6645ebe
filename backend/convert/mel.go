package convert

import "math"

// Whisper's front end: 16 kHz, windows of 400 samples.
const (
	sampleRate = 16000
	windowSize = 400
	melBins    = windowSize/2 + 1 // frequencies of a window's spectrum
)

// melFilters is the bank of triangular filters that turns a spectrum into mel
// bands: bands rows of melBins. It is what librosa.filters.mel gives with its
// defaults, Slaney's mel scale and norm, because whisper was trained with that:
//
//	w[i][k] = max(0, min((f[k]-m[i])/(m[i+1]-m[i]), (m[i+2]-f[k])/(m[i+2]-m[i+1]))) * 2/(m[i+2]-m[i])
//
// where f is the frequency of bin k and m are bands+2 frequencies, evenly spaced
// in mel from 0 to half the sample rate. Rounding to float32 happens where
// librosa does it, before and after the norm, so that the numbers are the same
// to the last bit. The conversions to float64 around products keep the compiler
// from fusing them, which would make the file differ between processors.
func melFilters(bands int) []float32 {
	edges := make([]float64, bands+2)
	top := melOf(sampleRate / 2)
	for i := range edges {
		edges[i] = hertzOf(float64(i) * (top / float64(bands+1)))
	}
	edges[bands+1] = hertzOf(top)
	filters := make([]float32, bands*melBins)
	for i := range bands {
		low, middle, high := edges[i], edges[i+1], edges[i+2]
		norm := 2 / (high - low)
		for k := range melBins {
			frequency := float64(k) * sampleRate / windowSize
			rising := (frequency - low) / (middle - low)
			falling := (high - frequency) / (high - middle)
			weight := float32(max(0, min(rising, falling)))
			filters[i*melBins+k] = float32(float64(weight) * norm)
		}
	}
	return filters
}

// Slaney's mel scale is linear up to 1000 Hz, 200/3 Hz a mel, and above it grows
// by a factor of 6.4 in 27 mels.
const (
	linearHertz = 200.0 / 3
	bendHertz   = 1000.0
	bendMel     = bendHertz / linearHertz
)

var logStep = math.Log(6.4) / 27

func melOf(hertz float64) float64 {
	if hertz < bendHertz {
		return hertz / linearHertz
	}
	return bendMel + math.Log(hertz/bendHertz)/logStep
}

func hertzOf(mel float64) float64 {
	if mel < bendMel {
		return float64(linearHertz * mel)
	}
	return float64(bendHertz * math.Exp(float64(logStep*(mel-bendMel))))
}
