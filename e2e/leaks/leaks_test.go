package leaks

import (
	"os"
	"strings"
	"testing"
)

// What is left is found, and named; what is gone is not.
func TestWhatIsLeftIsFound(t *testing.T) {
	before := descriptors()
	if err := left(before, nil, patience); err != nil {
		t.Fatalf("nothing is left, and found: %v", err)
	}
	name := t.TempDir() + "/left-open"
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) > 0 { // on Linux
		if err := opened(before, nil); err == nil || !strings.Contains(err.Error(), "left-open") {
			t.Errorf("an open file: %v", err)
		}
	}
	if err := opened(before, []Known{{Function: "x"}, {Descriptor: "left-open"}}); err != nil {
		t.Errorf("one that is known: %v", err)
	}
	file.Close()
	if err := opened(before, nil); err != nil {
		t.Errorf("a closed file: %v", err)
	}
	stop := make(chan struct{})
	go func() { <-stop }()
	if err := left(before, nil, 0); err == nil || !strings.Contains(err.Error(), "TestWhatIsLeftIsFound") {
		t.Errorf("a goroutine: %v", err)
	}
	if err := left(before, []Known{{Function: "github.com/whisperpool/whisperpool/e2e/leaks.TestWhatIsLeftIsFound.func1"}}, 0); err != nil {
		t.Errorf("one that is known: %v", err)
	}
	close(stop)
	if err := left(before, nil, patience); err != nil {
		t.Errorf("a goroutine that has ended: %v", err)
	}
}
