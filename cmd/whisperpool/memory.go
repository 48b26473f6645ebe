package main

import (
	"os"
	"runtime/debug"
)

// collectPercent is how much garbage is let lie before it is collected, of what is in use. Go's own 100 would
// let uploads that are held in memory take twice their limit.
const collectPercent = 50

// boundGarbage is for those who have said nothing else by Go's variables of the environment.
func boundGarbage() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(collectPercent)
	}
}
