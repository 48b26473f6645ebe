package upstream

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Identify finds out a server's kind by asking for what only that kind has: the load report of our
// own backend, OpenAI's list of models, whisper-server's page or name. A server that cannot be
// reached is an error that wraps its cause; one that none of this fits is an [UnknownKindError].
func Identify(ctx context.Context, base *url.URL, p Prober) (Kind, error) {
	var answers []probed
	for _, question := range []struct {
		u       *url.URL
		matches func(probed) bool
		kind    Kind
	}{
		{endpoint(base, "load-report"), isWhisperPool, whisperPool{}},
		{endpoint(base, "v1", "models"), isOpenAI, openAI{}},
		{endpoint(base, "/"), isWhisperServer, whisperServer{}},
		{endpoint(base, "health"), isWhisperServer, whisperServer{}},
	} {
		got, err := get(ctx, p, question.u)
		if err != nil {
			return nil, fmt.Errorf("asking for its kind: %w", err)
		}
		if question.matches(got) {
			return question.kind, nil
		}
		answers = append(answers, got)
	}
	last := answers[len(answers)-1]
	if statusOK(last) && answers[1].status == http.StatusNotFound {
		return whisperServer{}, nil
	}
	return nil, &UnknownKindError{answers: answers}
}

// UnknownKindError: a server that answers as none of the kinds does.
type UnknownKindError struct{ answers []probed }

// Error says what was asked and answered, and what to do.
func (e *UnknownKindError) Error() string {
	parts := make([]string, len(e.answers))
	for i, answer := range e.answers {
		parts[i] = answer.String()
	}
	return fmt.Sprintf("it answers as no known kind of server does (%s); set kind (%s) for this backend",
		strings.Join(parts, "; "), strings.Join(Names(), ", "))
}

func isWhisperPool(g probed) bool {
	_, ok := g.loadReport()
	return ok
}

func isOpenAI(g probed) bool {
	_, ok := g.models()
	return ok
}

// isWhisperServer: it names itself in every answer's header, and on its page where a proxy in
// between replaced the header.
func isWhisperServer(g probed) bool {
	return g.header.Get("Server") == "whisper.cpp" || bytes.Contains(g.body, []byte("Whisper.cpp Server"))
}

// statusOK: {"status":"ok"}, as whisper-server answers at /health.
func statusOK(g probed) bool {
	var state struct {
		Status string `json:"status"`
	}
	return g.json(&state) && state.Status == "ok"
}
