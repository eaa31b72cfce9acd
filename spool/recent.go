package spool

import (
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/postrider/postrider"
)

// A recent is what the log has been told lately, for the readers of the feed: in the
// order of the log, as events, so that whoever keeps up reads and decodes nothing
// that was in memory a moment ago. Whoever falls behind what is kept reads the log.
//
// It is a ring, with two LSNs. Of every record after from that was written since,
// the events are in it; those up to synced may be told.
type recent struct {
	mu      sync.Mutex // never held across anything else
	most    int        // events that are kept
	ring    []postrider.Event
	first   int // of ring
	n       int
	from    uint64
	synced  uint64
	seg     *segment // with the record synced
	behind  int64    // where it ends
	readers []*follower
}

// Bounds of what is kept of the log for the readers of the feed.
const (
	recentMost = 2048    // events: about 1 MiB
	recentMeta = 1 << 10 // octets of the meta of a record that has events here: of a longer one they are read from the log
	recentIdle = 64      // events that there is room for while nobody reads
	recentOnce = 512     // events that are given out at once
)

// begin says where the log ends that was found.
func (c *recent) begin(end uint64) {
	c.most, c.from, c.synced = recentMost, end, end
}

// join adds a reader; what comes from now on is kept for it.
func (c *recent) join(f *follower) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers = append(c.readers, f)
}

// leave takes a reader away. What was kept for it alone goes.
func (c *recent) leave(f *follower) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers = slices.DeleteFunc(c.readers, func(r *follower) bool { return r == f })
	c.release()
}

// hear takes what a group says whose first record has the LSN next. It is not
// durable yet.
func (c *recent) hear(next uint64, items []*item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.readers) == 0 {
		c.clear(next + uint64(len(items)))
		return
	}
	for i, it := range items {
		lsn := next + uint64(i)
		switch {
		case it.kind == kindAccept && len(it.meta) <= recentMeta:
			it.add.tell(lsn, c.place)
		case it.kind == kindState && len(it.meta) <= recentMeta && !it.again:
			it.state.tell(lsn, c.place)
		case it.kind == kindMove || it.kind == kindCursor: // tells nothing
		default: // rare, or long, or its author may have changed what it was made of
			c.clear(lsn)
		}
	}
}

// place returns the place of the next event. Where there is no room the oldest
// record goes.
func (c *recent) place() *postrider.Event {
	if c.n == c.most {
		c.drop(c.at(0).LSN)
	}
	if c.n == len(c.ring) {
		ring := make([]postrider.Event, max(recentIdle, 2*len(c.ring)))
		copy(ring[copy(ring, c.ring[c.first:]):], c.ring[:c.first])
		c.ring, c.first = ring, 0
	}
	c.n++
	return c.at(c.n - 1)
}

// at is event number i of the ring, whose length is a power of two.
func (c *recent) at(i int) *postrider.Event { return &c.ring[(c.first+i)&(len(c.ring)-1)] }

// drop forgets the events of records up to an LSN.
func (c *recent) drop(lsn uint64) {
	for c.n > 0 && c.at(0).LSN <= lsn {
		*c.at(0) = postrider.Event{}
		c.first, c.n = (c.first+1)&(len(c.ring)-1), c.n-1
	}
	c.from = max(c.from, lsn)
}

// clear forgets all events, of records up to an LSN.
func (c *recent) clear(lsn uint64) {
	if c.from = max(c.from, lsn); c.n > 0 {
		clear(c.ring)
		c.first, c.n = 0, 0
	}
}

// release forgets what every reader has.
func (c *recent) release() {
	if len(c.readers) == 0 {
		if c.n > 0 {
			c.from = max(c.from, c.at(c.n-1).LSN)
		}
		c.ring, c.first, c.n = nil, 0, 0
		return
	}
	least := uint64(math.MaxUint64)
	for _, f := range c.readers {
		least = min(least, f.read)
	}
	c.drop(least)
}

// rest gives the memory back that a lull does not need.
func (c *recent) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 && len(c.ring) > recentIdle {
		c.ring, c.first = nil, 0
	}
}

// durable makes known up to where the log is durable, and where that ends.
func (c *recent) durable(lsn uint64, g *segment, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced, c.seg, c.behind = lsn, g, end
}

// end tells nothing from now on.
func (c *recent) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear(math.MaxUint64)
}

// abandon forgets what was written and is not durable: it is void, or comes again.
func (c *recent) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.n > 0 && c.at(c.n-1).LSN > c.synced {
		*c.at(c.n - 1) = postrider.Event{}
		c.n--
	}
}

// recall appends to batch what a reader has not read: events of whole records, at
// least so many of them unless there are no more, or a part of that. It returns
// false when there is nothing for the reader here.
func (c *recent) recall(f *follower, batch []postrider.Event, most int) ([]postrider.Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.read < c.from || f.read >= c.synced {
		return batch, false
	}
	most = min(most, len(batch)+recentOnce)
	read, last := c.synced, uint64(0)
	if most > len(batch) {
		batch = slices.Grow(batch, min(c.n, most-len(batch)))
	}
	for i := sort.Search(c.n, func(i int) bool { return c.at(i).LSN > f.read }); i < c.n; i++ {
		ev := c.at(i)
		if ev.LSN > c.synced {
			break
		}
		if len(batch) >= most && ev.LSN != last {
			read = last
			break
		}
		batch = append(batch, *ev)
		last = ev.LSN
	}
	if f.read = read; read == c.synced { // from here on it would read the log
		f.seg, f.off, f.lsn = c.seg, c.behind, read+1
	}
	c.release()
	return batch, true
}

// covers reports whether what is durable beyond read is here, and there is some.
func (c *recent) covers(read uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return read >= c.from && read < c.synced
}
