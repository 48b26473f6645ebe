package caddymodule

// chunkSize is the unit of memory for uploads, in bytes.
const chunkSize = 64 << 10

// chunk is memory for a part of an upload. Chunks are apart from Go's heap where the system lets them be:
// uploads then do not make the heap grow by as much again before its garbage is collected, and what is
// freed is free at once.
type chunk [chunkSize]byte

// spare are chunks that are kept for the next uploads, so that not each of them asks the system.
var spare = make(chan *chunk, 64)

func newChunk() *chunk {
	select {
	case c := <-spare:
		return c
	default:
		return mapChunk()
	}
}

// free gives the chunk back. Nobody may read it any more.
func (c *chunk) free() {
	select {
	case spare <- c:
	default:
		unmapChunk(c)
	}
}
