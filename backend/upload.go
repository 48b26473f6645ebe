package backend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// upload is a request's body, read: the fields of the form, and the audio in memory or in a file
// that has no name any more, so that nothing is left of it even after a crash.
type upload struct {
	field  string // the one that has the audio
	fields map[string][]string
	name   string // of the file, as the client wrote it
	file   io.ReaderAt
	size   int64
	close  func()

	others []string // names of other fields with files
	textly bool     // the field came as text: the client sent a file's name instead of the file
}

// readUpload reads the whole body, which must be a form with the audio in the field of that name. The
// caller must close the upload.
func (s *Server) readUpload(w http.ResponseWriter, r *http.Request, field string) (*upload, *transcript.Error) {
	boundary, refusal := formBoundary(r.Header.Get("Content-Type"), field)
	if refusal != nil {
		return nil, refusal
	}
	if r.ContentLength > s.cfg.UploadMax {
		return nil, s.tooLarge()
	}
	body := &steadyBody{
		from:    http.MaxBytesReader(w, r.Body, s.cfg.UploadMax),
		control: http.NewResponseController(w), stall: s.stall,
	}
	// A read that waits for its client does not see the context end, but a deadline.
	stop := context.AfterFunc(r.Context(), func() { _ = body.control.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	u := &upload{field: field, fields: map[string][]string{}, close: func() {}}
	err := s.readForm(u, multipart.NewReader(body, boundary), r.ContentLength)
	if err == nil {
		// To the very end, or the server would not notice that a client leaves later.
		_, err = io.Copy(io.Discard, body)
	}
	body.done()
	if err != nil {
		u.close()
		if errors.Is(context.Cause(r.Context()), errShutdown) {
			return nil, s.shuttingDown()
		}
		return nil, s.uploadRefusal(err)
	}
	if refusal := u.check(); refusal != nil {
		u.close()
		return nil, refusal
	}
	return u, nil
}

// formBoundary finds the boundary of multipart/form-data in a Content-Type.
func formBoundary(contentType, field string) (string, *transcript.Error) {
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case media != "multipart/form-data":
		return "", transcript.Invalid("", "invalid_content_type",
			"Send the audio as multipart/form-data, with the field %[1]s (curl: -F %[1]s=@audio.wav).", field)
	case err != nil || params["boundary"] == "":
		return "", transcript.Invalid("", "invalid_content_type",
			"The Content-Type multipart/form-data has no usable boundary; let the HTTP library write this header.")
	}
	return params["boundary"], nil
}

// readForm reads the parts of a form into u.
func (s *Server) readForm(u *upload, form *multipart.Reader, length int64) error {
	fieldBytes := int64(fieldBytesMax)
	for parts := 0; ; parts++ {
		part, err := form.NextPart()
		if err == io.EOF { // and not errors.Is: wrapped, it means that the closing boundary is missing
			return nil
		}
		if err != nil {
			return err
		}
		if parts == fieldsMax {
			return transcript.Invalid("", "too_many_fields", "The form has more than %d fields.", fieldsMax)
		}
		name := part.FormName()
		content := bufio.NewReaderSize(part, sniffBytes)
		switch {
		case name == u.field && (isFile(part) || isBinary(content)):
			if u.file != nil {
				return transcript.Invalid(u.field, "too_many_values", "The form has several fields named %s; send one file a request.", u.field)
			}
			u.name = part.FileName()
			if err := s.keep(u, content, length); err != nil {
				return err
			}
		case isFile(part):
			u.others = append(u.others, name)
		case name == u.field:
			u.textly = true
		default:
			value, err := io.ReadAll(io.LimitReader(content, fieldBytes+1))
			if err != nil {
				return err
			}
			if fieldBytes -= int64(len(value)); fieldBytes < 0 {
				return transcript.Invalid("", "fields_too_large", "The form's fields are larger than %d bytes without the file.", fieldBytesMax)
			}
			u.fields[name] = append(u.fields[name], string(value))
		}
	}
}

// isFile tells a file from a text field: files have a file name, or at least a type.
func isFile(part *multipart.Part) bool {
	kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
	return part.FileName() != "" || kind != "" && kind != "text/plain" && kind != "application/json"
}

const sniffBytes = 512

// isBinary tells whether what begins like this is no text: some clients leave out the file's name.
func isBinary(content *bufio.Reader) bool {
	start, _ := content.Peek(sniffBytes) // what breaks here breaks again when it is read
	for len(start) > 0 {
		r, size := utf8.DecodeRune(start)
		if r == 0 || r == utf8.RuneError && size == 1 && utf8.FullRune(start) {
			return true
		}
		start = start[size:]
	}
	return false
}

// keep reads the audio: into memory when it is small and there is room, else into a file.
func (s *Server) keep(u *upload, from io.Reader, length int64) error {
	if length > 0 && length <= uploadMemory && s.memory.TryAcquire(length) {
		var buf bytes.Buffer
		buf.Grow(int(length))
		u.close = func() { s.memory.Release(length) }
		if _, err := io.Copy(&buf, from); err != nil {
			return err
		}
		u.file, u.size = bytes.NewReader(buf.Bytes()), int64(buf.Len())
		return nil
	}
	file, err := os.CreateTemp(s.cfg.TempDir, "whisper-backend-") // only its owner may read it
	if err != nil {
		return spoolError{err}
	}
	u.close = func() { _ = file.Close() } // which frees it, since it has no name
	if err := os.Remove(file.Name()); err != nil {
		return spoolError{err}
	}
	u.size, err = io.Copy(spoolWriter{file}, from)
	u.file = file
	return err
}

// check refuses a form without usable audio.
func (u *upload) check() *transcript.Error {
	switch {
	case u.file != nil && u.size == 0:
		return transcript.Invalid(u.field, "empty_file", "The file is empty.")
	case u.file != nil:
		return nil
	case u.textly:
		return transcript.Invalid(u.field, "not_a_file",
			"The field %[1]s was sent as text, without a file name; send the file itself (curl: -F %[1]s=@audio.wav, with the @).", u.field)
	case len(u.others) > 0:
		const listed = 5
		names := make([]string, 0, listed)
		for _, name := range u.others[:min(len(u.others), listed)] {
			names = append(names, transcript.Quote(name))
		}
		return transcript.Invalid(u.field, "missing_required_parameter",
			"The audio must be in the field %s; files were found in: %s.", u.field, strings.Join(names, ", "))
	}
	return transcript.Invalid(u.field, "missing_required_parameter", "The field %s is missing; it must hold the audio.", u.field)
}

// spoolError says that it is the server's disk that failed, not the client's connection.
type spoolError struct{ error }

func (e spoolError) Unwrap() error { return e.error }

type spoolWriter struct{ file *os.File }

func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if err != nil {
		err = spoolError{err}
	}
	return n, err
}

