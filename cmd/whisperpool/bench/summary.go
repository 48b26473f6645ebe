package bench

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Latency sums up response times, in seconds. Percentiles are exact: the least time that so large a
// share of the responses did not exceed.
type Latency struct {
	Mean float64 `json:"mean_s"`
	P50  float64 `json:"p50_s"`
	P90  float64 `json:"p90_s"`
	P95  float64 `json:"p95_s"`
	P99  float64 `json:"p99_s"`
	P999 float64 `json:"p999_s"`
	Max  float64 `json:"max_s"`
}

// Problem is a kind of refusal or failure.
type Problem struct {
	What    string `json:"what"`
	Refusal bool   `json:"refusal"` // 429 or 503
	Count   int    `json:"count"`
	Example string `json:"example,omitempty"` // the first one's own words
}

// Share is what one backend served.
type Share struct {
	Backend  string  `json:"backend"`
	Requests int     `json:"requests"`
	Audio    float64 `json:"audio_s"`
	Service  float64 `json:"service_mean_s,omitempty"` // as the answers tell it
}

// Generator tells how well the generator kept up. Lags are seconds.
type Generator struct {
	LagP99    float64 `json:"lag_p99_s"`    // start of requests behind the meant one
	LagMax    float64 `json:"lag_max_s"`    //
	HiccupP99 float64 `json:"hiccup_p99_s"` // timers behind their time: how busy this machine is
	HiccupMax float64 `json:"hiccup_max_s"` //
}

// Late is how late the generator was in all but one of a hundred cases, in seconds.
func (g Generator) Late() float64 { return max(g.LagP99, g.HiccupP99) }

// Summary sums up a run. Latency and rates are of the requests that were served: what share was
// not is told beside, since refusing makes those that are served quick.
type Summary struct {
	Requests  int       `json:"requests"` // that ended by themselves
	OK        int       `json:"ok"`
	Refused   int       `json:"refused"`
	Failed    int       `json:"failed"`
	Abandoned int       `json:"abandoned"` // stopped by the generator; in no other figure
	Wall      float64   `json:"wall_s"`
	Rate      float64   `json:"requests_per_s"`
	AudioRate float64   `json:"audio_s_per_s"` // seconds of audio a second
	Latency   Latency   `json:"latency"`
	Problems  []Problem `json:"problems,omitempty"`
	Backends  []Share   `json:"backends,omitempty"` // most requests first; "" did not say
	Generator Generator `json:"generator"`

	sorted []float64 // latencies of those served
}

// ErrorPercent is the share of requests that were not served.
func (s Summary) ErrorPercent() float64 {
	if s.Requests == 0 {
		return 0
	}
	return 100 * float64(s.Refused+s.Failed) / float64(s.Requests)
}

// Summarize sums up a result.
func Summarize(r Result) Summary {
	s := Summary{Wall: r.Wall.Seconds()}
	problems := map[string]*Problem{}
	shares := map[string]*Share{}
	var lags []float64
	audioSeconds := 0.0
	for _, sample := range r.Samples {
		lags = append(lags, sample.Lag().Seconds())
		switch sample.Class {
		case Abandoned:
			s.Abandoned++
			continue
		case OK:
			s.OK++
			s.sorted = append(s.sorted, sample.Latency().Seconds())
			audioSeconds += sample.Seconds
			share := entry(shares, sample.Backend, func() *Share { return &Share{Backend: sample.Backend} })
			share.Requests++
			share.Audio += sample.Seconds
			share.Service += sample.Service.Seconds() // a sum until the end
		case Refused:
			s.Refused++
			fallthrough
		default:
			entry(problems, sample.What, func() *Problem {
				return &Problem{What: sample.What, Refusal: sample.Class == Refused, Example: sample.Detail}
			}).Count++
		}
		s.Requests++
	}
	s.Failed = s.Requests - s.OK - s.Refused
	slices.Sort(s.sorted)
	s.Latency = latencyOf(s.sorted)
	if s.Wall > 0 {
		s.Rate, s.AudioRate = float64(s.OK)/s.Wall, audioSeconds/s.Wall
	}
	for _, p := range problems {
		s.Problems = append(s.Problems, *p)
	}
	slices.SortFunc(s.Problems, func(a, b Problem) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.What, b.What)) })
	for _, share := range shares {
		share.Service /= float64(share.Requests)
		s.Backends = append(s.Backends, *share)
	}
	slices.SortFunc(s.Backends, func(a, b Share) int {
		return cmp.Or(b.Requests-a.Requests, cmp.Compare(a.Backend, b.Backend))
	})
	slices.Sort(lags)
	hiccups := seconds(r.Hiccups)
	slices.Sort(hiccups)
	s.Generator = Generator{
		LagP99: percentile(lags, 0.99), LagMax: percentile(lags, 1),
		HiccupP99: percentile(hiccups, 0.99), HiccupMax: percentile(hiccups, 1),
	}
	return s
}

// entry is the map's value for key, made when there is none.
func entry[V any](m map[string]*V, key string, make func() *V) *V {
	if m[key] == nil {
		m[key] = make()
	}
	return m[key]
}

func seconds(ds []time.Duration) []float64 {
	out := make([]float64, len(ds))
	for i, d := range ds {
		out[i] = d.Seconds()
	}
	return out
}

func latencyOf(sorted []float64) Latency {
	return Latency{
		Mean: mean(sorted), P50: percentile(sorted, 0.5), P90: percentile(sorted, 0.9), P95: percentile(sorted, 0.95),
		P99: percentile(sorted, 0.99), P999: percentile(sorted, 0.999), Max: percentile(sorted, 1),
	}
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(max(1, len(xs)))
}

// percentile is the least of the sorted values that at least so large a share does not exceed;
// 0 of none.
func percentile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	// The small part keeps 0.95 * 20, which is a hair more than 19, from counting as 20.
	rank := int(math.Ceil(share*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
