//go:build race

package upstream

// raceFactor is by how much more may be allocated where the race detector watches: it keeps encoders' buffers from
// being used again, and has what could live on stacks live in the heap.
const raceFactor = 2
