package caddymodule

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// deadlineMax is the longest that counts as a deadline; SDKs can be told to wait for days.
const deadlineMax = 24 * time.Hour

// deadline is when the client will have given up: by X-Deadline-Ms, which counts from the request's
// arrival and has to be a number, else by the timeouts that OpenAI's SDKs tell of in seconds. That
// for Node counts from the request's start, that for Python from its last byte. Zero: none told.
func (t *transcription) deadline(r *http.Request) (time.Time, *transcript.Error) {
	if text := r.Header.Get("X-Deadline-Ms"); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(ms) || ms <= 0 {
			return time.Time{}, transcript.Invalid("", "invalid_deadline", "X-Deadline-Ms must be a number of milliseconds above 0")
		}
		return after(t.arrived, ms*float64(time.Millisecond)), nil
	}
	if seconds, ok := sdkTimeout(r, "X-Stainless-Timeout"); ok {
		return after(t.arrived, seconds), nil
	}
	if seconds, ok := sdkTimeout(r, "X-Stainless-Read-Timeout"); ok {
		return after(t.arrived.Add(t.uploaded), seconds), nil
	}
	return time.Time{}, nil
}

func sdkTimeout(r *http.Request, field string) (nanoseconds float64, ok bool) {
	seconds, err := strconv.ParseFloat(r.Header.Get(field), 64)
	return seconds * float64(time.Second), err == nil && seconds > 0
}

func after(start time.Time, nanoseconds float64) time.Time {
	return start.Add(time.Duration(min(nanoseconds, float64(deadlineMax))))
}
