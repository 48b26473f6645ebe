package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/whisperpool/whisperpool/audio"
	"github.com/whisperpool/whisperpool/dispatcher"
	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
	"github.com/whisperpool/whisperpool/upstream"
)

// queueFullRetry is when to come back to a full queue that the request never got to.
const queueFullRetry = 5 * time.Second

// transcription is one request on its way: in, through the queue, and out.
type transcription struct {
	handler   *Handler
	pool      *Pool
	dialect   dialect
	requestID string
	arrived   time.Time
	uploaded  time.Duration // from arrival to the body's end
	replying  time.Time     // since when an answer is written
	outcome   string        // how it ended, once that is known,
	code      string        // and the error's that was answered, if one was
	tenant    scheduler.Tenant
	account   string // the tenant's name in metrics
	course    course
	story     *story // what is remembered of it; nil before it is in the queue
	spans     spans
	model     string // resolved; "" where the backends have no names for theirs
	file      *spool // nil until the upload is taken in
	request   upstream.Request
	trial     bool          // nobody's: there is no client, handler or upload
	taken     chan struct{} // closed once there is an answer; nil where nobody waits for that alone
	stream    *stream       // to a client that wants its answer piece by piece; else nil
	writing   bool          // something may have been sent to the client

	// Attempts write these; they may run side by side.
	crashes atomic.Int32 // of attempts
	problem atomic.Pointer[transcript.Error]
	answer  atomic.Pointer[answer]
}

// answer is the one that was committed to, whose it is and how long it took.
type answer struct {
	upstream.Answer
	attempt  scheduler.Dispatch
	emulated bool
	service  time.Duration
}

// answered takes in the answer of the attempt that has committed. There is one.
func (t *transcription) answered(a dispatcher.Attempt, v upstream.Verdict, service time.Duration) {
	t.answer.Store(&answer{v.Answer, a.Dispatch, v.Emulator, service})
	if t.taken != nil {
		close(t.taken)
	}
}

func (t *transcription) refused(problem *transcript.Error) { t.problem.Store(problem) }

// serve takes a transcription in, has it done, and answers. In order: 1. what can be refused unread,
// 2. the upload, 3. what it asks for, 4. the queue and the attempts, 5. the answer. A slow upload so
// holds no slot.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, pool *Pool, d dialect, id string) {
	t := &transcription{handler: h, pool: pool, dialect: d, requestID: id, arrived: time.Now()}
	defer t.measure(r.Context())
	defer t.rescue(w, r)
	t.traceFrom(r.Context())

	boundary, problem := t.precheck(r) // 1
	if problem != nil {
		t.refuse(w, r, nil, problem)
		return
	}
	limits := pool.limits.Load()
	file := &spool{account: &pool.uploads, memory: h.Upload.Memory, bytesMax: limits.bytes, dir: h.Upload.Spool}
	t.file = file
	defer func() { t.file.Close() }()
	b := &body{r: newPacer(pool.closing, w, r.Body, slowest), most: h.Upload.MaxSize, allow: -1}
	stop := t.hurry(w)
	form, err := readForm(b, boundary, d.file, file) // 2
	stop()
	t.uploaded = time.Since(t.arrived)
	if err != nil {
		if t.pool.closing.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.refuse(w, r, b, shutDown())
			return
		}
		t.refuseUpload(w, r, b, err)
		return
	}
	job, problem := t.prepare(r, form) // 3
	if problem != nil {
		t.refuse(w, r, b, problem)
		return
	}
	ctx := r.Context()
	if t.request.Params.Stream {
		var leave context.CancelFunc
		ctx, leave = context.WithCancel(ctx)
		defer leave()
		t.stream = t.newStream(w, leave)
		defer t.stream.end(nil) // also when an attempt panicked
	}
	t.finish(w, r, b, t.run(ctx, job)) // 4, 5
}

