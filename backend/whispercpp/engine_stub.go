//go:build !whispercpp

package whispercpp

import (
	"errors"

	"github.com/whisperpool/whisperpool/backend"
)

// New says that this binary was built without whisper.cpp, and how to build one with it.
func New(Config) (backend.Transcriber, error) {
	return nil, errors.New("this binary was built without whisper.cpp: run `make libwhisper`, then build with `-tags whispercpp`")
}

// Device says the same.
func Device(string, int) (DeviceFound, error) {
	_, err := New(Config{})
	return DeviceFound{}, err
}
