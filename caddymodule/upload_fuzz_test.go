package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzForm: whatever an upload holds, reading it ends within the limits, nothing of it stays counted
// once it is closed, and a form that is refused is refused with words.
func FuzzForm(f *testing.F) {
	part := func(header, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + value + "\r\n"
	}
	file := part(`name="file"; filename="a.wav"`, "RIFF....")
	for _, seed := range []string{
		file + "--x--\r\n", part(`name="model"`, "base") + file + "--x--", file + file + "--x--", part(`name="audio"; filename="a"`, "x") + "--x--",
		strings.Repeat(part(`name="p"`, "v"), 201) + "--x--", part("name=\""+strings.Repeat("n", 20<<10)+"\"", "v"), "", "--x--", "--x\r\n\r\n", "preamble\r\n" + file + "--x--\r\nepilogue",
		part(`name="p"`, strings.Repeat("v", 70<<10)) + "--x--", "--x\r\nContent-Disposition: form-data; name*=UTF-8''%zz\r\n\r\nv\r\n--x--", "--x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=zz\r\n--x--",
	} {
		f.Add([]byte(seed), uint16(1<<10))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, most uint16) {
		acc := new(account)
		kept := &spool{account: acc, memory: 16 << 10, bytesMax: 64 << 10, dir: dir}
		b := &body{r: bytes.NewReader(text), most: int64(most), allow: -1}
		u, err := readForm(b, "x", "file", kept)
		switch {
		case err == nil && int64(len(text)) > int64(most):
			t.Errorf("%d bytes were taken, %d are allowed", len(text), most)
		case err == nil:
			fields := 0
			for _, values := range u.fields {
				fields += len(values)
			}
			if fields > partsMax || u.file != nil && u.file.size > int64(len(text)) {
				t.Errorf("%d fields, a file of %d bytes", fields, u.file.size)
			}
			if problem := u.missingFile(); u.file == nil && (problem.Message == "" || !json.Valid(problem.Body())) {
				t.Errorf("refused with %q", problem.Message)
			}
		case err.Error() == "":
			t.Error("an error that says nothing")
		}
		kept.Close()
		if held, memory := acc.held.Load(), acc.memory.Load(); held != 0 || memory != 0 {
			t.Errorf("%d bytes stay held, %d in memory", held, memory)
		}
	})
}

// FuzzDeadline: a deadline is later than the request and at most a day off, or it is refused.
func FuzzDeadline(f *testing.F) {
	for _, seed := range []string{"1000", "0", "-1", "NaN", "Inf", "1e300", "0x10", "", "1e-300", "60.5", " 1"} {
		f.Add(seed, "", "")
		f.Add("", seed, "")
		f.Add("", "", seed)
	}
	f.Fuzz(func(t *testing.T, ms, seconds, read string) {
		tr := &transcription{arrived: time.Now(), uploaded: time.Second}
		r := &http.Request{Header: http.Header{"X-Deadline-Ms": {ms}, "X-Stainless-Timeout": {seconds}, "X-Stainless-Read-Timeout": {read}}}
		deadline, problem := tr.deadline(r)
		switch {
		case problem != nil:
			if !deadline.IsZero() || problem.Status != http.StatusBadRequest {
				t.Errorf("%v and %+v", deadline, problem)
			}
		case deadline.IsZero():
		case deadline.Before(tr.arrived), deadline.After(tr.arrived.Add(tr.uploaded + deadlineMax)):
			t.Errorf("%q, %q, %q: %v after the request", ms, seconds, read, deadline.Sub(tr.arrived))
		}
	})
}
