package upstream

import (
	"bytes"
	"context"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"

	"github.com/whisperpool/whisperpool/transcript"
)

// FuzzRender: whatever a client puts into a file's name, its type and the fields, every kind's request
// is a form of the announced length, in which each field is there once with the client's value, and the
// file with its bytes.
func FuzzRender(f *testing.F) {
	for _, name := range []string{"a.wav", "../../etc/passwd", `a"; filename="b.exe`, "a\r\nX: y.mp3", "\x00.flac", "", ".wav", strings.Repeat("é", 300) + ".ogg", `C:\x\y.webm`} {
		f.Add(name, "audio/wav", "prompt", "base", "", []byte("RIFF"), byte(0))
		f.Add(name, "audio/ogg; codecs=\"a\r\nb\"", "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ny", "a\r\nb", "de", []byte("\r\n--x--\r\n"), byte(7))
	}
	base, err := url.Parse("http://10.0.0.1:8000/v1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, contentType, prompt, model, language string, content []byte, options byte) {
		p := transcript.Params{API: transcript.OpenAI, Task: transcript.Transcribe, Format: formats[int(options)%len(formats)], Prompt: prompt, Language: language}
		if options&8 != 0 {
			p.API = transcript.WhisperServer
		}
		p.Words = options&16 != 0
		r := Request{Params: p, Model: model, File: File{
			Name: name, ContentType: contentType, Size: int64(len(content)),
			Open: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) },
		}}
		for _, k := range kinds {
			req, err := k.Render(context.Background(), base, r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(req.Body)
			if err != nil || int64(len(body)) != req.ContentLength {
				t.Fatalf("%d bytes of %d announced, %v", len(body), req.ContentLength, err)
			}
			for field, values := range req.Header {
				for _, value := range values {
					if strings.ContainsAny(field+value, "\r\n\x00") {
						t.Fatalf("header %q: %q", field, value)
					}
				}
			}
			fields, file := formOf(t, req.Header.Get("Content-Type"), body)
			if !bytes.Equal(file, content) {
				t.Fatalf("%s: the file is %q", k.Name(), file)
			}
			for field, want := range map[string]string{"prompt": prompt, "model": model} {
				if values := fields[field]; len(values) > 1 || len(values) == 1 && values[0] != want {
					t.Fatalf("%s: %s is %q, want %q", k.Name(), field, values, want)
				}
			}
		}
	})
}

// formOf reads a form with one file, as a server would.
func formOf(t *testing.T, contentType string, body []byte) (fields map[string][]string, file []byte) {
	t.Helper()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatal(err)
	}
	fields = map[string][]string{}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := reader.NextPart()
		if err == io.EOF {
			return fields, file
		}
		if err != nil {
			t.Fatal(err)
		}
		value, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		if part.FormName() != "file" {
			fields[part.FormName()] = append(fields[part.FormName()], string(value))
			continue
		}
		sent := part.FileName()
		if file != nil || sent == "" || strings.ContainsAny(sent, "/\\\"\r\n\x00") || part.Header.Get("Content-Type") == "" {
			t.Fatalf("file %q of type %q", sent, part.Header.Get("Content-Type"))
		}
		file = append([]byte{}, value...)
	}
}
