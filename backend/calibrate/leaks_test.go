package calibrate

import (
	"os"
	"testing"

	"github.com/whisperpool/whisperpool/e2e/leaks"
)

// TestMain fails when the tests leave goroutines or file descriptors behind.
func TestMain(m *testing.M) { os.Exit(leaks.Run(m, nil)) }
