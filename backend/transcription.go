package backend

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/transcript"
)

// job is one transcription on its way through the server.
type job struct {
	dialect dialect
	id      string // of the request
	upload  *upload
	params  transcript.Params
	samples []float32
	held    int64   // seconds of decoded audio that it has reserved
	stream  *stream // to a client that wants its answer piece by piece; else nil

	sides    *sides    // of a recording whose speakers are to be told apart; else nil
	timeline *timeline // of samples, once silence was cut out of them; else nil

	audioSeconds float64
	// Time spent decoding, waiting (for a decoder, for memory, for a slot), and in the slot.
	decode, queue, inference time.Duration
}

// statusClientGone is nginx's status for a client that left. Nobody ever receives it.
const statusClientGone = 499

// attend does the work of one request, from the cheapest refusal to the transcript. The order is
// what keeps a slot busy with nothing but inference: the upload is read and decoded first.
func (s *Server) attend(w http.ResponseWriter, r *http.Request, j *job) (t transcript.Transcript, refusal *transcript.Error) {
	defer func() {
		if v := recover(); v != nil {
			refusal = s.recovered(v)
		}
	}()
	// 1. What can be refused without reading the upload.
	if refusal = s.admit(); refusal != nil {
		return t, refusal
	}
	// 2. The upload, which may be slow, and so holds nothing that others need.
	j.upload, refusal = s.receive(w, r, j.dialect.file)
	if refusal != nil {
		return t, refusal
	}
	defer j.upload.close()
	// 3. What is asked for, and who can do it.
	if refusal = s.understand(r, j); refusal != nil {
		return t, refusal
	}
	d, release, refusal := s.model(r.Context(), s.wanted(j.params))
	if refusal != nil {
		return t, refusal
	}
	defer release()
	if refusal = d.adapt(&j.params); refusal != nil {
		return t, refusal
	}
	if refusal = s.checkVAD(j.params); refusal != nil {
		return t, refusal
	}
	// 4. A place in the queue, so that what waits, decoded or not, is bounded.
	if !s.slots.enter() {
		return t, s.queueFull()
	}
	defer s.slots.leave()
	ctx := r.Context()
	if j.params.Stream {
		var leave context.CancelFunc
		ctx, leave = context.WithCancel(ctx)
		defer leave()
		j.stream = s.newStream(w, j, leave)
	}
	// 5. Decoding, before a slot is taken: the device never waits for it.
	defer func() { s.decoded.Release(j.held) }()
	if refusal = s.decodeAudio(ctx, j); refusal != nil {
		return t, refusal
	}
	if refusal = s.cutSilence(ctx, j); refusal != nil {
		return t, refusal
	}
	if j.timeline.silent() {
		return j.timeline.nothing(j.params), nil
	}
	// 6. A slot, and the transcript.
	return s.infer(ctx, d, j)
}

// understand reads what the client asks for.
func (s *Server) understand(r *http.Request, j *job) (refusal *transcript.Error) {
	fields := j.upload.fields
	if j.dialect.query {
		for name, values := range r.URL.Query() {
			fields[name] = values
		}
	}
	j.params, refusal = transcript.ParseForm(j.dialect.api, j.dialect.task, fields, transcript.Limits{
		BeamSizeMax: s.cfg.BeamSizeMax, BestOfMax: s.cfg.BeamSizeMax,
	})
	if refusal != nil {
		return refusal
	}
	if j.dialect.detect {
		j.params.DetectOnly, j.params.Language = true, ""
	}
	if j.params.API == transcript.WhisperServer && j.params.BestOf == 0 {
		j.params.BestOf = min(inferenceBestOf, s.cfg.BeamSizeMax)
	}
	return nil
}

// wanted is the model that a client wants; "" is the default. Only OpenAI's API has a word for it:
// whisper.cpp's clients may write anything there, and a proxy the model that it means.
func (s *Server) wanted(p transcript.Params) string {
	if p.API == transcript.OpenAI {
		return p.Model
	}
	if _, known := s.shelf.find(p.Model); !known || transcript.MeansDefault(p.Model) {
		return ""
	}
	return p.Model
}

