package backend

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode/utf8"
)

// uploadSeeds are bodies with the boundary X.
var uploadSeeds = map[string]string{
	"whole":            "--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\x00\xff\r\n--X--\r\n",
	"file first":       "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n--X--\r\n",
	"without a name":   "--X\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nRIFF\x00\xff\r\n--X--",
	"text for a file":  "--X\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\naudio.wav\r\n--X--",
	"two files":        "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\na\r\n--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\nb\r\n--X--",
	"another field":    "--X\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a\"\r\n\r\na\r\n--X--",
	"cut short":        "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\naaaa",
	"line ends of one": "--X\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\n\na\n--X--\n",
	"quoted-printable": "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41=\r\n--X--",
	"nothing":          "", "only the end": "--X--", "no header": "--X\r\n\r\n\r\n--X--",
}

// FuzzUpload reads whatever is sent. It either refuses it as the client's fault, or has a file that is not
// empty; in both cases nothing is left behind.
func FuzzUpload(f *testing.F) {
	for _, body := range uploadSeeds {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	s, err := New(Config{UploadMax: 1 << 16, TempDir: f.TempDir()}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, length bool) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/inference", io.NopCloser(bytes.NewReader(body)))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=X")
		r.ContentLength = -1 // to a file
		if length {
			r.ContentLength = int64(len(body)) // in memory
		}
		u, refusal := s.readUpload(httptest.NewRecorder(), r, "file")
		if refusal != nil {
			if refusal.Status < 400 || refusal.Status >= 500 || !utf8.ValidString(refusal.Message) || refusal.Message == "" {
				t.Fatalf("%+v", refusal)
			}
		} else {
			got, err := io.ReadAll(io.NewSectionReader(u.file, 0, u.size))
			if err != nil || int64(len(got)) != u.size || u.size == 0 || u.size > int64(len(body)) {
				t.Fatalf("%d bytes of %d, %v", len(got), u.size, err)
			}
			u.close()
		}
		if !s.memory.TryAcquire(uploadMemoryAll) {
			t.Fatal("memory is still held")
		}
		s.memory.Release(uploadMemoryAll)
	})
}
