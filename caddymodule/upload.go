package caddymodule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/whisperpool/whisperpool/transcript"
)

// Limits of a form, far above what any client sends.
const (
	partsMax      = 200
	partHeaderMax = 16 << 10  // bytes of a part's header
	fieldMax      = 64 << 10  // bytes of a field's value
	fieldsMax     = 256 << 10 // bytes of all fields' names and values together
	fieldsFree    = 8 << 10   // of those are not counted against the memory for uploads
	fieldStep     = 4 << 10
	nameMax       = 255 // bytes of a file's name and of its content type
	boundaryMax   = 70  // RFC 2046, 5.1.1
)

// upload is a request's form with its file.
type upload struct {
	field       string // the one that has the file
	fields      map[string][]string
	file        *spool
	fileName    string // as the client wrote it; never logged
	contentType string
	stranger    *string // the name of another field that had a file
	total       int64   // bytes of the fields
}

// body reads a request's body, counts it, and remembers how it ended: a form that is cut short is the
// client's fault only when the body itself was whole.
type body struct {
	r     io.Reader
	read  int64
	most  int64 // of the whole body
	allow int64 // bytes until errHeaderTooLong, < 0: no limit
	err   error // why it ended, io.EOF when it was whole
}

var (
	errBodyTooLarge  = errors.New("body too large")
	errHeaderTooLong = errors.New("part header too long")
)

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.allow == 0 {
		b.err = errHeaderTooLong
		return 0, b.err
	}
	if b.allow > 0 {
		p = p[:min(int64(len(p)), b.allow)]
	}
	n, err := b.r.Read(p)
	if b.allow > 0 {
		b.allow -= int64(n)
	}
	if b.read += int64(n); b.read > b.most {
		err = errBodyTooLarge
	}
	b.err = err
	return n, err
}

// ended tells whether the body was read to its end. Only then does net/http notice a client that
// leaves.
func (b *body) ended() bool { return b.err == io.EOF }

// boundary checks what a request says of its body, before it is read.
func (h *Handler) boundary(r *http.Request) (string, *transcript.Error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/form-data" || params["boundary"] == "" {
		return "", transcript.Invalid("", "invalid_content_type",
			"the request must be multipart/form-data with a field named file, such as curl -F file=@audio.wav sends")
	}
	if len(params["boundary"]) > boundaryMax {
		return "", transcript.Invalid("", "invalid_content_type", "the boundary of the form is longer than %d characters", boundaryMax)
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		problem := transcript.Invalid("", "unsupported_content_encoding",
			"the request has the Content-Encoding %s; send it without any, and audio in a compressed format such as FLAC or Opus", quoted(coding))
		problem.Status = http.StatusUnsupportedMediaType
		return "", problem
	}
	if r.ContentLength > h.Upload.MaxSize {
		return "", tooLarge(h.Upload.MaxSize)
	}
	return params["boundary"], nil
}

// room refuses what there would be no room for, before it is read.
func (p *Pool) room(r *http.Request) *transcript.Error {
	switch limit := p.limits.Load().bytes; {
	case limit <= 0 || r.ContentLength < 0:
		return nil
	case r.ContentLength > limit:
		return tooLarge(limit)
	case p.uploads.held.Load()+r.ContentLength > limit:
		return noRoom()
	}
	return nil
}

func noRoom() *transcript.Error {
	return transcript.Unavailable("queue_full", queueFullRetry, "the uploads that are waiting leave no room for another; try again later")
}

func tooLarge(limit int64) *transcript.Error {
	problem := transcript.Invalid("file", "too_large", "the upload is larger than %s, which is the most that is taken here; "+
		"send a compressed format such as FLAC or Opus, or the recording in pieces", humanize.IBytes(uint64(limit)))
	problem.Status = http.StatusRequestEntityTooLarge
	return problem
}

