package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Sink takes all mail, and counts it. Its fields are not changed while it
// serves. All shares are of messages, by chance that depends on Seed and on how
// many messages came before.
type Sink struct {
	// Keep is told of each message and returns where its content goes; nil: nowhere.
	Keep    func() (io.WriteCloser, error)
	Latency time.Duration // between the end of a content and its reply
	Slow    int           // octets of content a second that are read from each connection; 0: all at once
	Refuse  float64       // share that hears 451 to RCPT
	Reset   float64       // share whose connection is reset in the middle of the content
	Lost    float64       // share that is taken, and whose connection is reset instead of a reply
	Silent  float64       // share in the middle of whose content the sink falls silent, for Silence
	Silence time.Duration // 0: until the client leaves
	Seed    uint64
	// Track counts which of so many numbers came, the digits before the "@" of the
	// reverse-path; 0: none.
	Track int

	// Full is called when so many messages were taken as Limit says.
	Limit int64
	Full  func()

	over    chan struct{} // closed when Serve ends
	arrived atomic.Int64  // messages that were taken
	chunked atomic.Int64  // of them by BDAT
	conns   atomic.Int64
	turns   atomic.Int64 // messages begun, for what chance decides
	bufs    sync.Pool    // of *buffers, those of connections that have ended

	mu     sync.Mutex
	tally  Tally
	times  Histogram
	first  time.Time
	last   time.Time
	open   map[net.Conn]bool // nil: not yet, or over
	peak   int               // connections at a time, at most
	seen   []uint64          // a bit for each number
	unique int
}

// Arrived is how many messages were taken.
func (s *Sink) Arrived() int64 { return s.arrived.Load() }

// Conns is how many connections were made.
func (s *Sink) Conns() int64 { return s.conns.Load() }

// Peak is how many connections there were at a time, since it was asked last.
func (s *Sink) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	peak := s.peak
	s.peak = len(s.open)
	return peak
}

// Unique is how many different numbers came of those that Track asks for.
func (s *Sink) Unique() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unique
}

// Tally returns what was taken so far.
func (s *Sink) Tally() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally
	t.Replies = maps.Clone(t.Replies)
	t.Seconds = s.last.Sub(s.first).Seconds()
	t.P50, t.P99 = s.times.Quantile(0.50), s.times.Quantile(0.99)
	return t
}

// Serve takes connections until ctx ends. Then it closes the listener, says 421 on
// the connections, breaks off what contents are under way, and returns when
// nothing of it goes on. It is called once.
func (s *Sink) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	s.open, s.over = map[net.Conn]bool{}, make(chan struct{})
	if s.Track > 0 && s.seen == nil {
		s.seen = make([]uint64, s.Track/64+1)
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { s.shut(l) })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer s.shut(l)
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if c != nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("load: sink: %w", err)
		case err != nil: // too many files are open: others end
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		s.conns.Add(1)
		if !s.enter(c) {
			c.Close()
			continue
		}
		all.Go(func() { s.serve(c) })
	}
}

func (s *Sink) shut(l net.Listener) {
	l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return
	}
	for c := range s.open {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // it reads no more, and says goodbye
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	}
	s.open = nil
	close(s.over)
}

// wait is a pause that the end of the sink cuts short.
func (s *Sink) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.over:
	}
}

func (s *Sink) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[c] = true
	s.peak = max(s.peak, len(s.open))
	return true
}

func (s *Sink) leave(c *guest) {
	c.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c.conn)
	s.bufs.Put(c.buffers)
}

func (s *Sink) failed(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.fail(what, 1)
}

// took counts a message that came whole.
func (s *Sink) took(octets int64, began, ended time.Time, number int) {
	s.count(octets, began, ended, number)
	if s.arrived.Add(1) == s.Limit && s.Full != nil {
		s.Full()
	}
}

func (s *Sink) count(octets int64, began, ended time.Time, number int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() {
		s.first = began
	}
	s.last = ended
	s.tally.Messages++
	s.tally.Bytes += octets
	s.times.Add(ended.Sub(began))
	if number < 0 || number >= s.Track {
		return
	}
	if bit := uint64(1) << (number % 64); s.seen[number/64]&bit == 0 {
		s.seen[number/64] |= bit
		s.unique++
	}
}

// A mishap is what becomes of a message.
type mishap int

const (
	none mishap = iota
	refused
	reset
	lost
	silent
)

// fate decides what becomes of the next message.
func (s *Sink) fate() mishap {
	n := uint64(s.turns.Add(1))
	if s.Refuse+s.Reset+s.Lost+s.Silent == 0 {
		return none
	}
	x := chance(s.Seed, n)
	for _, f := range []struct {
		share float64
		what  mishap
	}{{s.Refuse, refused}, {s.Reset, reset}, {s.Lost, lost}, {s.Silent, silent}} {
		if x < f.share {
			return f.what
		}
		x -= f.share
	}
	return none
}
