//go:build !whispercpp

package whispercpp

import (
	"strings"
	"testing"
)

func TestWithoutTheLibraryNewSaysHowToGetIt(t *testing.T) {
	e, err := New(Config{ModelPath: "ggml-base.bin"})
	if e != nil || err == nil || !strings.Contains(err.Error(), "make libwhisper") || !strings.Contains(err.Error(), "-tags whispercpp") {
		t.Errorf("%v, %v", e, err)
	}
}
