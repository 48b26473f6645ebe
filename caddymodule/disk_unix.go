//go:build linux || darwin || freebsd

package caddymodule

import "syscall"

// diskState is how many bytes an unprivileged process can still write where dir is, and how many there
// are in all.
func diskState(dir string) (free, total int64, ok bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, 0, false
	}
	size := int64(stat.Bsize)                                         //nolint:unconvert // it has other types elsewhere
	return int64(stat.Bavail) * size, int64(stat.Blocks) * size, true //nolint:unconvert,nolintlint // as above
}
