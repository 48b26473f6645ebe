package upstream

import (
	"bytes"
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/whisperpool/whisperpool/transcript"
)

// form collects the fields of a request in the order in which they are sent. They go before the
// file, so that a server that reads as it receives knows what to do with it.
type form struct {
	names, values []string
}

func (f *form) set(name, value string) {
	f.names = append(f.names, name)
	f.values = append(f.values, value)
}

func (f *form) setInt(name string, value int)   { f.set(name, strconv.Itoa(value)) }
func (f *form) setBool(name string, value bool) { f.set(name, strconv.FormatBool(value)) }
func (f *form) setFloat(name string, value float64) {
	f.set(name, strconv.FormatFloat(value, 'f', -1, 64))
}

// setOptional leaves the field out where the client did.
func (f *form) setOptional(name string, value *float64) {
	if value != nil {
		f.setFloat(name, *value)
	}
}

// post makes the request that sends the form and the file to u. Its length is known beforehand and
// its body can be sent again; the file is read while it is sent, never held in memory.
func (f *form) post(ctx context.Context, u *url.URL, file File) (*http.Request, error) {
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	for i, name := range f.names {
		_ = w.WriteField(name, f.values[i]) // a bytes.Buffer cannot fail
	}
	_, _ = w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + fileName(file) + `"`},
		"Content-Type":        {partType(file.ContentType)},
	})
	prefix := bytes.Clone(head.Bytes())
	_ = w.Close()
	suffix := bytes.Clone(head.Bytes()[len(prefix):])

	body := func() (io.ReadCloser, error) {
		return &formBody{prefix: prefix, file: file, suffix: suffix}, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Body, _ = body()
	req.GetBody = body
	req.ContentLength = int64(len(prefix)) + file.Size + int64(len(suffix))
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

// userAgent names the proxy in the backends' logs.
const userAgent = "whisperpool"

// formBody is prefix, file and suffix in a row. The file is opened by the first read that needs
// it, so that a request that is never sent holds nothing. The transport may close a body while it
// reads it.
type formBody struct {
	prefix, suffix []byte
	file           File

	mu     sync.Mutex
	reader io.Reader // nil before the first Read
	opened io.ReadCloser
	closed bool
}

func (b *formBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.reader == nil {
		b.opened = b.file.Open()
		b.reader = io.MultiReader(
			bytes.NewReader(b.prefix),
			&exactReader{r: b.opened, left: b.file.Size},
			bytes.NewReader(b.suffix),
		)
	}
	return b.reader.Read(p)
}

func (b *formBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.opened == nil {
		return nil
	}
	opened := b.opened
	b.opened = nil
	return opened.Close()
}

// exactReader gives exactly left bytes of r; a file that ends before is an error, because the
// length has been announced.
type exactReader struct {
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil // the next Read tells, once
	}
	return n, err
}

const fileStemMax = 64

// extension matches what can be the extension of an audio file, and not the rest of a sentence.
var extension = regexp.MustCompile(`^\.[A-Za-z0-9]{1,8}$`)

// extensions are those by which servers choose a decoder, for uploads whose name has none.
var extensions = map[string]string{
	"audio/wav": ".wav", "audio/x-wav": ".wav", "audio/wave": ".wav", "audio/vnd.wave": ".wav",
	"audio/flac": ".flac", "audio/x-flac": ".flac",
	"audio/mpeg": ".mp3", "audio/mp3": ".mp3",
	"audio/ogg": ".ogg", "audio/opus": ".ogg", "application/ogg": ".ogg",
	"audio/mp4": ".m4a", "audio/m4a": ".m4a", "audio/x-m4a": ".m4a", "video/mp4": ".mp4",
	"audio/aac":  ".aac",
	"audio/webm": ".webm", "video/webm": ".webm",
}

// fileName is a plain ASCII base name that no server can misread as a path or a header. Its
// extension is kept, because servers choose the decoder by it.
func fileName(file File) string {
	stem := file.Name[strings.LastIndexAny(file.Name, `/\`)+1:]
	ext := path.Ext(stem)
	if extension.MatchString(ext) {
		stem = strings.TrimSuffix(stem, ext)
	} else {
		mediaType, _, _ := mime.ParseMediaType(file.ContentType)
		ext = extensions[mediaType]
	}
	if stem = strings.Trim(plain(stem, fileStemMax), "._-"); stem == "" {
		stem = "audio"
	}
	return stem + ext
}

// plain replaces all but letters, digits, dot, hyphen and underscore, and cuts to max bytes.
func plain(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), max)]
}

// partType is the client's content type if it is one.
func partType(contentType string) string {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(mediaType, "/") {
		return "application/octet-stream"
	}
	if formatted := mime.FormatMediaType(mediaType, params); formatted != "" {
		return formatted
	}
	return mediaType
}

// endpoint is a path of the server at base, whose own path and query are kept. For servers of
// OpenAI's kind the base may be written with the /v1 that their clients want, or without.
func endpoint(base *url.URL, elements ...string) *url.URL {
	u := *base
	u.Fragment, u.RawFragment = "", ""
	if len(elements) > 0 && elements[0] == "v1" {
		u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1")
		u.RawPath = strings.TrimSuffix(strings.TrimSuffix(u.RawPath, "/"), "/v1")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.JoinPath(elements...)
}

// audioPath is the path of OpenAI's API for a task.
func audioPath(base *url.URL, task transcript.Task) *url.URL {
	if task == transcript.Translate {
		return endpoint(base, "v1", "audio", "translations")
	}
	return endpoint(base, "v1", "audio", "transcriptions")
}
