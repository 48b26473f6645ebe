package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// saying is a server that answers every probe with the same.
type saying struct {
	status int
	server string
	body   []byte
}

func (s saying) Do(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, Header: http.Header{"Server": {s.server}}, ContentLength: int64(len(s.body)), Body: io.NopCloser(bytes.NewReader(s.body)),
	}, nil
}

func (saying) HealthURI() string { return "" }

// FuzzProbe: whatever a server tells of itself, load report or list of models, what is believed is
// within the limits, and one that is not ready says why.
func FuzzProbe(f *testing.F) {
	for _, body := range []string{
		`{"server":"whisperpool","instance":"4f0c","ready":true,"slots":2,"busy":1,"queued":3,"gpu_class":"A10G","engine":"whispercpp","device":"CUDA0","models":[{"id":"base","multilingual":true,"translate":true,"words":true}]}`,
		`{"server":"whisperpool","loading":true}`, `{"server":"whisperpool","ready":true,"draining":true,"slots":-1}`,
		`{"server":"whisperpool","ready":true,"slots":9223372036854775807,"models":[{"id":"a\u0000"},{"id":"b"},{"id":"b"}]}`,
		`{"object":"list","data":[{"id":"base"},{"id":""},{"id":"\r\n"}]}`, `{"data":[]}`, `{"data":null}`, `{"status":"ok"}`, `{"status":"loading model"}`,
		"File Not Found (/health)", "<html><title>Whisper.cpp Server</title></html>", "", "[", `{"error":{"message":"a\u202eb"}}`,
	} {
		for _, status := range []int{200, 401, 404, 503} {
			f.Add(status, "whisper.cpp", []byte(body))
			f.Add(status, "", []byte(body))
		}
	}
	base, err := url.Parse("http://10.0.0.1:8000")
	if err != nil {
		f.Fatal(err)
	}
	clean := func(s string, most int) bool {
		return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	}
	f.Fuzz(func(t *testing.T, status int, server string, body []byte) {
		p := saying{status, server, body}
		for _, k := range kinds {
			r, err := k.Probe(context.Background(), base, p)
			if err != nil {
				t.Fatalf("%s: a whole answer is an error: %v", k.Name(), err)
			}
			if r.Ready == (r.Detail != "") || r.Ready && r.Loading {
				t.Fatalf("%s: %+v", k.Name(), r)
			}
			if r.Slots < 0 || r.Slots > slotsMax || r.Busy < 0 || r.Busy > countMax || r.Queued < 0 || r.Queued > countMax || len(r.Models) > modelsMax || len(r.Can) > len(r.Models) {
				t.Fatalf("%s: %+v", k.Name(), r)
			}
			for _, s := range append([]string{r.Instance, r.GPUClass}, r.Models...) {
				if !clean(s, modelNameMax) {
					t.Fatalf("%s: %q", k.Name(), s)
				}
			}
			for _, s := range []string{r.Detail, r.Engine, r.Device} {
				if !clean(s, detailMax+200) {
					t.Fatalf("%s: %q", k.Name(), s)
				}
			}
		}
		k, err := Identify(context.Background(), base, p)
		var unknown *UnknownKindError
		if (k == nil) == (err == nil) || err != nil && (!errors.As(err, &unknown) || !clean(err.Error(), 4*(detailMax+100)+300)) {
			t.Fatalf("%v, %v", k, err)
		}
	})
}
