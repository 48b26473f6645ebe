//go:build !whispercpp

package whispercpp

import (
	"log/slog"

	"github.com/whisperpool/whisperpool/backend"
)

// NewDetector says that this binary was built without whisper.cpp, as [New] does.
func NewDetector(string, *slog.Logger) (backend.SpeechDetector, error) {
	_, err := New(Config{})
	return nil, err
}
