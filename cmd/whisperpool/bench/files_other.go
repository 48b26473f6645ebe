//go:build !unix

package bench

// CheckFiles finds nothing wrong: there is no limit that could be asked for.
func CheckFiles(int) error { return nil }
