package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

// profileVersion is raised when a profile means something else than before.
const profileVersion = 1

// Profile is the law of one model on one device as it was measured, for files: `whisper-backend
// calibrate` writes it, the emulator serves by it. Of a hand-written one only Version, Model and Law
// must be there.
type Profile struct {
	Version int    `json:"whisperpool_profile"`
	Class   string `json:"class"`            // of GPU, or a word of the user's own
	Model   string `json:"model"`            // as clients name it
	Device  string `json:"device,omitempty"` // in the measured server's own words
	Slots   int    `json:"slots,omitempty"`  // jobs side by side; 0: as the law finds useful

	Law ProfileLaw `json:"law"`
	// Speech is how many words a second the audio had that was measured, as a share of what the law
	// takes for English speech without pauses (110 tokens in 30 s); 0: 1.
	Speech float64 `json:"speech,omitempty"`

	Measured *Measured `json:"measured,omitempty"` // nil: the law is not a measurement
}

// ProfileLaw is a [Law] with its times in milliseconds.
type ProfileLaw struct {
	Fixed    float64 `json:"fixed_ms"`
	Encode   float64 `json:"window_ms"`
	Token    float64 `json:"token_ms"`
	GainMax  float64 `json:"gain_max"` // 0: 1
	Exponent float64 `json:"gain_exponent,omitempty"`
	Knee     int     `json:"knee,omitempty"`
}

// Measured says what a profile rests on.
type Measured struct {
	At         time.Time `json:"at"`
	Jobs       int       `json:"jobs"`
	Lengths    []float64 `json:"lengths_s"`    // of the clips
	Streams    []int     `json:"streams"`      // jobs side by side
	Tokens     string    `json:"tokens"`       // "counted" in the answers, or "assumed" of the audio's length
	Off        float64   `json:"off"`          // median of |measured / law - 1| of jobs alone
	OffBesides float64   `json:"off_together"` // of jobs side by side
}

// NewProfileLaw writes a law.
func NewProfileLaw(l Law) ProfileLaw {
	in := func(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }
	return ProfileLaw{in(l.Fixed), in(l.Encode), in(l.Token), l.GainMax, l.Exponent, l.Knee}
}

// Law is the law for computing.
func (p ProfileLaw) Law() Law {
	l := Law{Fixed: ms(p.Fixed), Encode: ms(p.Encode), Token: ms(p.Token), GainMax: p.GainMax, Exponent: p.Exponent, Knee: p.Knee}
	if l.GainMax == 0 {
		l.GainMax = 1
	}
	return l
}

// ReadProfile reads a file. The error names it and says what is wrong.
func ReadProfile(path string) (Profile, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return Profile{}, fmt.Errorf("cannot read the profile: %w", err)
	}
	p, err := ParseProfile(text)
	if err != nil {
		return p, fmt.Errorf("%s is no profile that can be used: %w", path, err)
	}
	return p, nil
}

// ParseProfile reads a profile. Unknown fields are errors, since one of them may be misspelt.
func ParseProfile(text []byte) (p Profile, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, err
	}
	return p, p.check()
}

func (p Profile) check() error {
	l, largest := p.Law, 1e7 // ms: hours a window would be no GPU's
	within := func(v, most float64) bool { return v >= 0 && v <= most }
	switch {
	case p.Version != profileVersion:
		return fmt.Errorf("whisperpool_profile is %d; this version of the program reads %d", p.Version, profileVersion)
	case p.Model == "":
		return errors.New("there is no model in it")
	case !within(l.Fixed, largest) || !within(l.Encode, largest) || !within(l.Token, largest):
		return errors.New("fixed_ms, window_ms and token_ms must not be negative")
	case l.Fixed+l.Encode+l.Token == 0:
		return errors.New("fixed_ms, window_ms and token_ms are all 0")
	case l.GainMax != 0 && !(l.GainMax > 0 && l.GainMax <= 1000):
		return fmt.Errorf("gain_max is %v; it must be more than 0", l.GainMax)
	case !within(l.Exponent, 1):
		return fmt.Errorf("gain_exponent is %v; it must be within 0 and 1", l.Exponent)
	case l.Knee < 0:
		return fmt.Errorf("knee is %d; it must not be negative", l.Knee)
	case p.Slots < 0 || p.Slots > 64:
		return fmt.Errorf("slots is %d; there can be up to 64", p.Slots)
	case !within(p.Speech, 10):
		return fmt.Errorf("speech is %v; it must be within 0 and 10", p.Speech)
	}
	return nil
}

// Bytes is the profile as a file.
func (p Profile) Bytes() []byte {
	p.Version = profileVersion
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic("gpu: a profile does not encode: " + err.Error()) // only if a figure is none
	}
	return append(text, '\n')
}

// UsefulSlots is how many jobs side by side pay: until one more adds nothing, at most so many.
func (l Law) UsefulSlots(most int) int {
	n := 1
	for n < most && l.Gain(n+1) > l.Gain(n) {
		n++
	}
	return n
}
