package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// A clip is a WAV file of 8 kHz mu-law, whose last bytes say which one it is: fakes find it there, and
// answer with it, so that no answer can be taken for another's.
const (
	clipRate    = 8000
	markerStart = "<clip "
	markerSize  = len(markerStart) + 10 + 1 + 9 + 1 // "<clip 0000000001 0000.0000>"
)

var clips atomic.Uint64

// clip is a recording to send.
type clip struct {
	id      uint64
	seconds float64
}

func newClip(seconds float64) clip { return clip{clips.Add(1), seconds} }

// text is what a fake makes of it.
func (c clip) text() string { return clipText(c.id) }

func clipText(id uint64) string { return fmt.Sprintf("This is what clip %d says.", id) }

// wav is the file.
func (c clip) wav() []byte {
	samples := max(int(c.seconds*clipRate), markerSize)
	file := make([]byte, 0, 58+samples)
	file = append(file, "RIFF"...)
	file = binary.LittleEndian.AppendUint32(file, uint32(50+samples))
	file = append(file, "WAVEfmt "...)
	file = binary.LittleEndian.AppendUint32(file, 18)
	for _, v := range []uint16{7, 1} { // mu-law, mono
		file = binary.LittleEndian.AppendUint16(file, v)
	}
	for _, v := range []uint32{clipRate, clipRate} { // samples and bytes of a second
		file = binary.LittleEndian.AppendUint32(file, v)
	}
	for _, v := range []uint16{1, 8, 0} { // bytes of a sample, bits, no extension
		file = binary.LittleEndian.AppendUint16(file, v)
	}
	file = append(file, "fact"...)
	file = binary.LittleEndian.AppendUint32(file, 4)
	file = binary.LittleEndian.AppendUint32(file, uint32(samples))
	file = append(file, "data"...)
	file = binary.LittleEndian.AppendUint32(file, uint32(samples))
	file = append(file, bytes.Repeat([]byte{0xff}, samples-markerSize)...)
	return fmt.Appendf(file, "%s%010d %09.4f>", markerStart, c.id, min(c.seconds, 9999))
}

// readMarker finds out which clip is in a request's body; ok is false for audio that is none of ours,
// such as a proxy's own.
func readMarker(body []byte) (id uint64, seconds float64, ok bool) {
	at := bytes.LastIndex(body, []byte(markerStart))
	if at < 0 || at+markerSize > len(body) {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(string(body[at:at+markerSize]), markerStart+"%d %f>", &id, &seconds)
	return id, seconds, err == nil
}

const boundary = "----faults-b8f1c3"

// form is the body of a request for it; fields are name and value in turn.
func (c clip) form(fields ...string) (body []byte, contentType string) {
	return formOf("audio.wav", c.wav(), fields...)
}

func formOf(name string, file []byte, fields ...string) (body []byte, contentType string) {
	var b bytes.Buffer
	for i := 0; i+1 < len(fields); i += 2 {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, fields[i], fields[i+1])
	}
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=%q\r\nContent-Type: audio/wav\r\n\r\n", boundary, name)
	b.Write(file)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes(), "multipart/form-data; boundary=" + boundary
}

// field is the value of a field in a request's form, "" when it has none.
func field(body []byte, name string) string {
	_, rest, found := bytes.Cut(body, []byte(`name="`+name+`"`))
	if !found {
		return ""
	}
	_, rest, _ = bytes.Cut(rest, []byte("\r\n\r\n"))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return string(value)
}
