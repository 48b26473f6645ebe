//go:build !(linux || darwin || freebsd)

package caddymodule

// diskState is not known here; the default of the option max_bytes is then its upper limit.
func diskState(string) (free, total int64, ok bool) { return 0, 0, false }