// readForm takes in the whole body: fields into memory, the file into the spool.
func readForm(b *body, boundary, field string, file *spool) (*upload, error) {
	u := &upload{field: field, fields: map[string][]string{}}
	file.enter()
	flow := &inflow{r: b.r}
	b.r = flow
	defer flow.close()
	reader := multipart.NewReader(b, boundary)
	for parts := 0; ; parts++ {
		b.allow = partHeaderMax
		part, err := reader.NextPart()
		b.allow = -1
		if err == io.EOF {
			break
		}
		if err != nil {
			return u, formError(b, err)
		}
		if parts == partsMax {
			return u, badForm("the form has more than %d fields", partsMax)
		}
		if err := u.take(part, file); err != nil {
			return u, formError(b, err)
		}
	}
	// What comes after the form is read too, or the client's leaving would not be noticed.
	if _, err := io.Copy(io.Discard, b); err != nil {
		return u, formError(b, err)
	}
	return u, nil
}

// take takes in one part.
func (u *upload) take(part *multipart.Part, file *spool) error {
	name := part.FormName()
	switch {
	case name == u.field:
		if u.file != nil {
			return badForm("the form has more than one field named %s", u.field)
		}
		u.file, u.fileName, u.contentType = file, lastOf(part.FileName(), nameMax), lastOf(part.Header.Get("Content-Type"), nameMax)
		_, err := file.ReadFrom(part)
		return err
	case part.FileName() != "":
		if u.stranger == nil {
			u.stranger = &name
		}
		_, err := io.Copy(io.Discard, part)
		return err
	}
	value, err := u.value(name, part, file)
	u.fields[name] = append(u.fields[name], value)
	return err
}

// value reads a field. Those of a usual form are small and come at once; what is beyond that counts, or
// many who send large ones slowly would fill the memory.
func (u *upload) value(name string, part io.Reader, file *spool) (string, error) {
	var value bytes.Buffer
	grown, ended := int64(len(name)), false
	for {
		if u.total += grown; value.Len() > fieldMax || u.total > fieldsMax {
			return "", badForm("the field %s is too long", quoted(name))
		}
		if ended {
			return value.String(), nil
		}
		if u.total > fieldsFree && !file.keep(2*grown) { // a buffer that grows is copied
			return "", errNoRoom
		}
		var err error
		if grown, err = io.CopyN(&value, part, fieldStep); err == io.EOF {
			ended = true
		} else if err != nil {
			return "", err
		}
	}
}

// lastOf is the end of s, of n bytes at most: of a file's name that is where the extension is.
func lastOf(s string, n int) string { return strings.Clone(s[max(0, len(s)-n):]) }

// missingFile says what is wrong with a form without a file.
func (u *upload) missingFile() *transcript.Error {
	if u.stranger != nil {
		return transcript.Invalid(u.field, "missing_file", "the audio must be in a field named %s; this form has a file named %s", u.field, quoted(*u.stranger))
	}
	return transcript.Invalid(u.field, "missing_file", "the form has no field named %s with the audio in it", u.field)
}

// badFormError is a form that is not as it should be.
type badFormError struct{ problem *transcript.Error }

func (e *badFormError) Error() string { return e.problem.Message }

func badForm(format string, args ...any) error {
	return &badFormError{transcript.Invalid("", "invalid_form", format, args...)}
}

// errUploadBroken: the connection broke before the body was whole.
var errUploadBroken = errors.New("the upload broke off")

// formError tells whose fault a failure is. What the body itself says counts first: a broken
// connection also looks like a broken form.
func formError(b *body, err error) error {
	var tooLarge *http.MaxBytesError // from Caddy's request_body
	var bad *badFormError
	var own *spoolError
	switch {
	case errors.As(err, &bad), errors.As(err, &own), errors.Is(err, errNoRoom):
		return err
	case errors.Is(b.err, errHeaderTooLong):
		return badForm("a field's header is longer than %d bytes", partHeaderMax)
	case errors.Is(b.err, errBodyTooLarge), errors.As(b.err, &tooLarge):
		return errBodyTooLarge
	case b.err == nil, b.ended():
		return badForm("the form is damaged or cut short: %s", strings.TrimPrefix(err.Error(), "multipart: "))
	case errors.Is(b.err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return fmt.Errorf("%w: %w", errUploadBroken, b.err)
}
