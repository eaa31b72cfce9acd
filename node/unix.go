package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// listenControl makes a Unix socket that the owner alone may open. One that is
// left of a process that died is replaced: who calls it holds the lock of the
// data directory. Between Listen and Chmod it is guarded by the folder, which is
// ours alone.
func listenControl(ctx context.Context, name string) (net.Listener, error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return listenUnix(ctx, name, 0o600)
}

// listenSubmit makes a Unix socket that everyone may open who may enter its
// folder. One that is left of a process that died is replaced; one that somebody
// listens on is not, and neither is a file of another kind.
func listenSubmit(ctx context.Context, name string) (net.Listener, error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return listenUnix(ctx, name, 0o666)
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %s is no socket", syscall.ENOTSOCK, name)
	}
	conn, err := (&net.Dialer{Timeout: callTime}).DialContext(ctx, "unix", name)
	if err == nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %s", syscall.EADDRINUSE, name)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(name); err != nil {
		return nil, err
	}
	return listenUnix(ctx, name, 0o666)
}

// listenUnix makes a socket with such rights.
func listenUnix(ctx context.Context, name string, mode fs.FileMode) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", name)
	if err != nil {
		if len(name) > socketNameMax {
			err = fmt.Errorf("%w: the name of the socket has %d octets, and the system takes about %d: choose a shorter one", err, len(name), socketNameMax)
		}
		return nil, err
	}
	if err := os.Chmod(name, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// socketNameMax is the shortest limit of the systems that we know, in octets.
const socketNameMax = 103
