package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"
)

var shutdowns = []scenario{
	{ID: "term", Name: "SIGTERM of the proxy under load", Theme: reloads, Short: true, Peers: true,
		Criterion: "/health fails within 1 s while requests are still taken; all that were taken are served; it ends by itself with status 0", Run: terminated},
	{ID: "start", Name: "kill -9 of the proxy, started again", Theme: reloads, Short: true,
		Criterion: "serves within 5 s, knows the speeds of before: the fast card gets the first jobs", Run: startedAgain},
}

func terminated(ctx context.Context, e *env) (string, bool, error) {
	card := law{Fixed: 500 * time.Millisecond, PerSecond: 100 * time.Millisecond, Noise: 0.1}
	_, f, err := e.warmPool(ctx, 2, card, setup{global: "shutdown_delay 2s\ngrace_period 60s"})
	if err != nil {
		return "", false, err
	}
	got := &tally{began: time.Now()}
	limited, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	send := func(n int) {
		for range n {
			wg.Go(func() { got.add(transcribe(limited, f.url, newClip(5))) })
		}
	}
	send(12) // 6 s of work
	pause(ctx, 500*time.Millisecond)
	f.signal(syscall.SIGTERM)
	at := time.Now()
	took, came := await(ctx, 2*time.Second, func() bool {
		_, err := get(ctx, f.url+"/health")
		return err != nil
	})
	if f.kind == ours { // it still takes them during its delay
		send(2)
	}
	wg.Wait()
	select {
	case <-f.ended:
	case <-time.After(10 * time.Second):
		return fmt.Sprintf("it has not ended; %d of %d failed%s", len(got.failed()), got.count(), got.firstFailure()), false, nil
	}
	code := f.cmd.ProcessState.ExitCode()
	return fmt.Sprintf("/health failed after %s, %d of %d failed%s, ended after %s with status %d", ms(took), len(got.failed()), got.count(), got.firstFailure(), ms(time.Since(at)), code),
		came && took <= time.Second && len(got.failed()) == 0 && code == 0, nil
}

func startedAgain(ctx context.Context, e *env) (string, bool, error) {
	fast, err := e.fake(ctx, "a-fast", law{Fixed: 100 * time.Millisecond, PerSecond: 20 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	slow, err := e.fake(ctx, "b-slow", law{Fixed: time.Second, PerSecond: 200 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	fakes := []*fake{slow, fast}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	if err := f.warm(ctx, 2); err != nil {
		return "", false, err
	}
	f.signal(syscall.SIGTERM) // stores what it knows; what kill -9 leaves is what was stored before
	<-f.ended
	if err := f.begin(ctx); err != nil {
		return "", false, err
	}
	f.kill()
	began := time.Now()
	if err := f.begin(ctx); err != nil {
		return "", false, err
	}
	up := time.Since(began)
	wrong := 0
	for range 6 { // one after the other: a slow idle card is no place for any
		a := transcribe(ctx, f.url, newClip(5))
		if !a.served() {
			return fmt.Sprintf("failed: %s", a), false, nil
		}
	}
	for _, r := range slow.seen(began) {
		if r.clip != 0 {
			wrong++
		}
	}
	return fmt.Sprintf("ready after %s, %d of 6 jobs went to the slow card", ms(up), wrong), up <= 5*time.Second && wrong == 0, nil
}

// head is a GET for its status and header.
func head(ctx context.Context, url string, headers ...string) (int, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	return response.StatusCode, response.Header, nil
}

// refusedEarly is the status of the answer to a body that comes slowly; 0 for none.
func refusedEarly(ctx context.Context, url string, body *slowly) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return 0
	}
	request.ContentLength = int64(len(body.left))
	request.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
