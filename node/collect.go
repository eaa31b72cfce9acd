package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// How much garbage there may be before it is collected: where little lives percentMost
// of that, which is a tenth less work for a relay than the runtime's 100, and 7 MiB more;
// where more lives, no more than garbageRoom, but half of what lives. The memory of a
// large server is mostly the index of what waits, which costs next to nothing to go
// through.
const (
	garbageRoom  = 16 << 20 // octets
	percentLeast = 50       // of what lives
	percentMost  = 160      // of what lives
)

// garbagePercent is what GOGC is to be where so many octets live.
func garbagePercent(live uint64) int {
	return int(min(max(garbageRoom*100/max(live, 1), percentLeast), percentMost))
}

// Where a crowd has come and gone, or sits still, nothing asks for the next collection,
// and what it left stays. So where next to nothing is asked for in restTime, and there
// may be much garbage, it is collected and given back.
const (
	restTime    = 500 * time.Millisecond
	restAllocs  = 128 << 10 // octets in restTime: next to nothing
	restGarbage = 2 << 20   // octets, and an eighth of what lives: much; also of stacks, which are found free only then
)

// A collector sets GOGC after each collection by what was found to live.
type collector struct {
	mu      sync.Mutex
	off     bool
	percent int
}

// counts are what the runtime counts, in octets.
type counts struct{ allocs, live, stacks uint64 }

func readCounts() (n counts, ok bool) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	for i, to := range []*uint64{&n.allocs, &n.live, &n.stacks} {
		if s[i].Value.Kind() != metrics.KindUint64 {
			return counts{}, false
		}
		*to = s[i].Value.Uint64()
	}
	return n, true
}

// A cycle dies with each collection.
type cycle struct{ c *collector }

// TakeGarbage makes the runtime collect by what lives, and returns a function that
// ends that. Where GOGC is set in the environment that stays. It is for a program
// with one node.
func TakeGarbage() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	c := &collector{percent: percentMost}
	was := debug.SetGCPercent(c.percent)
	c.watch()
	ticks, done := time.NewTicker(restTime), make(chan struct{})
	go rest(ticks.C, done)
	return func() {
		ticks.Stop()
		close(done)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.off = true
		debug.SetGCPercent(was)
	}
}

// watch waits for the end of the next collection.
func (c *collector) watch() {
	runtime.SetFinalizer(&cycle{c}, func(*cycle) {
		if c.adjust() {
			c.watch()
		}
	})
}

// adjust sets the percentage if it is more than a quarter off, for that stops the
// program for a moment. It reports whether to go on.
func (c *collector) adjust() bool {
	now, ok := readCounts()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off || !ok {
		return false
	}
	want := garbagePercent(now.live)
	if off := want - c.percent; off > c.percent/4 || off < -c.percent/4 {
		c.percent = want
		debug.SetGCPercent(want)
	}
	return true
}

// rest collects what a crowd has left, at a tick after one at which little was asked
// for. What the runtime has collected by itself meanwhile does not count: that was
// while the crowd was there.
func rest(ticks <-chan time.Time, done <-chan struct{}) {
	collected, _ := readCounts()
	last := collected
	for {
		select {
		case <-done:
			return
		case <-ticks:
		}
		now, _ := readCounts()
		if worthCollecting(collected, last, now) {
			debug.FreeOSMemory()
			now, _ = readCounts()
			collected = now
		}
		last = now
	}
}

func worthCollecting(collected, last, now counts) bool {
	return now.allocs-last.allocs < restAllocs &&
		(now.allocs-collected.allocs > max(restGarbage, now.live/8) || now.stacks > collected.stacks+restGarbage)
}
