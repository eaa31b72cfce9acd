package vfs

import (
	"sync"
	"time"
)

// syncs are those of one thing that many change at once: one runs at a time, and
// serves all who waited for it when it began.
type syncs struct {
	do   func() error
	rest time.Duration // the longest time between two; it is as long as the last one took

	mu      sync.Mutex // guards what follows; not held while a sync runs
	failed  int
	took    time.Duration // the last one
	running *oneSync      // nil: none
	next    *oneSync      // that begins when running has ended; nil: nobody waits
}

// A oneSync is one of them. Err and failed are set when done is closed.
type oneSync struct {
	done   chan struct{}
	err    error
	failed int // how many had failed, this one counted
}

// mark returns how many have failed.
func (s *syncs) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// join waits for a sync that begins after the call, and returns how many had
// failed by its end, and its error.
func (s *syncs) join() (failed int, err error) {
	s.mu.Lock()
	before, mine := s.running, s.next
	lead := mine == nil
	if lead {
		mine = &oneSync{done: make(chan struct{})}
		s.next = mine
	}
	s.mu.Unlock()
	if lead {
		if before != nil {
			<-before.done
		}
		if rest := s.pause(); rest > 0 {
			time.Sleep(rest)
		}
		s.run(mine)
	}
	<-mine.done
	return mine.failed, mine.err
}

// pause is the time until the next one.
func (s *syncs) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(s.took, s.rest)
}

// run does one sync, when the one before has ended.
func (s *syncs) run(one *oneSync) {
	s.mu.Lock()
	s.running, s.next = one, nil // who comes now may have changed what this one does not see
	s.mu.Unlock()
	begun := time.Now()
	one.err = s.do()
	s.mu.Lock()
	s.took = time.Since(begun)
	if one.err != nil {
		s.failed++
	}
	one.failed = s.failed
	if s.running == one {
		s.running = nil
	}
	s.mu.Unlock()
	close(one.done)
}
