package caddymodule

import (
	"net"

	"golang.org/x/sys/unix"
)

// steer has the kernel give all new connections of the sockets that share an address to the one at index, in
// the order in which they began to listen. Where it can't be done they are spread as before, which costs a
// connection or two at a reload.
func steer(socket *net.TCPListener, index int) {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(index)}}
	control(socket, func(fd int) {
		_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// unsteer ends what steer began.
func unsteer(socket *net.TCPListener) {
	control(socket, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	})
}

func control(socket *net.TCPListener, do func(fd int)) {
	if raw, err := socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}
