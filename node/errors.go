package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/vfs"
)

// dataDirError says what to do about an error with the data directory.
func (n *Node) dataDirError(err error) error {
	dir := n.cfg.DataDir
	if abs, absErr := filepath.Abs(dir); absErr == nil {
		dir = abs
	}
	help := ""
	switch {
	case errors.Is(err, vfs.ErrLocked):
		help = "Another server runs on it: stop that one, or give this one another with --data-dir DIR."
	case errors.Is(err, fs.ErrPermission):
		help = "Let the user who runs the server write there, or give it another with --data-dir DIR."
	case errors.Is(err, syscall.EROFS):
		help = "The disk is mounted read-only: give the server another with --data-dir DIR."
	case errors.Is(err, syscall.ENOSPC):
		help = "The disk is full: make some room."
	case errors.Is(err, syscall.ENOTDIR):
		help = "There is a file in the way: give the server another with --data-dir DIR."
	}
	return located(n.cfg.DataDirPos, err, fmt.Sprintf("the data directory %s cannot be used", dir), help)
}

// listenError says what to do about an address that cannot be listened on.
func listenError(at config.Pos, addr string, err error) error {
	help := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		help = "Another program listens there: stop it, or write another address into the configuration."
	case errors.Is(err, fs.ErrPermission) && strings.Contains(addr, "/"):
		help = "Let the user who runs the server write into the folder, or name another."
	case errors.Is(err, fs.ErrPermission):
		help = "Ports below 1024 want the right to bind them: CAP_NET_BIND_SERVICE on Linux, or root."
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		help = "This machine has no such address."
	case errors.Is(err, fs.ErrNotExist):
		help = "Make the folder, which the user who runs the server must own."
	case errors.Is(err, syscall.ENOTSOCK):
		help = "Take the file away, or write another name into the configuration."
	}
	return located(at, err, "cannot listen on "+addr, help)
}

// located is an error at a place of the configuration.
func located(at config.Pos, err error, what, help string) error {
	d := at.Error(what, help)
	if at.File == "" {
		if help != "" {
			help = "\n  " + help
		}
		return fmt.Errorf("%s: %w%s", what, err, help)
	}
	d.Message = fmt.Sprintf("%s: %v", what, err)
	return placedError{d, err}
}

// A placedError is an error of the machine that a place of the configuration
// led to.
type placedError struct {
	config.Diagnostic
	err error
}

func (e placedError) Error() string { return e.Diagnostic.String() }
func (e placedError) Unwrap() error { return e.err }
