package convert

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"testing"
)

// The numbers are of the filters that OpenAI ships with whisper
// (assets/mel_filters.npz of openai-whisper 20250625, with the negative zero in
// its first place made a zero) and that librosa 0.11 computes. The digest is of
// all of them in little-endian float32: equal to the last bit.
func TestMelFilters(t *testing.T) {
	for _, c := range []struct {
		bands, nonzero int
		sum            float64
		digest         string
		row            int // one row's peak
		peakBin        int
		peak           float32
		lastBin        int // the last row's peak
		last           float32
	}{
		{80, 391, 1.999024092387117, "85818f156f7e189453901a515e4726d270d307f976e161cf9403e8caab405498", 40, 43, 0.014735566, 192, 0.0031647119},
		{128, 394, 3.1909855409403463, "e399c2d72d2f7375e503c296d8453cefcc0c1e47a9c1a0a09e0d70f59c820f20", 40, 24, 0.040376365, 195, 0.0050416016},
	} {
		filters := melFilters(c.bands)
		if len(filters) != c.bands*201 {
			t.Fatalf("%d bands: %d numbers", c.bands, len(filters))
		}
		nonzero, sum := 0, 0.0
		for _, f := range filters {
			sum += float64(f)
			if f != 0 {
				nonzero++
			}
		}
		if nonzero != c.nonzero || math.Abs(sum-c.sum) > 1e-9 {
			t.Errorf("%d bands: %d numbers are not zero and their sum is %v", c.bands, nonzero, sum)
		}
		peak := func(row, wantBin int, want float32) {
			bin := 0
			for k, f := range filters[row*201 : (row+1)*201] {
				if f > filters[row*201+bin] {
					bin = k
				}
			}
			if got := filters[row*201+bin]; bin != wantBin || got != want {
				t.Errorf("%d bands: row %d peaks with %v at %d, want %v at %d", c.bands, row, got, bin, want, wantBin)
			}
		}
		peak(c.row, c.peakBin, c.peak)
		peak(c.bands-1, c.lastBin, c.last)
		data, _ := binary.Append(nil, binary.LittleEndian, filters)
		digest := sha256.Sum256(data)
		if got := hex.EncodeToString(digest[:]); got != c.digest {
			t.Errorf("%d bands: the numbers have the digest %s, want %s", c.bands, got, c.digest)
		}
	}
}
