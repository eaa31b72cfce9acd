package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// How much garbage there may be before it is collected: where little lives as much
// as that, which is the default; where more lives, no more than garbageRoom, but half
// of what lives. The memory of a large server is mostly the index of what waits,
// which costs next to nothing to go through.
const (
	garbageRoom  = 16 << 20 // octets
	percentLeast = 50       // of what lives
	percentMost  = 100
)

// garbagePercent is what GOGC is to be where so many octets live.
func garbagePercent(live uint64) int {
	return int(min(max(garbageRoom*100/max(live, 1), percentLeast), percentMost))
}

// A collector sets GOGC after each collection by what was found to live.
type collector struct {
	mu      sync.Mutex
	off     bool
	percent int
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
	return func() {
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
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off || live[0].Value.Kind() != metrics.KindUint64 {
		return false
	}
	want := garbagePercent(live[0].Value.Uint64())
	if off := want - c.percent; off > c.percent/4 || off < -c.percent/4 {
		c.percent = want
		debug.SetGCPercent(want)
	}
	return true
}
