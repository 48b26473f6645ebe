//go:build !(linux || darwin || freebsd)

package caddymodule

// mapChunk takes a chunk from the heap.
func mapChunk() *chunk { return new(chunk) }

// unmapChunk leaves it to be collected.
func unmapChunk(*chunk) {}