func (t *transcription) run(ctx context.Context, job scheduler.Job) scheduler.Settle {
	if t.pool.tenantFull(t.handler, t.tenant) {
		return scheduler.Settle{Reason: scheduler.TenantFull, RetryAfter: queueFullRetry}
	}
	t.pool.inside.Add(1)
	defer t.pool.inside.Add(-1) // Run panics when an attempt did
	t.pool.tenants.add(t.tenant, 1)
	defer t.pool.tenants.add(t.tenant, -1)
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	defer context.AfterFunc(t.pool.closing, giveUp)() // see finish
	t.story = t.pool.memory.begin(t.requestID, job)
	t.spans.wait()
	if t.pool.hedges.Load() {
		return t.runHedged(ctx, job)
	}
	return t.pool.dispatcher.Run(ctx, job, t.try)
}

// runHedged does not wait for an attempt that lost, on a backend that goes on with it unasked: its slot is
// taken until then, and the job is not over.
func (t *transcription) runHedged(ctx context.Context, job scheduler.Job) scheduler.Settle {
	type end struct {
		settle scheduler.Settle
		panic  any
	}
	t.taken = make(chan struct{})
	ended := make(chan end, 1)
	pool := loadPool(t.pool.name)                                 // the handler may be gone before the job is over
	own, cancel := context.WithCancel(context.WithoutCancel(ctx)) // ends with ctx while that is waited for
	stop := context.AfterFunc(ctx, cancel)
	go func() {
		defer pool.release()
		defer cancel()
		var e end
		defer func() {
			e.panic = recover()
			ended <- e
		}()
		e.settle = pool.dispatcher.Run(own, job, t.try)
	}()
	var e end
	select {
	case e = <-ended:
	case <-t.taken:
		stop()
		a := t.answer.Load().attempt
		return scheduler.Settle{Job: a.Job, Reason: scheduler.Served, Attempts: a.Number, Waited: a.Waited, Backend: a.Backend}
	}
	stop()
	if e.panic != nil {
		panic(e.panic)
	}
	return e.settle
}

// precheck refuses what can be refused before the body is read.
func (t *transcription) precheck(r *http.Request) (boundary string, problem *transcript.Error) {
	boundary, problem = t.handler.boundary(r)
	if problem != nil {
		return "", problem
	}
	if _, problem = t.deadline(r); problem != nil {
		return "", problem
	}
	if !t.pool.ready(r.Context()) {
		return "", transcript.Unavailable("not_configured", time.Second, "the pool %s has no configuration yet; try again", t.pool.name)
	}
	if t.pool.closing.Err() != nil {
		return "", shutDown()
	}
	if t.pool.full() {
		return "", queueFull(queueFullRetry)
	}
	if problem = t.pool.room(r); problem != nil {
		return "", problem
	}
	t.account = t.handler.accountOf(r)
	if t.tenant = t.pool.tenants.of(t.handler, r); t.pool.tenantFull(t.handler, t.tenant) {
		return "", tenantFull(queueFullRetry)
	}
	return boundary, nil
}

// prepare finds out what the request asks for and what it costs.
func (t *transcription) prepare(r *http.Request, form *upload) (scheduler.Job, *transcript.Error) {
	var job scheduler.Job
	if form.file == nil {
		return job, form.missingFile()
	}
	if t.pool.poisons.has(form.file, time.Now()) {
		return job, poisonous()
	}
	params, problem := t.dialect.params(r, form)
	if problem != nil {
		return job, problem
	}
	info, problem := probe(form, params)
	if problem != nil {
		return job, problem
	}
	file := upstream.File{Name: form.fileName, ContentType: form.contentType, Size: form.file.size, Open: form.file.Open}
	if params.API == transcript.ASR {
		if file, info, problem = t.asrFile(r.Context(), form, params, info); problem != nil {
			return job, problem
		}
	}
	if t.model, problem = t.resolve(r.Context(), params); problem != nil {
		return job, problem
	}
	t.request = upstream.Request{Params: params, AudioSeconds: info.Seconds, File: file}
	if info.Estimated {
		t.request.AudioSeconds = 0 // it goes into answers, where a guess has no place
	}
	job = scheduler.Job{
		Model: t.model, AudioSeconds: info.Seconds, SizeGuessed: info.Estimated, Bytes: t.file.size,
		Priority: t.handler.priority(r), Tenant: t.tenant,
	}
	if job.Needs, problem = t.needs(params); problem != nil {
		return job, problem
	}
	job.Needs |= t.pool.catalogue.Load().containers(t.model, job.Needs, info.Format)
	deadline, problem := t.deadline(r)
	if problem != nil {
		return job, problem
	}
	if !deadline.IsZero() {
		job.Deadline = t.pool.dispatcher.Now().Add(time.Until(deadline))
	}
	return job, nil
}

