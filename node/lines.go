package node

import (
	"io"
	"sync"
)

// linesMax is how many octets of a log wait to be written, beyond which they are
// written though more are on their way.
const linesMax = 64 << 10

// Lines is a log whose lines are written at once where many come at once: those
// of a batch of the feed. It is the writer of the handler of Env.Log, and may be
// used by several goroutines.
type Lines struct {
	out     io.Writer
	writing chan struct{} // holds one token: who has it writes

	mu    sync.Mutex // guards what follows; not held while something is written
	buf   []byte
	spare []byte
	held  int
}

// NewLines returns a Lines that writes to out.
func NewLines(out io.Writer) *Lines {
	return &Lines{out: out, writing: make(chan struct{}, 1)}
}

// Write takes whole lines. They are written before it returns, unless they are held.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.buf = append(l.buf, p...)
	wait := l.held > 0 && len(l.buf) < linesMax
	l.mu.Unlock()
	if wait {
		return len(p), nil
	}
	return len(p), l.flush()
}

// Hold lets lines gather until Release.
func (l *Lines) Hold() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.held++
	l.mu.Unlock()
}

// Release is called once for each Hold, and writes what has gathered.
func (l *Lines) Release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.held--
	l.mu.Unlock()
	l.flush() // as with every line of a log, an error is nobody's
}

// flush writes what is there, in order.
func (l *Lines) flush() error {
	l.writing <- struct{}{}
	defer func() { <-l.writing }()
	l.mu.Lock()
	out := l.buf
	l.buf, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	var err error
	if len(out) > 0 {
		_, err = l.out.Write(out)
	}
	if cap(out) <= 2*linesMax {
		l.mu.Lock()
		l.spare = out
		l.mu.Unlock()
	}
	return err
}
