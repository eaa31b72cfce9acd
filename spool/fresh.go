package spool

import (
	"sync"
	"time"
)

// A fresh is what was accepted a moment ago, as it went into the log, so that who
// delivers it at once reads nothing from there. It is for messages that are durable:
// nothing is kept before its 250. Each goes with the end of its message. Where there is
// no room the newest are not kept, for those before them are delivered first; but what
// has been there for long, as nobody wants it yet, goes. What is not there is read from
// the log.
type fresh struct {
	mu   sync.Mutex // never held across anything else
	size int        // octets that are kept
	all  map[location]*freshOne
	line []*freshOne // oldest first; some are not kept any more
	pool *sync.Pool  // of the bodies: Spool.bufs
}

// A freshOne is one message.
type freshOne struct {
	at         location // of its record; it is there only once
	meta, body []byte
	since      time.Time
	users      int  // open contents
	kept       bool // it is in fresh.all
}

// Bounds of what is kept.
const (
	freshMost = 1 << 20 // octets, of their buffers
	freshMany = 1024    // messages
	freshFor  = time.Second
)

func (f *fresh) begin(pool *sync.Pool) {
	f.all, f.pool = map[location]*freshOne{}, pool
}

// keep takes the buffer of a message that has just become durable from its draft.
func (f *fresh) keep(it *item) {
	d := it.draft
	if d == nil || cap(d.buf) == 0 || cap(d.buf) > draftMost || len(it.meta) > draftMost {
		return // it has a file, or is empty, or is too large to be one of many
	}
	one := &freshOne{at: it.at, meta: it.meta, body: d.buf, since: time.Now(), kept: true}
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.line) > 0 && (!f.line[0].kept || one.since.Sub(f.line[0].since) >= freshFor) {
		f.drop(f.line[0])
		f.line[0] = nil
		f.line = f.line[1:]
	}
	if f.size+one.size() > freshMost || len(f.line) == freshMany {
		return
	}
	d.lent = true
	f.all[one.at] = one
	f.line = append(f.line, one)
	f.size += one.size()
}

func (one *freshOne) size() int { return len(one.meta) + cap(one.body) }

// drop ends the keeping of a message. The lock is held.
func (f *fresh) drop(one *freshOne) {
	if !one.kept {
		return
	}
	one.kept = false
	delete(f.all, one.at)
	f.size -= one.size()
	f.free(one)
}

// free lets the buffer go to another draft when nobody has it any more.
func (f *fresh) free(one *freshOne) {
	if one.kept || one.users > 0 {
		return
	}
	if b := one.body[:0]; cap(b) >= draftLeast {
		f.pool.Put(&b)
	}
	one.meta, one.body = nil, nil
}

// forget ends the keeping of the message whose record is at a place.
func (f *fresh) forget(at location) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.all[at]; one != nil {
		f.drop(one)
	}
}

// open returns the message whose record is at a place, for one who closes it; nil: it
// is not kept.
func (f *fresh) open(at location) *freshOne {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.all[at]
	if one != nil {
		one.users++
	}
	return one
}

// close ends what open began.
func (f *fresh) close(one *freshOne) {
	if one == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	one.users--
	f.free(one)
}
