//go:build linux || darwin || freebsd

package caddymodule

import "syscall"

// diskFree is how many bytes an unprivileged process can still write where dir is.
func diskFree(dir string) (bytes int64, ok bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(stat.Bavail) * int64(stat.Bsize), true //nolint:unconvert // Bsize has other types elsewhere
}
