package vfs

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrCrash is the error of every operation on a machine that is dead. A hook
// that returns it stops the machine before the operation is done.
var ErrCrash = errors.New("the machine is dead")

// An Op is an operation on a Mem, as its hook sees it.
type Op struct {
	N    int // how many operations came before it
	Kind OpKind
	Name string // of Rename and Link: the new name
	Off  int64  // of Read and Write; of Truncate and Allocate the size
	Len  int    // of Read and Write
}

// String returns the operation as one line of a trace.
func (o Op) String() string {
	return fmt.Sprintf("%d %v %s off=%d len=%d", o.N, o.Kind, o.Name, o.Off, o.Len)
}

// An OpKind says what an operation does.
type OpKind uint8

// The kinds of operations. Those from OpCreate on change the disk.
const (
	OpOpen OpKind = iota
	OpRead
	OpStat
	OpReadDir
	OpLock
	OpCreate // an open that makes the entry, or empties the file
	OpWrite
	OpTruncate
	OpAllocate
	OpSync
	OpSyncDir
	OpRename
	OpLink
	OpRemove
	OpMkdir
	OpSyncFS // of everything: Name is "/"
)

var opNames = [...]string{"open", "read", "stat", "readdir", "lock", "create", "write", "truncate", "allocate",
	"sync", "syncdir", "rename", "link", "remove", "mkdir", "syncfs"}

// String returns the name in lower case, such as "syncdir".
func (k OpKind) String() string {
	if int(k) < len(opNames) {
		return opNames[k]
	}
	return fmt.Sprintf("op(%d)", uint8(k))
}

// Changes reports whether operations of this kind change what is on the disk,
// or what is known to be: the places where a crash makes a difference.
func (k OpKind) Changes() bool { return k >= OpCreate }

// A ShortWrite is for a hook to return: the write wrote its first N octets and
// then failed with Err.
type ShortWrite struct {
	N   int
	Err error
}

// Error returns the text of Err.
func (s *ShortWrite) Error() string { return s.Err.Error() }

// Unwrap returns Err.
func (s *ShortWrite) Unwrap() error { return s.Err }

// SetHook sets a function that is asked before each operation, and makes it fail
// with the error it returns: syscall.EIO, syscall.ENOSPC, a *ShortWrite, or
// ErrCrash. It runs in the goroutine of the caller with no lock held, so several
// may run at once. A Sync that fails so has lost what it was to sync.
func (m *Mem) SetHook(hook func(Op) error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.hook = hook
}

// SetDelay sets how long each operation sleeps before it is done. It sleeps with
// no lock held.
func (m *Mem) SetDelay(delay func(Op) time.Duration) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.delay = delay
}

// CrashAt returns a hook that kills the machine at the nth operation, counted
// from zero, that changes the disk. A test that runs with n = 0, 1, 2... until
// Dead is false has crashed everywhere.
func CrashAt(n int) func(Op) error {
	var mu sync.Mutex
	return func(op Op) error {
		if !op.Kind.Changes() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n--
		if n < 0 {
			return ErrCrash
		}
		return nil
	}
}

// start numbers an operation, sleeps as told, and asks the hook.
func (m *Mem) start(op Op) error {
	m.disk.mu.Lock()
	if m.dead {
		m.disk.mu.Unlock()
		return ErrCrash
	}
	op.N = m.ops
	m.ops++
	hook, delay := m.hook, m.delay
	m.disk.mu.Unlock()
	if delay != nil {
		if d := delay(op); d > 0 {
			time.Sleep(d)
		}
	}
	if hook == nil {
		return nil
	}
	err := hook(op)
	if errors.Is(err, ErrCrash) {
		m.disk.mu.Lock()
		m.dead = true
		m.disk.mu.Unlock()
	}
	return err
}
