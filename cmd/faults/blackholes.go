package main

import (
	"context"
	"fmt"
	"time"
)

const holeCriterion = "at most 5 failures seen by clients, at most 1 % of picks after 5 s, p99 at most 1.2 x base"

// What a black hole answers, at once: it looks idle for ever, and attracts everything.
var blackHoles = []scenario{
	{ID: "4", Name: "black hole: 500 after 5 ms", Theme: breakers, Short: true, Peers: true, Criterion: holeCriterion, Run: hole(serverError)},
	{ID: "5a", Name: "black hole: 200 without a body", Theme: answers, Short: true, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(200, "application/json", ""))},
	{ID: "5b", Name: `black hole: 200 with {"error": ...}`, Theme: answers, Short: true, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(200, "application/json", `{"error":"failed to process audio"}`))},
	{ID: "5c", Name: "black hole: 200 with JSON that is cut off", Theme: answers, Short: true, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(200, "application/json", `{"text":"This is what cl`))},
	{ID: "5d", Name: "black hole: a body shorter than its length says", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(raw(response(500, `{"text":"This is wh`), byClose))},
	{ID: "5e", Name: "black hole: a body longer than its length says", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(raw(response(10, `{"text":"This is what it says."}`), byClose))},
	{ID: "5f", Name: "black hole: an HTML page with 200", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(200, "text/html", "<html><body>Welcome to nginx!</body></html>"))},
	{ID: "5g", Name: "black hole: a reset in the middle of the answer", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(raw(response(500, `{"text":"This is wh`), byReset))},
	{ID: "5h", Name: "black hole: a reset before any answer", Theme: breakers, Peers: true, Criterion: holeCriterion, Run: hole(raw("", byReset))},
	{ID: "5i", Name: "black hole: no HTTP at all", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(raw("SSH-2.0-OpenSSH_9.2p1\r\n", byClose))},
	{ID: "5k", Name: "black hole: 401, its key has expired", Theme: breakers, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(401, "application/json", `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`))},
	{ID: "5n", Name: "black hole: 404, there is nothing at its path", Theme: breakers, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(404, "text/plain", "404 page not found"))},
	{ID: "5l", Name: "black hole: a redirect to a page for logging in", Theme: answers, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(302, "text/html", "", "Location", "https://login.example.com/"))},
	{ID: "5m", Name: "black hole: 503 that never says when to come again", Theme: breakers, Peers: true, Criterion: holeCriterion,
		Run: hole(answering(503, "text/plain", "Service Unavailable"))},
}

// hole gives a pool of six a backend that acts so after 5 ms while its health is fine.
func hole(a act) func(context.Context, *env) (string, bool, error) {
	return func(ctx context.Context, e *env) (string, bool, error) {
		// Jobs of a fifth of a second: longer ones would not come often enough for it to be found out within
		// seconds, and with shorter ones what a busy machine does to milliseconds would count.
		const cards = 6
		card := law{Fixed: 80 * time.Millisecond, PerSecond: 40 * time.Millisecond, Noise: 0.1}
		lengths := between(1, 5)
		t, err := e.twin(ctx, cards, card, setup{})
		if err != nil {
			return "", false, err
		}
		bad := t.backend[0]
		bad.set(after(5*time.Millisecond, a))
		began := time.Now()
		const length = 45 * time.Second // else three picks are more than one in a hundred
		orders := poisson(4, rate(0.3, cards, card, lengths), length, lengths)
		base, faulty := t.play(ctx, orders)
		if n := len(base.failed()); n > 0 {
			return "", false, fmt.Errorf("%d failed without the fault%s", n, base.firstFailure())
		}
		const settled = 5 * time.Second
		later := began.Add(settled)
		picks, all := bad.between(later, time.Now()), 0
		for _, f := range t.backend {
			all += f.between(later, time.Now())
		}
		failures, p99 := len(faulty.failed()), ratio(faulty.p99(), base.p99())
		share := float64(picks) / float64(max(all, 1))
		return fmt.Sprintf("%d of %d failed%s, %.1f %% of picks (%d), p99 %.2f x base", failures, faulty.count(), faulty.firstFailure(), 100*share, picks, p99),
			failures <= 5 && (share <= 0.01) && p99 <= 1.2, nil
	}
}
