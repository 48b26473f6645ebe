package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Target is the endpoint and what every request to it carries.
type Target struct {
	URL     string              // http or https, with the path
	Fields  [][2]string         // of the form, beside the file
	Header  http.Header         // may be nil
	Timeout time.Duration       // of a request, the upload included; 0: ten minutes
	Valid   func(b []byte) bool // whether a body is a transcript; nil: JSON with a text in it
}

const (
	timeoutDefault = 10 * time.Minute
	answerMax      = 64 << 20 // bytes of an answer that are read
	// Shorter than servers keep connections (5 s are common), so that none is closed under a request.
	idleTimeout = 4 * time.Second
)

// tooManyFiles is the failure that is the generator's own.
const tooManyFiles = "too many open files on this side"

// ParseTarget puts a base URL and a path together. The error says what is wrong.
func ParseTarget(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", fmt.Errorf("%q is no address: write http://host:port or https://host", base)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/" + strings.TrimPrefix(path, "/")
		return u.String(), nil
	}
	// The address that OpenAI's clients are given ends in /v1, and their paths go on from there.
	u.Path = strings.TrimSuffix(u.Path, "/")
	if strings.HasSuffix(u.Path, "/v1") {
		path = strings.TrimPrefix(path, "/v1")
	}
	u.Path += "/" + strings.TrimPrefix(path, "/")
	return u.String(), nil
}

// Client sends jobs to a target over connections that it keeps.
type Client struct {
	target    Target
	audio     Audio
	transport *http.Transport
}

// NewClient makes a client for at most so many requests at once.
func NewClient(target Target, audio Audio, connections int) *Client {
	if target.Timeout == 0 {
		target.Timeout = timeoutDefault
	}
	if target.Valid == nil {
		target.Valid = hasText
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // what is named is what is measured
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, connections
	transport.IdleConnTimeout = idleTimeout
	transport.DisableCompression = true
	transport.WriteBufferSize = 64 << 10
	// One connection for all, as HTTP/2 has it, is not how the clients that are stood in for come.
	transport.ForceAttemptHTTP2 = false
	transport.DialContext = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	return &Client{target: target, audio: audio, transport: transport}
}

// Close closes the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Send makes the request of a job. It is a [Send].
func (c *Client) Send(ctx context.Context, job Job) Outcome {
	within, cancel := context.WithTimeout(ctx, c.target.Timeout)
	defer cancel()
	request, err := c.request(within, job)
	if err != nil {
		return failed("request not made", err.Error())
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return c.broken(ctx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if err != nil {
		return c.broken(ctx, err)
	}
	outcome := Outcome{Backend: backendOf(response.Header), Service: serviceOf(response.Header)}
	switch {
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable:
		outcome.Class = Refused
	case response.StatusCode < 200 || response.StatusCode > 299:
		outcome.Class = Failed
	case !c.target.Valid(body):
		outcome.Class, outcome.What = Failed, "no transcript in the answer"
	}
	if outcome.Class != OK {
		if outcome.What == "" {
			outcome.What = "status " + strconv.Itoa(response.StatusCode)
		}
		outcome.Detail = excerpt(body)
	}
	return outcome
}

// request has the form around the job's clip; what is sent is neither copied nor held.
func (c *Client) request(ctx context.Context, job Job) (*http.Request, error) {
	clip := c.audio.Clip(job)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range c.target.Fields {
		if err := w.WriteField(field[0], field[1]); err != nil {
			return nil, err
		}
	}
	if _, err := w.CreateFormFile("file", clip.Name); err != nil {
		return nil, err
	}
	head := slices.Clone(form.Bytes())
	form.Reset()
	if err := w.Close(); err != nil {
		return nil, err
	}
	tail := form.Bytes()
	body := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(head), clip.Open(), bytes.NewReader(tail))), nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target.URL, nil)
	if err != nil {
		return nil, err
	}
	request.ContentLength = int64(len(head)) + clip.Size + int64(len(tail))
	request.GetBody = body
	request.Body, _ = body() // it has no error
	for name, values := range c.target.Header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	request.Header.Set("Content-Type", w.FormDataContentType())
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "whisperpool-bench")
	}
	return request, nil
}

// broken is the outcome of a request without a whole answer.
func (c *Client) broken(ctx context.Context, err error) Outcome {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return Outcome{Class: Abandoned}
	case errors.Is(err, context.DeadlineExceeded):
		return failed("no answer within "+c.target.Timeout.String(), err.Error())
	case errors.Is(err, syscall.ECONNREFUSED):
		return failed("connection refused", err.Error())
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failed("connection broken before the answer's end", err.Error())
	case errors.Is(err, syscall.EMFILE):
		return failed(tooManyFiles, err.Error())
	case errors.As(err, &timeout) && timeout.Timeout():
		return failed("connecting took too long", err.Error())
	}
	return failed("connection failed", err.Error())
}

func failed(what, detail string) Outcome {
	return Outcome{Class: Failed, What: what, Detail: detail}
}

// hasText tells whether a body is a transcript in JSON.
func hasText(body []byte) bool {
	var t struct{ Text *string }
	return json.Unmarshal(body, &t) == nil && t.Text != nil
}

// NotEmpty tells whether a body is a transcript in a format other than JSON, of audio with words.
func NotEmpty(body []byte) bool { return len(bytes.TrimSpace(body)) > 0 }

// backendOf is who served: as our proxy names it, or the instance id of our own backend where
// another proxy passes that on.
func backendOf(h http.Header) string {
	if name := h.Get("X-Whisperpool-Backend"); name != "" {
		return name
	}
	return h.Get("X-Whisperpool-Instance")
}

// serviceOf is how long the backend took by the Server-Timing of our proxy (service) or of our own
// backend (inference), in milliseconds there.
func serviceOf(h http.Header) time.Duration {
	for _, value := range h.Values("Server-Timing") {
		for entry := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(entry), ";")
			ms, ok := strings.CutPrefix(params, "dur=")
			if !ok || (name != "service" && name != "inference") {
				continue
			}
			if d, err := strconv.ParseFloat(ms, 64); err == nil && d >= 0 && !math.IsInf(d, 1) {
				return time.Duration(d * float64(time.Millisecond))
			}
		}
	}
	return 0
}

// excerpt is the beginning of an error's body, on one line.
func excerpt(body []byte) string {
	const longest = 200
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}
