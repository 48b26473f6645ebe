package e2e

import (
	"bytes"
	"cmp"
	"context"
	little "encoding/binary"
	"encoding/json"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
)

// clipRate is that of the recordings, in samples a second.
const clipRate = 16000

// samplesOf reads a recording: 16 bits, one channel, 16 kHz.
func samplesOf(t *testing.T, path string) []int16 {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(file, []byte("data"))
	if at < 0 || len(file) < at+8 || little.LittleEndian.Uint32(file[24:]) != clipRate || little.LittleEndian.Uint16(file[22:]) != 1 {
		t.Fatalf("%s is no recording of one channel at %d Hz", path, clipRate)
	}
	data := file[at+8:]
	samples := make([]int16, len(data)/2)
	for i := range samples {
		samples[i] = int16(little.LittleEndian.Uint16(data[2*i:]))
	}
	return samples
}

// wavFile writes samples of 16 bits, those of the channels in turn.
func wavFile(rate, channels int, samples []int16) []byte {
	data := make([]byte, 0, 2*len(samples))
	for _, s := range samples {
		data = little.LittleEndian.AppendUint16(data, uint16(s))
	}
	return wavOf(rate, channels, 16, 1, data)
}

// wavOf is a WAV file of data in a format: 1 is whole numbers, 3 floats.
func wavOf(rate, channels, bits, format int, data []byte) []byte {
	var b bytes.Buffer
	b.WriteString("RIFF")
	put := func(values ...any) {
		for _, v := range values {
			_ = little.Write(&b, little.LittleEndian, v) // into memory
		}
	}
	put(uint32(36 + len(data)))
	b.WriteString("WAVEfmt ")
	put(uint32(16), uint16(format), uint16(channels), uint32(rate), uint32(rate*channels*bits/8), uint16(channels*bits/8), uint16(bits))
	b.WriteString("data")
	put(uint32(len(data)))
	b.Write(data)
	return b.Bytes()
}

// resampled is a recording at another rate, by straight lines between its samples.
func resampled(samples []int16, rate int) []int16 {
	out := make([]int16, len(samples)*rate/clipRate)
	for i := range out {
		at := float64(i) * clipRate / float64(rate)
		k := int(at)
		next := min(k+1, len(samples)-1)
		out[i] = int16(math.Round(float64(samples[k]) + (at-float64(k))*float64(int(samples[next])-int(samples[k]))))
	}
	return out
}

// twoChannels has one recording on each side; the shorter one is followed by silence.
func twoChannels(left, right []int16) []int16 {
	out := make([]int16, 2*max(len(left), len(right)))
	for i, v := range left {
		out[2*i] = v
	}
	for i, v := range right {
		out[2*i+1] = v
	}
	return out
}

// floats are samples as floats of 32 bits.
func floats(samples []int16) []byte {
	var data []byte
	for _, s := range samples {
		data = little.LittleEndian.AppendUint32(data, math.Float32bits(float32(s)/32768))
	}
	return data
}

// upload is the form of a request; without a file it has fields alone.
type upload struct {
	part   string // the file's; "file" unless given
	file   []byte
	fields []string // name=value
}

func (u upload) form() (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if u.file != nil {
		part, _ := w.CreateFormFile(cmp.Or(u.part, "file"), "clip.wav") // into memory
		_, _ = part.Write(u.file)
	}
	for _, field := range u.fields {
		name, value, _ := strings.Cut(field, "=")
		_ = w.WriteField(name, value)
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// post sends a form and reads the answer.
func post(ctx context.Context, url string, u upload) (reply, error) {
	contentType, body := u.form()
	return exchange(ctx, http.MethodPost, url, contentType, body)
}

// exchange sends a request and reads the answer. Without a deadline of its own it may take askMax.
func exchange(ctx context.Context, method, url, contentType string, body []byte) (reply, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askMax)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(answer)}, err
}

// textOf is the member text of an answer in JSON.
func textOf(t *testing.T, body string) string {
	t.Helper()
	var answer struct{ Text *string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Text == nil {
		t.Errorf("no text in the answer: %v: %s", err, body)
		return ""
	}
	return *answer.Text
}
