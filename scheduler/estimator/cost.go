package estimator

import "math"

// windowSeconds is the audio that whisper works on at a time; what is left of the last window is filled up with
// silence, so that part of a job's cost goes by windows and part by seconds.
const windowSeconds = 30.0

// Windows is how many windows cover that much audio.
func Windows(audioSeconds float64) float64 { return max(1, math.Ceil(audioSeconds/windowSeconds)) }

// Cost is the shape of a job's cost: Fixed + PerSecond times the seconds of audio + PerWindow times its windows.
type Cost struct{ Fixed, PerSecond, PerWindow float64 }

// Of is the cost of a job with that much audio.
func (c Cost) Of(audioSeconds float64) float64 {
	return c.Fixed + c.PerSecond*audioSeconds + c.PerWindow*Windows(audioSeconds)
}

const (
	// fixedAtFirst is the fixed part of a job's cost in seconds of audio (w0 of the notes): what a
	// job takes however short it is, as far as anybody can tell without a law for the backend.
	fixedAtFirst = 4.0

	shapes = 1 + 4*3 // those that are tried, a speed's own first
	own    = 0
)

// tried are the shapes that are tried beside a speed's own: how much a job costs however short it is, from
// cards that hardly notice to such as a second of audio is nothing for, and how much of the rest goes by windows.
var tried = func() (all [shapes]Cost) {
	i := own
	for _, fixed := range []float64{0.5, 2, 8, 20} {
		for _, byWindow := range []float64{0, 0.3, 1} {
			i++
			all[i] = Cost{Fixed: fixed, PerSecond: 1 - byWindow, PerWindow: byWindow * windowSeconds}
		}
	}
	return all
}()
