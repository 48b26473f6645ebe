//go:build whispercpp && linux

package main

import (
	"os"
	"syscall"
)

// waitPolicy is how whisper.cpp's threads wait for each other, by the name that OpenMP's library
// gives the setting. It reads it before any code of ours runs.
const waitPolicy = "OMP_WAIT_POLICY"

// waitPassively starts the program anew, as the same process, with threads that sleep while they
// wait for each other, unless the operator has chosen: those that spin instead take the processor
// from the threads that they wait for as soon as anything else runs on the machine, decoding an
// upload for one. Where it cannot be started anew it goes on as it is.
func waitPassively() {
	if os.Getenv(waitPolicy) != "" {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	if os.Setenv(waitPolicy, "passive") == nil {
		_ = syscall.Exec(program, os.Args, os.Environ()) //nolint:gosec // this very program
	}
}
