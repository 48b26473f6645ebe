//go:build !linux

package caddymodule

import "net"

// steer can't be done here; the kernel spreads new connections over the sockets of an address as it likes.
func steer(*net.TCPListener, int) {}

func unsteer(*net.TCPListener) {}
