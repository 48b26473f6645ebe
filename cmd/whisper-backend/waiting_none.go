//go:build !whispercpp || !linux

package main

// waitPassively does nothing without whisper.cpp's threads.
func waitPassively() {}
