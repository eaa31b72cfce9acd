package node

import (
	"net"
	"syscall"
)

// userOf is who connected a Unix socket, as the kernel knows it: unix(7), the
// credentials "are those that were in effect at the time of the call to
// connect(2)".
func userOf(conn net.Conn) int {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return nobodyKnown
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nobodyKnown
	}
	uid := nobodyKnown
	err = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	if err != nil {
		return nobodyKnown
	}
	return uid
}
