package audio

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// takenFormats names what Probe knows, for those who sent something else.
const takenFormats = "WAV, FLAC, MP3, Ogg (Vorbis, Opus, FLAC), WebM, MP4/M4A and AAC are taken"

// id3Max is how many ID3v2 tags in a row are stepped over.
const id3Max = 4

// Probe tells an upload's format and length from its bytes, without decoding it. It reads at most some
// hundred kilobytes and takes bounded time, whatever the file holds.
//
// Errors wrap ErrEmpty, ErrNotAudio (the sentence says what the file looks like and which formats are
// taken), ErrCorrupt, or ErrUnsupported where the header already says that nothing can decode it. A
// failure of r itself is returned as it is.
func Probe(r io.ReaderAt, size int64) (Info, error) {
	if size <= 0 {
		return Info{}, ErrEmpty
	}
	s := newProbeSource(r, size)
	info, err := probe(s)
	if s.err != nil {
		return Info{}, fmt.Errorf("reading the upload: %w", s.err)
	}
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

func probe(s *source) (Info, error) {
	kind, off := sniff(s)
	switch kind {
	case sniffedWAV:
		w, err := readWAV(s)
		if err != nil {
			return Info{}, err
		}
		return w.info(), nil
	case sniffedFLAC:
		f, err := readFLAC(s, off)
		if err != nil {
			return Info{}, err
		}
		return f.info(s), nil
	case sniffedOgg:
		o, err := readOgg(s)
		if err != nil {
			return Info{}, err
		}
		return o.info(s)
	case sniffedMKV:
		m, err := readMKV(s)
		if err != nil {
			return Info{}, err
		}
		return m.info(s), nil
	case sniffedMP4:
		_, info, err := readMP4(s)
		return info, err
	case sniffedADTS:
		return readADTS(s, off)
	case sniffedMP3:
		m, err := readMP3(s, off)
		if err != nil {
			return Info{}, err
		}
		return m.info(s), nil
	}
	return Info{}, notAudio(resemblance(s.peek(0, 512)))
}

// A sniffed is a kind of container.
type sniffed int

const (
	sniffedNothing sniffed = iota
	sniffedWAV
	sniffedFLAC
	sniffedOgg
	sniffedMKV
	sniffedMP4
	sniffedMP3
	sniffedADTS
)

// sniff tells the container and the offset at which its own bytes begin, past any ID3v2 tags.
func sniff(s *source) (kind sniffed, off int64) {
	head := s.peek(0, 16)
	switch {
	case isWAV(head):
		return sniffedWAV, 0
	case isOgg(head):
		return sniffedOgg, 0
	case isMKV(head):
		return sniffedMKV, 0
	case isMP4(head):
		return sniffedMP4, 0
	}
	tagged := false
	for range id3Max {
		n := id3Size(s.peek(off, 10))
		if n == 0 {
			break
		}
		off, tagged = off+n, true
	}
	if isFLAC(s.peek(off, 4)) {
		return sniffedFLAC, off
	}
	if adtsFrames.chain(s, off, 3) {
		return sniffedADTS, off
	}
	if tagged || mpegFrames.chain(s, off, 3) {
		return sniffedMP3, off
	}
	// A recording that was cut out of a stream begins amid a frame. What has a name or reads as text is
	// not searched for that.
	if resemblance(s.peek(0, 512)) == unknownBytes {
		if at := mpegFrames.sync(s, 0, syncWindow, 5); at >= 0 {
			return sniffedMP3, at
		}
		if at := adtsFrames.sync(s, 0, syncWindow, 5); at >= 0 {
			return sniffedADTS, at
		}
	}
	return sniffedNothing, 0
}

// id3Size is the size of an ID3v2 tag by its header, or 0.
func id3Size(b []byte) int64 {
	if len(b) < 10 || string(b[:3]) != "ID3" || b[3] == 0xFF || b[4] == 0xFF || (b[6]|b[7]|b[8]|b[9])&0x80 != 0 {
		return 0
	}
	n := int64(b[6])<<21 | int64(b[7])<<14 | int64(b[8])<<7 | int64(b[9]) + 10
	if b[5]&0x10 != 0 {
		n += 10 // a footer
	}
	return n
}

const unknownBytes = "no format that is known here"

// resemblance says what a file that is no known audio looks like.
func resemblance(b []byte) string {
	for _, m := range []struct{ magic, name string }{
		{"%PDF", "a PDF document"}, {"\x89PNG", "a PNG picture"}, {"\xFF\xD8\xFF", "a JPEG picture"},
		{"GIF8", "a GIF picture"}, {"PK\x03\x04", "a zip archive or an office document"}, {"PK\x05\x06", "a zip archive"},
		{"\x1F\x8B", "gzip-compressed data"}, {"BZh", "bzip2-compressed data"}, {"\xFD7zXZ", "xz-compressed data"},
		{"\x28\xB5\x2F\xFD", "zstd-compressed data"}, {"7z\xBC\xAF", "a 7z archive"}, {"Rar!", "a RAR archive"},
		{"\x7FELF", "a program"}, {"MZ", "a program"}, {"SQLite format 3", "a SQLite database"},
		{"FORM", "AIFF or another IFF file"}, {"caff", "a CAF file"}, {"#!AMR", "an AMR recording"}, {".snd", "a Sun/NeXT sound file"},
		{"\x30\x26\xB2\x75", "a WMA, WMV or ASF file"}, {"FLV", "a Flash video"}, {"MThd", "a MIDI file"},
		{"\x00\x00\x01\xBA", "an MPEG program stream"}, {"MAC ", "Monkey's Audio"}, {"wvpk", "WavPack"}, {"MPCK", "Musepack"},
		{"ggml", "a model file"}, {"lmgg", "a model file"}, {"GGUF", "a model file"}, {"RIFX", "a big-endian WAV file"},
		{".RMF", "a RealMedia file"}, {"-----BEGIN ", "a PEM file"}, {"{\\rtf", "an RTF document"},
	} {
		if bytes.HasPrefix(b, []byte(m.magic)) {
			return m.name
		}
	}
	if len(b) >= 12 && bytes.HasPrefix(b, []byte("RIFF")) {
		switch string(b[8:12]) {
		case "AVI ":
			return "an AVI video"
		case "WEBP":
			return "a WebP picture"
		}
		return "a RIFF file that is no WAV"
	}
	if len(b) > 188 && b[0] == 0x47 && b[188] == 0x47 {
		return "an MPEG transport stream"
	}
	if len(b) < 12 && (bytes.HasPrefix(b, []byte("RIFF")) || bytes.HasPrefix(b, []byte("fLa")) || bytes.HasPrefix(b, []byte("Ogg"))) {
		return "the first bytes of an audio file only"
	}
	if isText(b) {
		return textKind(b)
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return "nothing but zeros"
	}
	return unknownBytes
}

// isText reports that b is text in UTF-8, possibly cut off within a character, or in UTF-16.
func isText(b []byte) bool {
	if bytes.HasPrefix(b, []byte("\xFF\xFE")) || bytes.HasPrefix(b, []byte("\xFE\xFF")) {
		return bytes.IndexByte(b[2:], 0) >= 0
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return len(b) < utf8.UTFMax && !utf8.FullRune(b)
		}
		if r < 0x20 && !strings.ContainsRune("\t\n\r\f\x1b", r) {
			return false
		}
		b = b[n:]
	}
	return true
}

func textKind(b []byte) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(string(b), "\uFEFF")))
	switch {
	case strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"), strings.HasPrefix(text, "<head"), strings.HasPrefix(text, "<body"):
		return "an HTML page"
	case strings.HasPrefix(text, "<svg"):
		return "an SVG picture"
	case strings.HasPrefix(text, "<?xml"), strings.HasPrefix(text, "<"):
		return "an XML document"
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "["):
		return "JSON"
	case strings.HasPrefix(text, "data:audio/"), strings.HasPrefix(text, "uklgr"), strings.HasPrefix(text, "suqz"):
		return "audio in base64; send the bytes themselves"
	case strings.HasPrefix(text, "#extm3u"):
		return "a playlist"
	}
	return "text"
}

func notAudio(looks string) error {
	return fmt.Errorf("%w: it looks like %s; %s", ErrNotAudio, looks, takenFormats)
}
