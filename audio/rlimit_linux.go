package audio

import "golang.org/x/sys/unix"

// limitProcess bounds a process that was just started: its CPU time in seconds, its memory, the files
// it may open; it may write none.
func limitProcess(pid int, cpu uint64) error {
	for _, l := range []struct {
		what int
		most uint64
	}{
		{unix.RLIMIT_CPU, cpu}, {unix.RLIMIT_AS, ffmpegMemory}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_NOFILE, ffmpegFiles},
	} {
		err := unix.Prlimit(pid, l.what, &unix.Rlimit{Cur: l.most, Max: l.most}, nil)
		if err == unix.ESRCH {
			return nil // it has ended already
		}
		if err != nil {
			return err
		}
	}
	return nil
}
