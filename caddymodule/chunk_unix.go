//go:build linux || darwin || freebsd

package caddymodule

import "syscall"

// mapChunk asks the system for a chunk; when it gives no more of this kind, the heap does.
func mapChunk() *chunk {
	memory, err := syscall.Mmap(-1, 0, chunkSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return new(chunk)
	}
	return (*chunk)(memory)
}

func unmapChunk(c *chunk) {
	_ = syscall.Munmap(c[:]) // fails for one of the heap's, which is collected
}
