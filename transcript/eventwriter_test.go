package transcript

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// client takes what is written to it, until it is gone.
type client struct {
	*httptest.ResponseRecorder
	mu       sync.Mutex // held by tests while they look, since the writer goes on after them
	gone     bool
	deadline time.Time
}

func (c *client) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ResponseRecorder.Header()
}

func (c *client) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ResponseRecorder.Flush()
}

func (c *client) flushed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Flushed
}

func (c *client) writeBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, errors.New("gone")
	}
	return c.ResponseRecorder.Write(p)
}

func (c *client) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

func eventWriter(c *client, begin time.Duration) (e *EventWriter, broken *atomic.Int32) {
	broken = &atomic.Int32{}
	return NewEventWriter(c, EventOptions{
		Header: func(h http.Header) { h.Set("X-Test", "yes") },
		Begin:  begin, Alive: 15 * time.Second, Stall: time.Minute, Broken: func() { broken.Add(1) },
	}), broken
}

func TestEventWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder()}
		e, _ := eventWriter(c, time.Second)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if c.flushed() {
			t.Fatal("the header is out before its time")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if !c.flushed() || c.Header().Get("Content-Type") != StreamType || c.Header().Get("X-Test") != "yes" || !strings.Contains(c.Header().Get("Cache-Control"), "no-transform") {
			t.Fatalf("flushed %v, %v", c.flushed(), c.Header())
		}
		if want := time.Now().Add(time.Minute); !c.writeBy().Equal(want) {
			t.Errorf("a write has until %v, want %v", c.writeBy(), want)
		}
		time.Sleep(40 * time.Second) // two comments more
		e.Send([]byte("data: 1\n\n"))
		time.Sleep(14 * time.Second) // none, since there was an event
		e.Send([]byte("data: 2\n\n"))
		if !e.End(nil) {
			t.Error("nothing was sent")
		}
		if want := strings.Repeat(string(comment), 3) + "data: 1\n\ndata: 2\n\n"; c.Body.String() != want {
			t.Errorf("%q, want %q", c.Body, want)
		}
		if !c.writeBy().IsZero() {
			t.Error("the connection can't be used any more")
		}
	})
}

func TestEventWriterThatNeverBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder()}
		e, _ := eventWriter(c, 0)
		time.Sleep(time.Hour)
		if e.End(Invalid("file", "x", "No.")) {
			t.Error("a stream has begun")
		}
		if c.flushed() || c.Body.Len() > 0 || len(c.Header()) > 0 {
			t.Errorf("%v %q", c.Header(), c.Body)
		}
	})
}

func TestEventWriterLateFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder()}
		e, _ := eventWriter(c, 0)
		e.Send([]byte("data: 1\n\n"))
		synctest.Wait()
		if !e.End(&Error{Message: "No.", Type: "server_error", Code: "x"}) {
			t.Error("no stream has begun")
		}
		if want := "data: 1\n\n" + `data: {"error":{"code":"x","message":"No.","param":null,"type":"server_error"}}` + "\n\n"; c.Body.String() != want {
			t.Errorf("%q, want %q", c.Body, want)
		}
	})
}

func TestEventWriterWhoseClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder(), gone: true}
		e, broken := eventWriter(c, 0)
		for range 3 {
			e.Send([]byte("data: 1\n\n"))
			synctest.Wait()
		}
		e.End(nil)
		if broken.Load() != 1 {
			t.Errorf("told %d times", broken.Load())
		}
	})
}
