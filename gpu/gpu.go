// Package gpu knows the classes of GPU that a pool is built of, and how long a transcription takes
// on each: the law of service time ([Law]). Three things rest on it: the prior that a scheduler
// starts from before it has learned a backend's speed ([Prior]), the emulated backend, and the
// simulator. It measures nothing and talks to no device.
//
// The figures are estimates made from published ones, not measurements of these cards: no figures
// of whisper.cpp on a T4, an A10G or an H100 are published. A pool corrects them after a few jobs.
package gpu

import (
	"slices"
	"strings"
)

// Class names a kind of GPU, as it is written in a Caddyfile and in metrics.
type Class string

// The classes that are known. A law exists for some of them only, see [LawOf]; any other word is a
// class too, as a label without a law.
const (
	T4   Class = "T4"
	L4   Class = "L4"
	A10G Class = "A10G"
	A100 Class = "A100"
	H100 Class = "H100"
	CPU  Class = "CPU"
)

var known = []Class{T4, L4, A10G, A100, H100, CPU}

// Classes lists the known classes, slowest generation first, the CPU last.
func Classes() []Class { return slices.Clone(known) }

// ParseClass finds the known class that s names in any case. Any other text is returned as it is,
// without the space around it: a class of the user's own.
func ParseClass(s string) Class {
	s = strings.TrimSpace(s)
	for _, c := range known {
		if strings.EqualFold(s, string(c)) {
			return c
		}
	}
	return Class(s)
}

// Known tells whether c is one of [Classes].
func (c Class) Known() bool { return slices.Contains(known, c) }

// FromDevice finds the class in the name that a driver gives a device, such as "NVIDIA A10G",
// "Tesla T4" or "NVIDIA H100 80GB HBM3". The name must hold the class as a word of its own, since
// an "RTX A1000" is no A100.
func FromDevice(name string) (Class, bool) {
	words := strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	for _, c := range known {
		if slices.Contains(words, string(c)) {
			return c, true
		}
	}
	return "", false
}
