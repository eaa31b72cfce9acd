package spool

import (
	"sync"
	"sync/atomic"
	"testing"
)

// A stop waits for every commit that has seen the spool open, or its batch would be
// neither written nor answered. Many come again and again until the stop, so that some
// are just there.
func TestStopWaitsForCommits(t *testing.T) {
	for round := range 30_000 {
		var s Spool
		var over atomic.Bool
		var late atomic.Int32
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for s.enter() {
					if over.Load() {
						late.Add(1)
					}
					s.commits.Done()
				}
			})
		}
		s.mu.Lock() // as Close does
		s.closed = true
		s.mu.Unlock()
		s.commits.Wait()
		over.Store(true)
		if all.Wait(); late.Load() > 0 {
			t.Fatalf("round %d: %d commits go on after the stop", round, late.Load())
		}
	}
}
