package upstream

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/whisperpool/whisperpool/transcript"
)

// answer checks what the server sent and turns it into what the client asked for. When that is
// what was sent, its very bytes are passed on.
func answer(body []byte, r Request, a asked) (Answer, error) {
	t, err := transcript.ParseAnswer(a.api, a.format, body)
	if err != nil {
		return Answer{}, err
	}
	p := r.Params
	out := Answer{AudioSeconds: t.Duration, Words: t.HasWords()}
	if !plausible(t.Duration, r) {
		out.AudioSeconds, out.Doubtful = 0, true
		t.Duration = 0 // the upload's own is put there
	}
	asIs := a == asked{api: p.API, format: p.Format} && !p.Stream && !t.Mended && passes(a.format, body, t)
	if p.DetectOnly {
		if t, err = detected(t, p); err != nil {
			return Answer{}, err
		}
		out.Words = true // none are due
	}
	t = complete(t, r)
	if a.cut {
		t = within(t, float64(p.OffsetMS)/1000, float64(p.DurationMS)/1000)
	}
	switch {
	case p.Stream:
		out.ContentType, out.Body = transcript.StreamType, t.RenderStream()
	case asIs:
		out.ContentType, _ = transcript.Transcript{}.Render(p)
		out.Body = body
	default:
		out.ContentType, out.Body = t.Render(p)
	}
	return out, nil
}

// answerLanguage is a reason of ours, see answerEncoded.
const answerLanguage = "no_language"

// detected keeps the language of an answer to who wants no more. Where that is all that is wanted it
// must be there.
func detected(t transcript.Transcript, p transcript.Params) (transcript.Transcript, error) {
	if p.API == transcript.ASR && t.Language == "" {
		return t, &transcript.AnswerError{Reason: answerLanguage, Detail: "the answer does not tell the language"}
	}
	t.Segments, t.Words = nil, nil
	return t, nil
}

// What a reported length may be away from that of the upload's header, which is exact: containers with
// edit lists and encoders' padding differ by little, and some servers tell whole seconds.
const (
	lengthFactor = 2.0
	lengthSlack  = 2.0 // seconds
	// bytesPerSecondLeast is below what any codec makes of speech, for lengths that are not known.
	bytesPerSecondLeast = 50
	lengthUnknownSlack  = 60.0 // seconds
)

// plausible tells whether a reported length can be the upload's. 0 is not told. Of a request for a part
// of the audio servers may tell that part's.
func plausible(seconds float64, r Request) bool {
	switch {
	case seconds == 0:
		return true
	case r.AudioSeconds <= 0:
		return r.File.Size <= 0 || seconds <= lengthUnknownSlack+float64(r.File.Size)/bytesPerSecondLeast
	case seconds > lengthFactor*r.AudioSeconds+lengthSlack:
		return false
	}
	part := r.Params.OffsetMS > 0 || r.Params.DurationMS > 0
	return part || seconds >= r.AudioSeconds/lengthFactor-lengthSlack
}

// passes tells whether a body is what its format says, so that the client can have it as it is.
// Servers that know only JSON answer with that whatever they are asked for, some leave out of
// verbose_json what clients rely on, and whisper-server's text need not be UTF-8.
func passes(format transcript.Format, body []byte, t transcript.Transcript) bool {
	if !utf8.Valid(body) {
		return false
	}
	start := bytes.TrimSpace(body)
	switch format {
	case transcript.JSON:
		return start[0] == '{' // and not a byte order mark, which clients' parsers refuse
	case transcript.VerboseJSON:
		return start[0] == '{' && t.Duration > 0 && (len(t.Segments) == 0 || timed(t))
	case transcript.VTT:
		return bytes.HasPrefix(body, []byte("WEBVTT"))
	case transcript.SRT:
		return !bytes.HasPrefix(start, []byte("WEBVTT")) && !isJSON(start)
	}
	return !isJSON(start)
}

func isJSON(body []byte) bool { return len(body) > 0 && body[0] == '{' && json.Valid(body) }

// timed tells whether the segments carry times.
func timed(t transcript.Transcript) bool {
	for _, s := range t.Segments {
		if s.End > 0 {
			return true
		}
	}
	return false
}

// complete adds what is known of the audio to an answer that does not tell.
func complete(t transcript.Transcript, r Request) transcript.Transcript {
	if t.Duration == 0 {
		t.Duration = r.AudioSeconds
	}
	if len(t.Segments) == 1 && t.Segments[0].End == 0 {
		t.Segments[0].End = t.Duration // a text without times: one segment as long as the audio
	}
	return t
}

// within keeps of a transcript the segments and words whose middle lies in the part that begins at
// offset and is duration long, in seconds; duration 0 means to the end. Times stay those of the
// whole audio, as whisper.cpp has them.
func within(t transcript.Transcript, offset, duration float64) transcript.Transcript {
	in := func(start, end float64) bool {
		middle := (start + end) / 2
		return middle >= offset && (duration == 0 || middle < offset+duration)
	}
	whole := t
	t.Segments, t.Words = nil, nil
	for _, s := range whole.Segments {
		if in(s.Start, s.End) {
			s.ID = len(t.Segments)
			t.Segments = append(t.Segments, s)
		}
	}
	for _, w := range whole.Words {
		if in(w.Start, w.End) {
			t.Words = append(t.Words, w)
		}
	}
	return t
}
