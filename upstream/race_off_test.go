//go:build !race

package upstream

// raceFactor is by how much more may be allocated; see the other one.
const raceFactor = 1