// admit refuses before the body is read while the server cannot or will not work.
func (s *Server) admit() *transcript.Error {
	switch {
	case s.gate.closed():
		return s.shuttingDown()
	case s.device.Load() == nil:
		return s.loading()
	case s.slots.full():
		return s.queueFull()
	}
	return nil
}

func (s *Server) loading() *transcript.Error {
	return transcript.Unavailable("loading", 2*time.Second, "The model is loading; try again in a moment.")
}

func (s *Server) shuttingDown() *transcript.Error {
	return transcript.Unavailable("shutting_down", time.Second, "The server is shutting down.")
}

func (s *Server) queueFull() *transcript.Error {
	return transcript.Unavailable("queue_full", s.slots.retryAfter(),
		"All %d slots are busy and %d jobs wait already.", s.slots.now(), s.cfg.Queue)
}

// receive reads the upload, unless more of them are under way than could ever be worked on soon.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, field string) (*upload, *transcript.Error) {
	defer s.uploads.Add(-1)
	if s.uploads.Add(1) > uploadsMax {
		return nil, transcript.Unavailable("too_many_uploads", time.Second, "%d uploads are under way already.", uploadsMax)
	}
	return s.readUpload(w, r, field)
}

// decodedSecondsMax bounds the decoded audio in memory, of all jobs together: twice the longest
// that is allowed, so that a short job need not wait for the longest one to end. An hour of it is
// 230 MB.
func decodedSecondsMax(cfg Config) int64 {
	return max(1, int64(math.Ceil(2*cfg.AudioMax.Seconds())))
}

// decodeAudio turns the upload into samples.
func (s *Server) decodeAudio(ctx context.Context, j *job) *transcript.Error {
	waiting := time.Now()
	o := s.decoding(j.params)
	reserve := s.secondsAhead(j.upload, o)
	if s.decoded.Acquire(ctx, reserve) != nil {
		return s.interrupted(ctx)
	}
	j.held = reserve
	if s.decoders.Acquire(ctx, 1) != nil {
		return s.interrupted(ctx)
	}
	defer s.decoders.Release(1)
	j.queue = time.Since(waiting)

	started := time.Now()
	samples, _, err := audio.Decode(ctx, j.upload.file, j.upload.size, o)
	if err == nil && j.params.Diarize {
		j.sides = &sides{}
		j.sides.first, j.sides.second, err = audio.Loudness(ctx, j.upload.file, j.upload.size, o)
	}
	j.decode = time.Since(started)
	if err != nil {
		return s.decodeRefusal(ctx, j, err)
	}
	if len(samples) == 0 {
		return transcript.Invalid("file", "empty_audio", "The file holds no sound.")
	}
	j.samples = samples
	j.audioSeconds = float64(len(samples)) / audio.SampleRate
	j.stream.decoded(j.audioSeconds)
	if over := j.held - int64(math.Ceil(j.audioSeconds)); over > 0 {
		s.decoded.Release(over)
		j.held -= over
	}
	return nil
}

// detectSeconds of a recording tell its language: whisper looks at one window.
const detectSeconds = 30

// decoding says how a job's upload is decoded.
func (s *Server) decoding(p transcript.Params) audio.Options {
	o := audio.Options{SecondsMax: s.cfg.AudioMax.Seconds(), FFmpeg: s.cfg.FFmpeg, TempDir: s.cfg.TempDir, PCM: p.PCM}
	if p.API == transcript.ASR && p.DetectOnly { // whisper-server tells the length of the whole recording
		o.SecondsMax, o.SecondsKeep = 0, detectSeconds
	}
	return o
}

