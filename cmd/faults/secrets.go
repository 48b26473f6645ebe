package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var secrets = []scenario{
	{ID: "log", Name: "what is said, file names, prompts and keys in the log, at level DEBUG", Theme: limits, Short: true,
		Criterion: "not a word of them in the log, in metrics or in what the proxy wrote to disk, also when answers are broken or refused", Run: nothingInLogs},
	{ID: "header", Name: "a backend's answer tries to set headers and to break out of one", Theme: limits, Short: true,
		Criterion: "none of its headers reaches the client, X-Whisperpool-Backend is the proxy's own, no line break gets through", Run: headerInjection},
	{ID: "admin", Name: "Caddy's admin API, metrics, a backend's own paths through the site", Theme: limits, Short: true,
		Criterion: "none of them answers there, and nothing of it reaches a backend", Run: noAdminOnSite},
}

func nothingInLogs(ctx context.Context, e *env) (string, bool, error) {
	const said, file, prompt, key, tenant = "Xylophonquastenflosser", "Kundengespraech-Mueller.wav", "Zwiebelturmspitze", "sk-geheimnisvoll-123456", "Mandant-Querulant"
	fakes, err := e.pool(ctx, 3, "card", law{Fixed: 30 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{level: "DEBUG", pool: "tenant {header.X-Tenant}"}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	acts := []act{
		func(c *call) { c.answer(said) },
		answering(200, "application/json", `{"text":"`+said),
		answering(200, "text/html", "<p>"+said),
		answering(200, "application/json", `{"error":"`+said+`"}`),
		answering(200, "application/json", ""),
		answering(400, "application/json", `{"error":{"message":"bad audio `+said+`","type":"invalid_request_error"}}`),
		answering(422, "application/json", `{"detail":"`+said+`"}`),
		answering(500, "text/plain", "it broke"),
		answering(503, "text/plain", "busy"),
		raw(response(500, `{"text":"`+said), byReset),
		raw(said, byClose),
	}
	n := 0
	for _, format := range []string{"json", "text", "srt", "verbose_json", "nonsense " + said} {
		for i, a := range acts {
			for _, one := range fakes {
				one.set(a)
			}
			if i > 4 { // what is taken for a failure opens breakers; the others have to be reached, too
				fakes[1].set(acts[0])
			}
			limited, cancel := context.WithTimeout(ctx, 3*time.Second)
			body, contentType := formOf(file, newClip(2).wav(), "model", "base", "prompt", prompt, "response_format", format)
			post(limited, f.url+transcriptions, clip{}, body, contentType, "Authorization", "Bearer "+key, "X-Tenant", tenant)
			cancel()
			n++
		}
	}
	text, err := get(ctx, f.scrape)
	if err != nil {
		return "", false, err
	}
	f.signal(15)
	<-f.ended
	words := []string{said, file, "Kundengespraech", prompt, key, tenant}
	found := findLine(f.text(), words...)
	if found == "" {
		found = findLine(string(text), words...)
	}
	err = filepath.WalkDir(filepath.Dir(f.log), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if line := findLine(string(content), words...); line != "" && found == "" {
			found = path + ": " + line
		}
		return err
	})
	lines := strings.Count(f.text(), "\n")
	return fmt.Sprintf("%d requests, %d lines of log, found: %q", n, lines, found), found == "" && lines > n/2, err
}

func headerInjection(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 1, "card", law{Fixed: 10 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	var wrong []string
	evil := []string{"Set-Cookie: session=stolen", "X-Whisperpool-Backend: evil", "X-Whisperpool-Attempts: 99", "Access-Control-Allow-Origin: *", "Location: http://evil/", "X-Evil: 1",
		"Transfer-Encoding: identity", "Content-Type: text/html", "Content-Disposition: attachment; filename=evil.exe", "X-Should-Retry: false", "Strict-Transport-Security: max-age=1"}
	check := func(what string, a answer) {
		for name, values := range a.header {
			value := strings.Join(values, ",")
			switch {
			case strings.Contains(value, "evil"), strings.ContainsAny(value, "\r\n"), strings.EqualFold(name, "X-Evil"), strings.EqualFold(name, "Set-Cookie"),
				strings.EqualFold(name, "Access-Control-Allow-Origin"), strings.EqualFold(name, "Strict-Transport-Security"), strings.EqualFold(name, "Location"),
				name == "Content-Type" && !strings.HasPrefix(value, "application/json"):
				wrong = append(wrong, fmt.Sprintf("%s: %s: %s", what, name, value))
			}
		}
	}
	for _, line := range evil {
		body := `{"text":"x\r\nX-Evil: 1\r\n\r\n<script>"}`
		fakes[0].set(raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"+line+"\r\nConnection: close\r\n\r\n"+body, byClose))
		check(line, transcribe(ctx, f.url, newClip(1)))
		fakes[0].set(raw("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"+line+"\r\nConnection: close\r\n\r\n"+`{"error":{"message":"no\r\nX-Evil: 1","code":"a\r\nX-Evil: 1"}}`, byClose))
		check(line, transcribe(ctx, f.url, newClip(1)))
	}
	fakes[0].set(nil)
	// What a client sends in its headers comes back, if at all, without line breaks.
	var a answer
	await(ctx, 15*time.Second, func() bool { // it may have been left alone, for answers that were none
		a = transcribe(ctx, f.url, newClip(1), "X-Request-Id", "evil\tid \"<>", "X-Whisperpool-Backend", "evil")
		return a.served()
	})
	check("a request id", a)
	return fmt.Sprintf("%d headers got through%s; then %s", len(wrong), first(wrong), oneLine(a.String())), len(wrong) == 0 && a.served(), nil
}

func noAdminOnSite(ctx context.Context, e *env) (string, bool, error) {
	fakes, err := e.pool(ctx, 1, "card", law{Fixed: 10 * time.Millisecond})
	if err != nil {
		return "", false, err
	}
	reached := make(chan string, 100)
	seen := act(func(c *call) {
		if c.r.URL.Path != "/load-report" && c.r.URL.Path != "/health" && c.r.URL.Path != "/v1/models" {
			reached <- c.r.URL.Path
		}
		if c.r.URL.Path == "/load-report" {
			c.json(200, c.fake.report())
			return
		}
		c.json(200, map[string]string{"status": "ok"})
	})
	fakes[0].health.Store(&seen)
	f, err := e.front(ctx, "front", setup{}, servers(fakes...))
	if err != nil {
		return "", false, err
	}
	var wrong []string
	for _, path := range []string{"/load", "/config/", "/metrics", "/load-report", "/debug/pprof/", "/stop", "/id/x", "/adapt", "/reverse_proxy/upstreams", "/whisper_pool/main", "/whisper_pool/",
		"/v1/../load", "/v1/models/../../load", "//load", "/v1/audio/transcriptions/../../../load", "/inference/../metrics"} {
		status, header, err := head(ctx, f.url+path)
		if err != nil {
			return "", false, err
		}
		empty := header.Get("Content-Length") == "0" || status == http.StatusNotFound || status >= 300 && status < 400
		if status == http.StatusOK && !empty {
			wrong = append(wrong, fmt.Sprintf("%s: %d", path, status))
		}
	}
	for _, path := range []string{"/load", "/stop", "/metrics"} {
		a := post(ctx, f.url+path, clip{}, []byte("{}"), "application/json")
		if a.text != "" && a.status == http.StatusOK {
			wrong = append(wrong, "POST "+path+": "+a.String())
		}
	}
	// Another site's name on the admin listener: browsers may be made to send there.
	status, _, err := head(ctx, f.admin+"/config/", "Host", "evil.example.com", "Origin", "http://evil.example.com")
	if err != nil {
		return "", false, err
	}
	if status == http.StatusOK {
		wrong = append(wrong, "the admin API answers to another origin")
	}
	_, err = get(ctx, f.url+"/health?pool")
	return fmt.Sprintf("%d answered%s, %d reached the backend", len(wrong), first(wrong), len(reached)), len(wrong) == 0 && len(reached) == 0 && err == nil, nil
}
