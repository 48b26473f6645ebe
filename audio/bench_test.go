package audio

import "testing"

// How much faster than real time each decoder is, resampling included.
func BenchmarkDecode(b *testing.B) {
	wav := clip()
	for _, c := range compressedCases {
		if c.ffmpeg {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			file := encode(b, wav, c.file, c.args...)
			for b.Loop() {
				if _, _, err := decodeBytes(file, Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(clipSeconds*float64(b.N)/b.Elapsed().Seconds(), "x-realtime")
		})
	}
}
