package backend

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// dripping gives so many bytes a second.
type dripping struct{ each int }

func (d dripping) Read(p []byte) (int, error) {
	<-time.After(time.Second)
	return min(d.each, len(p)), nil
}

func TestUploadsThatDripEnd(t *testing.T) {
	for _, c := range []struct {
		each int
		slow bool
	}{{1, true}, {uploadRateMin - 24, true}, {uploadRateMin + 24, false}} {
		synctest.Test(t, func(t *testing.T) {
			body := &steadyBody{
				from:    io.LimitReader(dripping{c.each}, int64(10*60*c.each)),
				control: http.NewResponseController(httptest.NewRecorder()), stall: time.Minute,
			}
			started := time.Now()
			_, err := io.Copy(io.Discard, body)
			if slow := errors.Is(err, errSlow); slow != c.slow {
				t.Errorf("%d bytes a second: %v", c.each, err)
			}
			if took := time.Since(started); c.slow && took > 62*time.Second {
				t.Errorf("%d bytes a second: ended only after %v", c.each, took)
			}
		})
	}
}
