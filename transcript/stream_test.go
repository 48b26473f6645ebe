package transcript

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestStream(t *testing.T) {
	for name, texts := range map[string][]string{
		"nothing":                  nil,
		"silence":                  {" ", "\n"},
		"spaces at the ends":       {" a ", " b", " ", " c \n"},
		"a rune over two segments": {" a \xe2\x82", "\xac b"},
		"a rune that never ends":   {" a", " b\xe2\x82"},
		"invalid bytes":            {"\xff a", "b\xff\xffc"},
	} {
		t.Run(name, func(t *testing.T) {
			var tr Transcript
			var stream Stream
			var events []byte
			for _, text := range texts {
				tr.Segments = append(tr.Segments, Segment{Text: text})
				events = append(events, stream.Segment(text)...)
			}
			events = append(events, stream.Done()...)
			if got := streamed(t, events); got != tr.Text() || got != stream.Text() {
				t.Errorf("streamed %q, text %q", got, tr.Text())
			}
		})
	}
}

func TestStreamReader(t *testing.T) {
	const a, done = `data: {"type":"transcript.text.delta","delta":"a"}` + "\n\n", `data: {"type":"transcript.text.done","text":"a"}` + "\n\n"
	var problem *Error
	var broken *AnswerError
	for name, c := range map[string]struct {
		body string
		text string
		err  func(error) bool
	}{
		"whole":                 {": hello\n\n" + a + done, "a", nil},
		"windows' line ends":    {strings.ReplaceAll(a+done, "\n", "\r\n"), "a", nil},
		"without space":         {strings.ReplaceAll(a+done, "data: ", "data:"), "a", nil},
		"another kind of event": {`data: {"type":"transcript.text.segment","text":"x"}` + "\n\n" + a + done, "a", nil},
		"done alone":            {done, "a", nil},
		"cut short":             {a, "a", func(err error) bool { return err == io.ErrUnexpectedEOF }},
		"cut within an event":   {a + done[:20], "a", func(err error) bool { return err == io.ErrUnexpectedEOF }},
		"too long":              {": " + strings.Repeat("x", 2000) + "\n\n" + a + done, "", func(err error) bool { return err == ErrStreamTooLong }},
		"no JSON":               {"data: [DONE]\n\n", "", func(err error) bool { return errors.As(err, &broken) && broken.Reason == AnswerNotJSON }},
		"another text":          {a + `data: {"type":"transcript.text.done","text":"b"}` + "\n\n", "a", func(err error) bool { return errors.As(err, &broken) }},
		"an error": {a + (&Error{Message: "Out of luck.", Code: "engine_failed", Type: "server_error"}).eventText(), "a", func(err error) bool {
			return errors.As(err, &problem) && problem.Code == "engine_failed" && problem.Message == "Out of luck."
		}},
		"an error without shape": {`data: {"error":"boo"}` + "\n\n", "", func(err error) bool { return errors.As(err, &problem) && problem.Message == "boo" }},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewStreamReader(strings.NewReader(c.body), 1000)
			for {
				e, err := r.Next()
				if e.Done || err != nil {
					if c.err == nil && err != nil || c.err != nil && (err == nil || !c.err(err)) {
						t.Errorf("%v", err)
					}
					break
				}
			}
			if r.Text() != c.text {
				t.Errorf("text %q, want %q", r.Text(), c.text)
			}
		})
	}
}

func (e *Error) eventText() string { return string(e.Event()) }