// probe tells the upload's length. Where its header doesn't, it is guessed.
func probe(form *upload, params transcript.Params) (audio.Info, *transcript.Error) {
	if params.PCM {
		return probePCM(form)
	}
	info, err := audio.Probe(form.file, form.file.size)
	var own *spoolError
	switch {
	case err == nil, errors.Is(err, audio.ErrUnsupported): // what a backend can decode is for it to say
	case errors.As(err, &own):
		return info, internalProblem("the upload could not be read back from where it was spooled")
	default:
		message := err.Error()
		if form.fileName == "" {
			message += fmt.Sprintf("; the field has no file name, was it meant to be a file? (in curl: -F %s=@audio.wav)", form.field)
		}
		return info, transcript.Invalid(form.field, "invalid_file", "%s", message)
	}
	return believe(info, form.file.size), nil
}

// resolve finds the model that is meant. A request that comes before the backends have been asked, or while
// none is found, waits for that, within limits.
func (t *transcription) resolve(ctx context.Context, params transcript.Params) (string, *transcript.Error) {
	var model string
	var problem *transcript.Error
	t.pool.await(ctx, firstProbeWait, func(c *catalogue) bool {
		model, problem = t.handler.resolve(c, params.API, params.Model)
		// The only model there is may not be the only one for long.
		lasting := t.handler.DefaultModel != "" || t.handler.Aliases[params.Model] != "" || c.has(params.Model)
		return len(c.entries) > 0 && (c.pending == 0 || problem == nil && lasting)
	})
	return model, problem
}

// needs are what the backend must be able to do. What nobody can do is refused by name.
func (t *transcription) needs(params transcript.Params) (scheduler.Capability, *transcript.Error) {
	c := t.pool.catalogue.Load()
	var needs scheduler.Capability
	if params.Task == transcript.Translate {
		if needs |= scheduler.CanTranslate; !c.able(t.model, needs) {
			return 0, t.cannot("", "translate")
		}
	}
	if params.Language != "" && params.Language != "en" {
		if needs |= scheduler.CanLanguages; !c.able(t.model, needs) {
			return 0, t.cannot("language", "transcribe any language but English")
		}
	} else if params.Language == "" && c.able(t.model, needs|scheduler.CanLanguages) {
		needs |= scheduler.CanLanguages // to detect it; English-only models need not
	}
	if params.Words {
		if needs |= scheduler.CanWords; !c.able(t.model, needs) {
			return 0, t.cannot("timestamp_granularities", "give the times of words")
		}
	}
	if params.Diarize || params.TinyDiarize {
		if needs |= scheduler.CanSpeakers; !c.able(t.model, needs) {
			return 0, t.cannot("diarize", "tell speakers apart")
		}
	}
	return needs, nil
}

func (t *transcription) cannot(param, what string) *transcript.Error {
	return transcript.Invalid(param, "unsupported", "no backend can %s with the model %s", what, quoted(t.model))
}

// requestIDHeader names a request from the client to the backend and in every log on the way.
const requestIDHeader = "X-Request-Id"

// requestID is the client's own where it is fit for headers and logs, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return rand.Text()
	}
	return id
}
