package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

const (
	// paceMin is the least time between two syncs, unless there is much to write: one
	// sync then serves what came meanwhile. Of the spool's disk they take one part in
	// paceShare, or as little as a sync each paceMax.
	paceMin   = 50 * time.Millisecond
	paceMax   = time.Second
	paceShare = 40
	// gather is how long an event waits for those that come with it.
	gather = 5 * time.Millisecond
	// manyEvents is much to write.
	manyEvents = 2048
	// writeMax is how many octets are written at once.
	writeMax = 256 << 10
	// recentMany is of how many events the places are forgotten one by one, as a new
	// table is cheaper than to empty a large one.
	recentMany = 4096
	// tidyEvery is how often the age of the files is looked at.
	tidyEvery = time.Hour
	// A write that failed is tried again after retryMin, and then less often.
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
	// tailMax is how many events a read-only journal keeps of what was not written.
	tailMax = 1 << 20
)

// Run writes what a feed yields, and what is refused, until the feed or ctx ends;
// the feed must end with ctx. To ask for the next batch acknowledges the one
// before, which is synced by then: a power cut loses no event that the feed will
// not tell again. A batch holds all events of an LSN, or none, and is the feed's own.
//
// A disk that does not take the events is tried again, and the feed waits.
//
// The error is that of the feed; none when it was closed, or when ctx ended. A
// read-only journal keeps what is new to it in memory, for Where.
func (j *Journal) Run(ctx context.Context, feed iter.Seq2[[]postrider.Event, error]) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	batches, acks := make(chan []postrider.Event), make(chan struct{})
	var failed error
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(batches)
		for evs, err := range feed {
			if err != nil {
				failed = err
				return
			}
			select {
			case batches <- evs:
			case <-ctx.Done():
				return
			}
			select {
			case <-acks:
			case <-ctx.Done():
				return
			}
		}
	})
	err := j.follow(ctx, batches, acks)
	cancel()
	reader.Wait()
	if err == nil {
		err = failed
	}
	if errors.Is(err, postrider.ErrClosed) || outer.Err() != nil {
		return nil
	}
	return err
}