func (s *Server) tooLarge() *transcript.Error {
	return &transcript.Error{
		Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Param: "file", Code: "upload_too_large", Final: true,
		Message: fmt.Sprintf("The upload is larger than the %d bytes that this server takes.", s.cfg.UploadMax),
	}
}

// codeIncomplete is the refusal of an upload that lacks its end, mostly since its client left.
const codeIncomplete = "upload_incomplete"

// uploadRefusal turns an error of reading the body into what the client is told.
func (s *Server) uploadRefusal(err error) *transcript.Error {
	var (
		refusal  *transcript.Error
		tooLarge *http.MaxBytesError
		spool    spoolError
		network  net.Error
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &tooLarge):
		return s.tooLarge()
	case errors.As(err, &spool):
		s.log.Error("cannot store an upload", "error", spool.error)
		return transcript.Unavailable("no_space", 10*time.Second, "The server cannot store the upload now.")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &transcript.Error{
			Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "upload_stalled",
			Message: fmt.Sprintf("No byte of the upload came for %v.", s.stall),
		}
	case errors.Is(err, errSlow):
		return &transcript.Error{
			Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: "upload_stalled",
			Message: fmt.Sprintf("The upload came slower than %d bytes a second.", uploadRateMin),
		}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.As(err, &network):
		return transcript.Invalid("file", codeIncomplete, "The upload ended before the form did; it was cut short on the way.")
	}
	return transcript.Invalid("", "invalid_form", "The body is not well-formed multipart/form-data.")
}

// steadyBody is a body that fails when its client pauses for too long, or sends so little that it
// must be there to hold a place, however long it is in all.
type steadyBody struct {
	from    io.Reader
	control *http.ResponseController
	stall   time.Duration
	set     time.Time // when the deadline was last moved
	begun   time.Time
	read    int64
}

// errSlow is the end of an upload that comes slower than uploadRateMin.
var errSlow = errors.New("the upload is too slow")

func (b *steadyBody) Read(p []byte) (int, error) {
	now := time.Now()
	if b.begun.IsZero() {
		b.begun = now
	}
	if took := now.Sub(b.begun); took > b.stall && float64(b.read) < took.Seconds()*uploadRateMin {
		return 0, errSlow
	}
	if now.Sub(b.set) > b.stall/60 { // moving it costs a lock and a timer
		_ = b.control.SetReadDeadline(now.Add(b.stall)) // a connection without deadlines still works
		b.set = now
	}
	n, err := b.from.Read(p)
	b.read += int64(n)
	return n, err
}

// done lifts the deadline, which would else end the request while it is worked on.
func (b *steadyBody) done() { _ = b.control.SetReadDeadline(time.Time{}) }
