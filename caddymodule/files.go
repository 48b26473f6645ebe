package caddymodule

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/whisperpool/whisperpool/scheduler"
	"github.com/whisperpool/whisperpool/transcript"
)

const (
	// filesRetry is when to come back, once the process has no file descriptor left: by then some request is over.
	filesRetry = 2 * time.Second
	// filesToldEvery is how often the log says so.
	filesToldEvery = time.Minute
)

// outOfFiles tells whether an error is that the process, or the machine, has no file descriptor left. That is nobody
// else's fault: no backend is the worse for it. By its text too: Caddy's DialError and lookups do not unwrap.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		err != nil && strings.Contains(err.Error(), syscall.EMFILE.Error()) // ENFILE's begins with the same
}

// filesTold is when the log said so last, in nanoseconds since 1970.
var filesTold atomic.Int64

// tellOutOfFiles logs what to do, once in a while.
func tellOutOfFiles(log *zap.Logger, doing string) {
	now, last := time.Now().UnixNano(), filesTold.Load()
	if now-last < int64(filesToldEvery) || !filesTold.CompareAndSwap(last, now) {
		return
	}
	log.Error("no file descriptor is left: raise the limit, with LimitNOFILE=65536 in the systemd unit or ulimit -n 65536; "+
		"each request takes up to three", zap.String("while", doing))
}

// withoutFiles is the outcome of an attempt for which no connection could be opened, since the proxy itself has no
// file descriptor left. The client comes again.
func (t *transcription) withoutFiles() scheduler.Outcome {
	const detail = "the proxy has no file descriptor left"
	tellOutOfFiles(t.pool.log(), "connecting to a backend")
	if t.trial { // the backend is to be tried again, and has done nothing
		return scheduler.Outcome{Result: scheduler.Busy, RetryAfter: filesRetry, Detail: detail}
	}
	t.refused(noFiles())
	return scheduler.Outcome{Result: scheduler.ClientError, Detail: detail} // says nothing of the backend
}

func noFiles() *transcript.Error {
	return transcript.Unavailable("out_of_files", filesRetry, "the proxy has no file descriptor left; try again later")
}