// follow writes until the batches or ctx end.
func (j *Journal) follow(ctx context.Context, batches <-chan []postrider.Event, acks chan<- struct{}) error {
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	var order counter
	j.expire()
	for {
		var todo, refused []numbered
		// What is fed goes first where both are there, and chance has no part in what a
		// stop finds written.
		evs, fed, over := offered(batches)
		if !fed && !over {
			select {
			case evs, fed = <-batches:
				over = !fed
			case ev := <-j.refused:
				refused = append(refused, numbered{ev: ev})
			case <-tidy.C:
				j.expire()
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// What comes together is worth one sync: the refusals of a pipelined group,
		// and what is fed meanwhile.
		if !over && len(evs) < manyEvents {
			sleep(ctx, gather)
		}
		if !fed && !over {
			evs, fed, over = offered(batches)
		}
		if over {
			return j.write(ctx, j.withRefused(refused))
		}
		for i := range evs {
			n := numbered{order.next(evs[i].LSN), &evs[i]}
			if !j.knows(n) {
				todo = append(todo, n)
			}
		}
		many := len(evs) >= manyEvents
		if err := j.write(ctx, j.withRefused(append(todo, refused...))); err != nil {
			return err
		}
		if !many && !j.opt.ReadOnly && !sleep(ctx, j.pace()) {
			return ctx.Err()
		}
		if fed {
			select {
			case acks <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// offered takes the batch that is there; over: no more will come.
func offered(batches <-chan []postrider.Event) (evs []postrider.Event, fed, over bool) {
	select {
	case evs, fed = <-batches:
		return evs, fed, !fed
	default:
		return nil, false, false
	}
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A numbered is an event with its place in the feed.
type numbered struct {
	seq
	ev *postrider.Event
}

// A counter gives the events of an LSN their ordinals.
type counter struct{ last seq }

func (c *counter) next(lsn uint64) seq {
	if c.last.lsn == lsn {
		c.last.n++
	} else {
		c.last = seq{lsn, 0}
	}
	return c.last
}

// knows reports whether an event is in the last file already.
func (j *Journal) knows(n numbered) bool {
	print, there := j.recent[n.seq]
	return there && print == fingerprint(n.ev)
}

// withRefused appends the refusals that wait.
func (j *Journal) withRefused(todo []numbered) []numbered {
	for range refusedMax {
		select {
		case ev := <-j.refused:
			todo = append(todo, numbered{ev: ev})
		default:
			return todo
		}
	}
	return todo
}

// write makes events durable, however long that takes; an error is that of ctx.
func (j *Journal) write(ctx context.Context, todo []numbered) error {
	if len(todo) == 0 {
		return nil
	}
	if j.opt.ReadOnly {
		j.remember(todo)
		return nil
	}
	over := todo[0].lsn > j.last || len(j.recent) > 1<<20 // what is in recent is not told again
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		n, err := j.append(todo)
		if over && n > 0 {
			j.forget()
			over = false
		}
		j.learn(todo[:n])
		todo = todo[n:]
		if err == nil {
			if wait > retryMin {
				j.alarm("it is written again")
			}
			return nil
		}
		if wait == retryMin {
			j.alarm("what became of messages cannot be written, and is tried again: %v", err)
		}
		j.giveUp()
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// learn keeps the places of events that are durable.
func (j *Journal) learn(done []numbered) {
	for _, n := range done {
		if n.lsn != 0 {
			j.recent[n.seq] = fingerprint(n.ev)
			j.last = max(j.last, n.lsn)
		}
	}
}

// forget drops the places of the events that were written.
func (j *Journal) forget() {
	if len(j.recent) > recentMany {
		j.recent = map[seq]uint64{}
	}
	clear(j.recent)
}

// freshMax is how many entries a buffer may have room for and be kept.
const freshMax = 4096

// pace is how long the next sync has time.
func (j *Journal) pace() time.Duration { return min(max(paceMin, (paceShare-1)*j.took), paceMax) }

// append writes events and syncs them, and returns how many of them, from the first
// on, are durable: after an error too, and the others do not count then.
func (j *Journal) append(todo []numbered) (done int, _ error) {
	fresh := j.fresh[:0]
	defer func() {
		if j.fresh = fresh[:0]; cap(fresh) > freshMax {
			j.fresh = nil
		}
		if cap(j.buf) > 2*writeMax {
			j.buf = nil
		}
	}()
	all := len(todo)
	var payload []byte
	for len(todo) > 0 {
		if err := j.ready(); err != nil {
			return done, err
		}
		j.buf = j.buf[:0]
		for len(todo) > 0 && len(j.buf) < writeMax {
			payload = appendEvent(payload[:0], todo[0].ev)
			if len(payload) > payloadMax {
				return done, fmt.Errorf("an event of %d octets", len(payload))
			}
			fresh = appendEntries(fresh, todo[0].ev, j.size+int64(len(j.buf)))
			j.buf = appendRecord(j.buf, todo[0].seq, j.synced, payload)
			todo = todo[1:]
		}
		if _, err := j.f.WriteAt(j.buf, j.size); err != nil {
			return done, err
		}
		j.size += int64(len(j.buf))
		if len(todo) > 0 && j.size < j.opt.PartSize {
			continue
		}
		began := time.Now()
		if err := j.f.Sync(); err != nil {
			return done, err
		}
		j.synced, j.took = j.size, time.Since(began)
		j.mu.Lock()
		j.entries.add(fresh)
		j.files[len(j.files)-1].size = j.size
		j.mu.Unlock()
		fresh, done = fresh[:0], all-len(todo)
	}
	return done, nil
}

// ready sees to a file that may grow: that of today, or one of a later day where
// the clock went back.
func (j *Journal) ready() error {
	today := dayFile{day: j.opt.Now().UTC().Format(dayLayout)}
	j.mu.Lock()
	if n := len(j.files); n > 0 && today.day <= j.files[n-1].day {
		today = dayFile{day: j.files[n-1].day, part: j.files[n-1].part + 1}
	}
	j.mu.Unlock()
	// What is not durable yet is so before its file is left, though its day be over.
	if j.f != nil && (j.size > j.synced || today.part > 0 && j.size < j.opt.PartSize) {
		return nil
	}
	j.finish()
	f, err := vfs.CreateAnew(j.opt.FS, j.dataName(today), 0o600)
	if err != nil {
		return err
	}
	if err := j.opt.FS.SyncDir(j.opt.Dir); err != nil {
		return errors.Join(err, f.Close(), j.opt.FS.Remove(j.dataName(today)))
	}
	j.f, j.size, j.synced = f, 0, 0
	j.mu.Lock()
	j.files, j.live, j.entries = append(j.files, today), true, entries{}
	j.mu.Unlock()
	j.expire()
	return nil
}

// finish closes a file that is full, and writes its index.
func (j *Journal) finish() {
	if j.f == nil {
		return
	}
	j.f.Close()
	j.f = nil
	j.mu.Lock()
	d, all := j.files[len(j.files)-1], j.entries
	j.mu.Unlock()
	if err := j.writeIndex(d, &all); err != nil {
		j.alarm("%v", err) // a query makes it
	}
}

// giveUp leaves a file that a write or a sync has failed on: nothing is known of
// it beyond what was synced before.
func (j *Journal) giveUp() {
	if j.f == nil {
		return
	}
	j.f.Truncate(j.synced) // what stays is torn, or there twice
	j.f.Close()
	j.f = nil
	if j.synced > 0 {
		return
	}
	j.mu.Lock()
	d := j.files[len(j.files)-1]
	j.files, j.live, j.entries = j.files[:len(j.files)-1:len(j.files)-1], false, entries{}
	j.mu.Unlock()
	j.opt.FS.Remove(j.dataName(d))
}

// remember keeps events that Run does not write.
func (j *Journal) remember(todo []numbered) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range todo {
		if len(j.tail) < tailMax {
			ev := *n.ev // whose place is the feed's
			j.tail = append(j.tail, numbered{n.seq, &ev})
		}
	}
}

// expire removes the files that are too old, and the oldest while all together
// are too large; never the last.
func (j *Journal) expire() {
	if j.opt.ReadOnly {
		return
	}
	oldest := j.opt.Now().Add(-j.opt.Keep).UTC().Format(dayLayout)
	j.mu.Lock()
	var total int64
	for _, d := range j.files {
		total += d.size + d.idx
	}
	n := 0
	for n < len(j.files)-1 && (j.files[n].day < oldest || total > j.opt.MaxSize) {
		total -= j.files[n].size + j.files[n].idx
		n++
	}
	gone := j.files[:n]
	j.files = j.files[n:]
	j.mu.Unlock()
	for i, d := range gone {
		if err := j.opt.FS.Remove(j.dataName(d)); err != nil {
			j.alarm("remove a day that is over: %v", err)
			j.mu.Lock()
			j.files = slices.Concat(gone[i:], j.files) // they count until they are gone
			j.mu.Unlock()
			return
		}
		j.opt.FS.Remove(j.indexName(d)) // there may be none
	}
}
