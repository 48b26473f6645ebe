// Package leaks makes the tests of a package fail when they leave goroutines or file descriptors
// behind: what a test leaves, a server that runs for months leaves a million times.
package leaks

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long what the last test closed may take to go: connections are closed from both
// sides, and idle ones by timers.
const patience = 10 * time.Second

// Known is what is left by others and known; whoever names one says why. Empty members match nothing.
type Known struct {
	Function   string // on a goroutine's stack, in full
	Descriptor string // how what an open file descriptor stands for ends
}

// Run runs the tests and then looks for what they left, what is known aside. It returns what TestMain
// has to exit with. clean, if not nil, is called in between, to close what all tests share.
func Run(m *testing.M, clean func(), known ...Known) int {
	before := descriptors()
	code := m.Run()
	if clean != nil {
		clean()
	}
	if code != 0 {
		return code // a test that failed may well have left something
	}
	if err := left(before, known, patience); err != nil {
		fmt.Fprintf(os.Stderr, "the tests passed and left behind:\n%v\n", err)
		return 1
	}
	return 0
}

// left waits until nothing is left, and says what is left after all.
func left(before []string, known []Known, patience time.Duration) error {
	var ignored []goleak.Option
	for _, k := range known {
		if k.Function != "" {
			ignored = append(ignored, goleak.IgnoreAnyFunction(k.Function))
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		err := errors.Join(goleak.Find(ignored...), opened(before, known))
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func opened(before []string, known []Known) error {
	var errs []error
	for _, d := range descriptors() {
		ignored := slices.ContainsFunc(known, func(k Known) bool {
			return k.Descriptor != "" && strings.HasSuffix(strings.TrimSuffix(d, " (deleted)"), k.Descriptor)
		})
		if !ignored && !slices.Contains(before, d) {
			errs = append(errs, errors.New("an open file descriptor: "+d))
		}
	}
	return errors.Join(errs...)
}

// descriptors lists the process's open files, sockets and pipes, on Linux; elsewhere nothing is seen.
func descriptors() []string {
	const folder = "/proc/self/fd"
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(folder, e.Name()))
		switch {
		case err != nil: // that of the folder itself
		case strings.HasPrefix(target, "anon_inode:[event"): // the runtime's own poller
		default:
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}
