// Package upstream knows the kinds of server that can be a backend, one file a kind: how a request
// for each is rendered from what the client asked, how its answer is read and turned into what the
// client asked for, and how it is probed. It sends nothing by itself but probes, and decides
// nothing: what an outcome means for the pool is the scheduler's.
package upstream

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// File is the client's upload. Open gives a fresh reader from its start; attempts may run side by
// side, so readers are independent.
type File struct {
	Name        string // as the client called it, cleaned; only its extension matters to backends
	ContentType string
	Size        int64
	Open        func() io.ReadCloser
}

// Request is one transcription as an attempt needs it.
type Request struct {
	Params transcript.Params
	Model  string // the backend's model, alias and default resolved
	File   File
	// AudioSeconds from the upload's header, 0 when unknown: some kinds do not tell the duration.
	AudioSeconds float64
}

// Answer is what the client is to get.
type Answer struct {
	ContentType string
	Body        []byte
	// AudioSeconds is the length that the backend reported, 0 when it did not, or one that cannot be
	// the upload's.
	AudioSeconds float64
	// Doubtful: it reported such a length, so that nobody knows what it worked on: the time that it
	// took teaches nothing of its speed.
	Doubtful bool
	// Words: the answer has words.
	Words bool
	// Stream is the answer where it is still being made, and its first event is there. Body is empty then,
	// and Words is of that event. It must be closed.
	Stream *Stream
}

// Class says what a response means; the table is scheduling.md's section 6.2.
type Class uint8

// The classes.
const (
	OK Class = iota + 1
	// ClientFault: 400, 413, 415, 422. Problem is for the client.
	ClientFault
	// Broken: 5xx, broken or empty JSON, {"error":...} with 200, a body cut short or without end.
	Broken
	// Misconfigured: 401, 403, 404, 405, 407, and redirects, which are never followed.
	Misconfigured
	// Busy: 429, or 503 that does not say it is loading.
	Busy
	// Loading: up, but the model is not.
	Loading
)

// Verdict is a response, read.
type Verdict struct {
	Class      Class
	Answer     Answer            // with OK
	Problem    *transcript.Error // with ClientFault: in the shape the client expects
	RetryAfter time.Duration     // with Busy; 0 when not told
	Detail     string            // for logs: status and reason, never text of an answer
	Instance   string            // of the server, see Report; "" when not told
	Emulator   bool              // the server says that its texts are made up
}

// Report is what a probe found.
type Report struct {
	Ready    bool
	Loading  bool
	Instance string   // changes when the server restarts; "" when not told
	Slots    int      // 0: not told
	Models   []string // nil: not told, which means any model may be sent there
	GPUClass string
	GPUUUID  string // the card's own name
	// Busy and Queued are requests in slots and waiting for one, whoever sent them; Engine and
	// Device are what runs there and on what. Zero: not told.
	Busy, Queued   int
	Engine, Device string
	// Can is what each model can do, by model; missing: everything is assumed.
	Can    map[string]Can
	Detail string // why it is not ready
}

// Can is what a model can do on a kind of server.
type Can struct{ Translate, Words, Languages bool }

// Kind is a kind of server.
type Kind interface {
	// Name is its name in the Caddyfile.
	Name() string
	// Render makes the HTTP request for base: with Content-Length and GetBody, without Expect and
	// Accept-Encoding. Header operations of the user's come later.
	Render(ctx context.Context, base *url.URL, r Request) (*http.Request, error)
	// Read reads the response to its end, within limits of size, and closes it; an answer that comes as
	// a stream it reads to the first event. An error means that the attempt was ended meanwhile: an
	// answer that breaks off is a Broken one.
	Read(resp *http.Response, r Request) (Verdict, error)
	// Probe asks the server how it is. do sends a request (with the user's headers and transport).
	// An error means that it could not be reached; it never waits longer than ctx.
	Probe(ctx context.Context, base *url.URL, p Prober) (Report, error)
	// FreesOnCancel: closing the connection stops the work.
	FreesOnCancel() bool
	// DecodesAll tells whether the kind is known to read every kind of audio file, and not only [Plain].
	DecodesAll() bool
	// TellsSpeakers tells whether the kind can say who speaks, as whisper.cpp's clients ask for it.
	TellsSpeakers() bool
	// DefaultSlots is the parallelism when neither configuration nor report tells: 1.
	DefaultSlots() int
}

// Prober sends a probe's requests.
type Prober interface {
	Do(req *http.Request) (*http.Response, error)
	// HealthURI overrides the kind's own health path; "" for the default.
	HealthURI() string
}

// Seams: see kinds.go, identify.go and model.go.
//
//	ByName(name string) (Kind, bool)      // whisperpool, openai, whisper_server
//	Names() []string
//	Identify(ctx context.Context, base *url.URL, p Prober) (Kind, error) // by asking
//	CanByName(model string) Can // for models of which no more is known
