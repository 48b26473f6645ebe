package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Fault is something that goes wrong with the emulated server, as operators write it in JSON. Fields
// that are left out have the meaning that the comments give to zero.
type Fault struct {
	Kind Kind `json:"fault"`
	// On is which requests it strikes: "transcriptions" (all paths that take audio; also ""), "health"
	// or "all". "" lets [Exit] strike at once, without a request.
	On string `json:"on,omitempty"`
	// Share of those requests that it strikes, by chance; 0: all.
	Share float64 `json:"share,omitempty"`
	Seed  uint64  `json:"seed,omitempty"` // of that chance
	// For is how long it lasts; 0: until it is cleared. Requests is how many it strikes; 0: any number.
	For      Duration `json:"for,omitempty"`
	Requests int      `json:"requests,omitempty"`

	Factor     float64  `json:"factor,omitempty"`      // Slow: times as long; 0: 4
	Delay      Duration `json:"delay,omitempty"`       // Latency: before the server looks at the request
	Status     int      `json:"status,omitempty"`      // Error: 400 to 599; 0: 500
	Body       string   `json:"body,omitempty"`        // Error: what is answered; "": an error as OpenAI writes it
	RetryAfter Duration `json:"retry_after,omitempty"` // Error, Busy: 0: none with Error, 1 s with Busy
	Amid       bool     `json:"amid,omitempty"`        // Reset: after half of the answer
}

// Kind is a kind of fault.
type Kind string

// The kinds. Those of jobs happen to what has a slot, the others to requests.
const (
	Slow         Kind = "slow"
	Hang         Kind = "hang"
	Silent       Kind = "silent"
	Latency      Kind = "latency"
	Error        Kind = "error"
	Busy         Kind = "busy"
	Loading      Kind = "loading"
	Unauthorized Kind = "unauthorized"
	Reset        Kind = "reset"
	Cut          Kind = "cut"
	Empty        Kind = "empty"
	Exit         Kind = "exit"
)

// Where faults strike.
const (
	onTranscriptions = "transcriptions"
	onHealth         = "health"
	onAll            = "all"
)

// kind says of a kind of fault what it is for people, whether it happens to jobs in their slots, and
// which fields of its own it has.
type kind struct {
	name   Kind
	about  string
	ofJobs bool
	fields []string
}

var kinds = []kind{
	{Slow, "jobs take factor (4) times as long", true, []string{"factor"}},
	{Hang, "jobs keep their slots and are not answered until the fault is over", true, nil},
	{Silent, "transcripts without words", true, nil},
	{Latency, "requests wait for delay before anything else; on health, the probe alone", false, []string{"on", "delay"}},
	{Error, "an answer with status (500), body and retry_after, once the upload is read", false, []string{"on", "status", "body", "retry_after"}},
	{Busy, "503 with retry_after (1s), as with a full queue", false, []string{"retry_after"}},
	{Loading, "503 everywhere, and a load report of a server whose model is still loading", false, nil},
	{Unauthorized, "401 everywhere but on /health, as for a wrong API key", false, nil},
	{Reset, "the connection is reset instead of an answer, or with amid after half of it", false, []string{"on", "amid"}},
	{Cut, "answers end after half of their bytes, in good HTTP", false, []string{"on"}},
	{Empty, "200 with nothing in it, once the upload is read", false, []string{"on"}},
	{Exit, "the process dies as by kill -9: at once, or with on at the next such request", false, []string{"on"}},
}

func kindOf(name Kind) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k.name)
	}
	return strings.Join(names, ", ")
}

// fieldsOfAll are those that every kind has.
var fieldsOfAll = []string{"fault", "share", "seed", "for", "requests"}

// ParseFaults reads a fault, or a list of them. The error says what is wrong and what there is.
func ParseFaults(text []byte) ([]Fault, error) {
	var raws []json.RawMessage
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("[")) {
		raws = []json.RawMessage{text}
	} else if err := json.Unmarshal(text, &raws); err != nil {
		return nil, fmt.Errorf("this is no JSON: %w", err)
	}
	const most = 20
	if len(raws) > most {
		return nil, fmt.Errorf("%d faults at once are too many; there can be %d", len(raws), most)
	}
	faults := make([]Fault, 0, len(raws))
	for _, raw := range raws {
		f, err := parseFault(raw)
		if err != nil {
			return nil, err
		}
		faults = append(faults, f)
	}
	return faults, nil
}

func parseFault(raw []byte) (f Fault, err error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return f, fmt.Errorf(`a fault is a JSON object such as {"fault": "slow", "factor": 4}: %w`, err)
	}
	d := json.NewDecoder(bytes.NewReader(given["fault"]))
	if err := d.Decode(&f.Kind); err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf(`"fault" must be one of %s`, kindNames())
	}
	k, ok := kindOf(f.Kind)
	if !ok {
		return f, fmt.Errorf("there is no fault %q; there are %s", f.Kind, kindNames())
	}
	allowed := slices.Concat(fieldsOfAll, k.fields)
	for name := range given {
		if !slices.Contains(allowed, name) {
			return f, fmt.Errorf("the fault %s has no field %q; it has %s", f.Kind, name, strings.Join(allowed, ", "))
		}
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("the fault %s: %w", f.Kind, err)
	}
	return f, f.check()
}

// AtOnce tells whether a fault waits for no request.
func (f Fault) AtOnce() bool { return f.Kind == Exit && f.On == "" }

// check refuses values that make no sense, and fills in what was left zero.
func (f *Fault) check() error {
	switch {
	case f.Share < 0 || f.Share > 1:
		return fmt.Errorf("share is %v; it must be more than 0 and at most 1", f.Share)
	case f.Requests < 0:
		return fmt.Errorf("requests is %d; it must not be negative", f.Requests)
	case f.For < 0 || f.Delay < 0 || f.RetryAfter < 0:
		return errors.New("for, delay and retry_after must not be negative")
	case !slices.Contains([]string{"", onTranscriptions, onHealth, onAll}, f.On):
		return fmt.Errorf("on is %q; it must be transcriptions, health or all", f.On)
	case f.Kind == Latency && f.Delay == 0:
		return errors.New(`the fault latency wants a delay, such as "2s"`)
	case f.Kind == Slow && f.Factor != 0 && !(f.Factor > 0 && f.Factor <= 1e6):
		return fmt.Errorf("factor is %v; it must be more than 0 and at most a million", f.Factor)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status is %d; it must be within 400 and 599", f.Status)
	case f.AtOnce() && (f.Share != 0 || f.Requests != 0 || f.For != 0):
		return errors.New("the fault exit strikes at once unless on says at which requests; share, requests and for want on")
	}
	switch {
	case f.Kind == Slow && f.Factor == 0:
		f.Factor = 4
	case f.Kind == Error && f.Status == 0:
		f.Status = http.StatusInternalServerError
	case f.Kind == Busy && f.RetryAfter == 0:
		f.RetryAfter = Duration(time.Second)
	case f.Kind == Loading || f.Kind == Unauthorized:
		f.On = onAll
	}
	if f.On == "" && !f.AtOnce() {
		f.On = onTranscriptions
	}
	return nil
}

// Duration is a time as Go writes it: "1.5s", "2m".
type Duration time.Duration

// UnmarshalJSON implements [json.Unmarshaler].
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) == nil {
		v, err := time.ParseDuration(s)
		if err == nil {
			*d = Duration(v)
			return nil
		}
	}
	return fmt.Errorf(`%s is no duration; write it as "500ms", "30s" or "2m"`, text)
}

// MarshalJSON implements [json.Marshaler].
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }
