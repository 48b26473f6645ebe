package e2e

import (
	"os"
	"testing"

	"github.com/whisperpool/whisperpool/e2e/leaks"
)

// TestMain fails when the tests leave goroutines or file descriptors behind, those of processes that they
// started included.
func TestMain(m *testing.M) { os.Exit(leaks.Run(m, nil)) }
