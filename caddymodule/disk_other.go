//go:build !(linux || darwin || freebsd)

package caddymodule

// diskFree is not known here; the default of the option max_bytes is then its upper limit.
func diskFree(string) (bytes int64, ok bool) { return 0, false }
