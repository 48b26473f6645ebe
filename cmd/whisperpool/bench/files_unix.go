//go:build unix

package bench

import (
	"fmt"
	"syscall"
)

// filesSpare is what the program needs beside its connections.
const filesSpare = 64

// CheckFiles says what to do when this process may not open so many connections at once. (The Go
// runtime has raised the soft limit to the hard one already.)
func CheckFiles(connections int) error {
	var limit syscall.Rlimit
	known := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil
	files := uint64(max(0, connections)) + filesSpare
	if known && files > uint64(limit.Cur) { //nolint:unconvert // it is signed on some systems
		return fmt.Errorf("%d requests at once may need %d open files, and this process may have %d; raise the limit with ulimit -n %d, or make a smaller load", connections, files, limit.Cur, files)
	}
	return nil
}
