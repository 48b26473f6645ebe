package caddymodule

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]struct{ base, key string }{
		"10.0.0.11:8000":              {"http://10.0.0.11:8000", "10.0.0.11:8000"},
		"GPU.internal:8000":           {"http://gpu.internal:8000", "gpu.internal:8000"},
		"http://gpu":                  {"http://gpu:80", "gpu:80"},
		"https://gpu":                 {"https://gpu:443", "gpu:443"},
		"https://gpu:8443/whisper/":   {"https://gpu:8443/whisper", "gpu:8443/whisper"},
		"gpu:8000/v1":                 {"http://gpu:8000/v1", "gpu:8000"},
		"[2001:db8::1]:8000":          {"http://[2001:db8::1]:8000", "[2001:db8::1]:8000"},
		"http://[::1]/a%20b":          {"http://[::1]:80/a%20b", "[::1]:80/a b"},
		"http://localhost:8000/a/v1/": {"http://localhost:8000/a/v1", "localhost:8000/a"},
	} {
		got, err := parseAddress(in)
		if err != nil || got.base.String() != want.base || got.key() != want.key {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", ":8000", "gpu", "gpu:", "http://gpu:", "gpu:0", "gpu:65536", "gpu:http", "ftp://gpu", "unix//run/w.sock", "http://", "http:///x",
		"gpu:8000?x=1", "gpu:8000#x", "u:p@gpu:8000", "g p u:8000", "*.gpu:8000", "{env.X}:80", "[::1", "http://a,b:1",
	} {
		if got, err := parseAddress(in); err == nil {
			t.Errorf("%q became %s", in, got.base)
		}
	}
}

func TestTransportConfig(t *testing.T) {
	for _, c := range []struct {
		raw   string
		https bool
		want  string
	}{
		{``, false, `{"compression":false,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":262144,"protocol":"http","write_buffer_size":262144}`},
		{``, true, `{"compression":false,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":262144,"protocol":"http","tls":{},"write_buffer_size":262144}`},
		{`{"protocol":"http","dial_timeout":1}`, false, `{"compression":false,"dial_timeout":1,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":262144,"protocol":"http","write_buffer_size":262144}`},
		{`{"protocol":"http","keep_alive":{"max_idle_conns":2}}`, false, `{"compression":false,"keep_alive":{"idle_timeout":"4s","max_idle_conns":2},"max_response_header_size":262144,"protocol":"http","write_buffer_size":262144}`},
		{`{"protocol":"http","keep_alive":null}`, false, `{"compression":false,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":262144,"protocol":"http","write_buffer_size":262144}`},
		{`{"protocol":"http","compression":true,"keep_alive":{"idle_timeout":"1s"},"tls":{"server_name":"x"}}`, true, `{"compression":true,"keep_alive":{"idle_timeout":"1s"},"max_response_header_size":262144,"protocol":"http","tls":{"server_name":"x"},"write_buffer_size":262144}`},
		{`{"protocol":"http","write_buffer_size":4096}`, false, `{"compression":false,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":262144,"protocol":"http","write_buffer_size":4096}`},
		{`{"protocol":"http","max_response_header_size":1024}`, false, `{"compression":false,"keep_alive":{"idle_timeout":"4s"},"max_response_header_size":1024,"protocol":"http","write_buffer_size":262144}`},
		{`{"protocol":"other","x":1}`, true, `{"protocol":"other","x":1}`},
	} {
		fields, err := transportConfig(json.RawMessage(c.raw), c.https)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(fields); err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v", c.raw, got, err)
		}
	}
	if _, err := transportConfig(json.RawMessage(`{"protocol":"http","keep_alive":3}`), false); err == nil {
		t.Error("a number was taken for keep_alive")
	}
}

func TestDeadline(t *testing.T) {
	arrived := time.Unix(1000, 0)
	job := &transcription{arrived: arrived, uploaded: 30 * time.Second}
	for _, c := range []struct {
		header http.Header
		want   time.Time
	}{
		{http.Header{}, time.Time{}},
		{http.Header{"X-Deadline-Ms": {"1500"}}, arrived.Add(1500 * time.Millisecond)},
		{http.Header{"X-Deadline-Ms": {"1e300"}}, arrived.Add(deadlineMax)},
		{http.Header{"X-Deadline-Ms": {"1500"}, "X-Stainless-Timeout": {"1"}}, arrived.Add(1500 * time.Millisecond)},
		{http.Header{"X-Stainless-Timeout": {"600"}}, arrived.Add(600 * time.Second)},
		{http.Header{"X-Stainless-Read-Timeout": {"600.0"}}, arrived.Add(630 * time.Second)}, // from the last byte
		{http.Header{"X-Stainless-Timeout": {"NOT_GIVEN"}}, time.Time{}},
		{http.Header{"X-Stainless-Timeout": {"NaN"}}, time.Time{}},
		{http.Header{"X-Stainless-Timeout": {"-1"}}, time.Time{}},
	} {
		got, problem := job.deadline(&http.Request{Header: c.header})
		if problem != nil || !got.Equal(c.want) {
			t.Errorf("%v: %v, %v", c.header, got, problem)
		}
	}
}

func TestRequestID(t *testing.T) {
	for in, kept := range map[string]bool{"abc-123": true, "": false, "with space": false, "new\nline": false, "ümlaut": false} {
		got := requestID(&http.Request{Header: http.Header{"X-Request-Id": {in}}})
		if (got == in) != kept || got == "" {
			t.Errorf("%q became %q", in, got)
		}
	}
}