// secondsAhead is how much decoded audio to expect of an upload, at most what is allowed at all.
func (s *Server) secondsAhead(u *upload, o audio.Options) int64 {
	const slowest = 500 // bytes a second; speech codecs go down to about 750
	if o.SecondsKeep > 0 {
		return int64(o.SecondsKeep)
	}
	limit := s.cfg.AudioMax.Seconds()
	info, err := audio.Probe(u.file, u.size)
	if o.PCM {
		info, err = audio.Info{Seconds: float64(u.size) / (2 * audio.SampleRate)}, nil
	}
	seconds := info.Seconds
	switch {
	case err != nil:
		seconds = 0 // Decode will say so
	case seconds == 0:
		seconds = float64(u.size) / slowest
	case info.Estimated:
		seconds *= 2
	}
	return int64(math.Ceil(max(1, min(seconds, limit))))
}

func (s *Server) decodeRefusal(ctx context.Context, j *job, err error) *transcript.Error {
	refuse := func(status int, code string) *transcript.Error {
		e := transcript.Invalid("file", code, "%s", sentence(err.Error()))
		e.Status = status
		return e
	}
	switch {
	case ctx.Err() != nil:
		return s.interrupted(ctx)
	case errors.Is(err, audio.ErrEmpty):
		return refuse(http.StatusBadRequest, "empty_file")
	case errors.Is(err, audio.ErrNotAudio):
		return refuse(http.StatusBadRequest, "not_audio")
	case errors.Is(err, audio.ErrCorrupt):
		return refuse(http.StatusBadRequest, "corrupt_audio")
	case errors.Is(err, audio.ErrUnsupported):
		return refuse(http.StatusBadRequest, "unsupported_format")
	case errors.Is(err, audio.ErrTooLong):
		e := refuse(http.StatusRequestEntityTooLarge, "audio_too_long")
		e.Message = fmt.Sprintf("The audio is longer than the %v that this server takes.", s.cfg.AudioMax)
		return e
	}
	s.log.Error("cannot decode an upload", "id", j.id, "error", err)
	return &transcript.Error{
		Status: http.StatusInternalServerError, Type: "server_error", Code: "decoder_failed",
		Message: "The server could not decode the audio.",
	}
}

// infer waits for a slot and transcribes in it.
func (s *Server) infer(ctx context.Context, d *device, j *job) (t transcript.Transcript, refusal *transcript.Error) {
	waiting := time.Now()
	err := s.slots.acquire(ctx, &d.lane)
	j.queue += time.Since(waiting)
	if err != nil {
		return t, s.interrupted(ctx)
	}
	started := time.Now()
	defer func() {
		j.inference = time.Since(started)
		if refusal == nil {
			s.slots.observe(j.inference)
		}
		s.slots.release(&d.lane)
	}()
	result, err := d.engine.Transcribe(ctx, Job{
		Samples: j.samples, Params: j.params, Segment: j.timeline.stream(j.stream.each()),
	})
	t = result.Transcript
	if err == nil {
		j.timeline.restore(&t)
		j.sides.label(t.Segments)
		s.metrics.worked(d.info.Model, result.Work)
		if t.Duration == 0 {
			t.Duration = j.audioSeconds
		}
		return t, nil
	}
	if ctx.Err() != nil {
		s.metrics.aborts.Inc()
		return t, s.interrupted(ctx)
	}
	if errors.As(err, &refusal) {
		return t, refusal
	}
	s.log.Error("the engine failed", "id", j.id, "error", err)
	return t, &transcript.Error{
		Status: http.StatusInternalServerError, Type: "server_error", Code: "engine_failed",
		Message: "The engine failed at this transcription.",
	}
}

// interrupted is the end of a job whose context ended: its client left, or the server stops.
func (s *Server) interrupted(ctx context.Context) *transcript.Error {
	if errors.Is(context.Cause(ctx), errShutdown) {
		return s.shuttingDown()
	}
	return &transcript.Error{
		Status: statusClientGone, Type: "invalid_request_error", Code: "client_gone",
		Message: "The client closed the connection.",
	}
}
