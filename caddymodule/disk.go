package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// How uploads leave room on a disk for others, such as the certificates in Caddy's data directory.
const (
	diskReserve = 64 << 20 // bytes, or a sixteenth of the disk, if that is less
	diskStep    = 16 << 20 // bytes between looks
)

// errDiskFull: uploads must take no more of the disk.
var errDiskFull = &spoolError{fmt.Errorf("what is left is kept free for others: %w", syscall.ENOSPC)}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// vet looks, from time to time, whether the disk has room for a file that is to grow to size.
func (s *spool) vet(size int64) error {
	if size < s.vetted {
		return nil
	}
	s.vetted = size + diskStep
	free, total, ok := diskState(s.dir)
	if ok && free < size-s.onDisk()+min(diskReserve, total/16) {
		return errDiskFull
	}
	return nil
}

// onDisk is how much of an upload is in its file.
func (s *spool) onDisk() int64 {
	if s.file == nil {
		return 0
	}
	return s.size
}

// diskFree is how many bytes an unprivileged process can still write where dir is.
func diskFree(dir string) (bytes int64, ok bool) {
	bytes, _, ok = diskState(dir)
	return bytes, ok
}

// checkSpoolMode refuses a folder in which others can put something in the place of what is ours.
func checkSpoolMode(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("the folder for uploads can't be looked at (option upload, spool): %w", err)
	}
	if mode := info.Mode(); mode.Perm()&0o002 != 0 && mode&os.ModeSticky == 0 {
		return fmt.Errorf("the folder for uploads %s can be written to by everybody (option upload, spool): give it the mode 0700", dir)
	}
	return nil
}

// leftover is what a file of ours is called for a moment, or until its end where open files can't be removed.
var leftover = regexp.MustCompile(`^upload-[0-9]+$`)

// sweepSpool removes what a process that was killed may have left. Files that a living one has open stay
// readable to it, or can't be removed. Nothing but plain files is touched, and no link followed.
func sweepSpool(dir string) {
	entries, _ := os.ReadDir(dir) // what can't be read is found out next
	for _, entry := range entries {
		if entry.Type().IsRegular() && leftover.MatchString(entry.Name()) {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}
