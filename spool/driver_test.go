package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A driver does to a spool what its random numbers say, and keeps the model of
// it. The same seed does the same operations to the disk in the same order: each
// operation first sleeps for a time that depends on what it is, so that no two
// goroutines wake at once.
type driver struct {
	rng *rand.Rand
	fs  *vfs.Mem
	s   *Spool // nil: closed

	worlds  []*world // what may be there after a crash; the last but what is in flight is the present
	now     *world   // what the spool says now
	leases  []postrider.Lease
	woke    []postrider.ID // messages whose Wake lease has ended, and may be out again after a crash
	acked   int            // events of the feed that were acknowledged, ever
	told    []string       // events that the feed has told, ever
	stand   int            // where its reader stands
	opened  uint64
	rot     []string    // segments with an octet that has rotted: the spool says so
	badSnap int         // the snapshots there had been when the newest one rotted, and two: the next is durable for sure when another comes; 0: none did
	err     error       // the first thing that was wrong
	full    atomic.Bool // the disk takes no new files
	wrote   bool        // the last life of the spool has written something
	calm    bool        // no operation of the disk is made to fail
	bare    bool        // the disk asks no hook
	slow    bool        // what only reads sleeps too, and one batch is committed at a time

	fresh  map[postrider.ID]bool  // accepted in this life of the spool
	places map[postrider.ID]int64 // where records were seen last

	mu     sync.Mutex // guards what follows
	clock  time.Time
	alarms []string
	ops    int                               // that change the disk
	all    int                               // operations
	lastOp vfs.Op                            // of those
	fault  func(n, all int, op vfs.Op) error // n is -1 for one that does not change the disk
	talk   func(format string, args ...any)  // told what is done; nil: nobody
	seen   map[string]int                    // what was done, for those who want to know
}

const feedReaderName = "log"

func newDriver(seed uint64, fsys *vfs.Mem) *driver {
	return &driver{rng: rand.New(rand.NewPCG(seed, 4)), fs: fsys, worlds: []*world{newWorld()}, now: newWorld(), opened: seed << 20,
		calm: true, seen: map[string]int{}, places: map[postrider.ID]int64{}}
}

// hook sleeps, counts, and fails as it is told.
func (d *driver) hook(op vfs.Op) error {
	if op.Kind.Changes() || d.slow {
		h := fnv.New32a()
		fmt.Fprintf(h, "%d %s %d", op.Kind, path.Base(op.Name), op.Off)
		time.Sleep(time.Microsecond + time.Duration(h.Sum32()%100_003))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := -1
	d.all++
	if op.Kind.Changes() {
		n = d.ops
		d.ops++
		d.lastOp = op
		d.seen[op.Kind.String()+" "+kindOfName(op.Name)]++
	}
	if d.full.Load() && (op.Kind == vfs.OpAllocate || op.Kind == vfs.OpCreate) {
		return errFull
	}
	if d.fault != nil {
		return d.fault(n, d.all-1, op)
	}
	return nil
}

// arm makes the disk ask the hook; once the power has come back for good, it
// does not.
func (d *driver) arm() {
	if !d.bare {
		d.fs.SetHook(d.hook)
	}
}

// kindOfName is what a file is to the spool.
func kindOfName(name string) string {
	dir, base := path.Split(name)
	if dir = path.Base(dir); dir == "seg" || dir == "big" || dir == "damaged" {
		return dir
	}
	return base
}

// wrong notes what is wrong, once. What a dead disk says is not.
func (d *driver) wrong(format string, args ...any) {
	if d.err == nil && !d.fs.Dead() {
		d.err = fmt.Errorf(format, args...)
	}
}

// over reports whether there is nothing more to do: the disk is dead, or
// something was wrong.
func (d *driver) over() bool { return d.err != nil || d.s == nil || d.fs.Dead() }

func (d *driver) time() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clock
}

// tick lets the spool come to rest, and its clock go on to where time is.
func (d *driver) tick() {
	synctest.Wait()
	d.mu.Lock()
	d.clock = time.Now()
	d.mu.Unlock()
}

func (d *driver) alarm(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alarms = append(d.alarms, text)
}

func (d *driver) options() Options {
	o := testOptions(d.fs)
	o.SegmentSize, o.SmallMax, o.Slack, o.SnapshotEvery = 6<<10, 2<<10, 2<<10, 4<<10
	d.opened++
	o.Rand = rand.New(rand.NewPCG(1, d.opened))
	o.Now = d.time
	o.Alarm = d.alarm
	return o
}

// open opens the spool and finds out in which of the possible worlds it is. It
// returns false when the disk has died, or has failed as it was told to.
func (d *driver) open(good bool) bool {
	d.tick()
	d.alarms = nil
	s, err := Open(context.Background(), d.options())
	if err != nil {
		if !d.fs.Dead() && d.calm {
			d.wrong("open: %w", err)
		}
		d.leaks("a start that failed")
		return false
	}
	d.s = s
	how := &manner{now: d.time(), acked: d.acked, good: good && d.calm, waking: d.wakingBefore()}
	if how.good = how.good && d.wrote; how.good {
		how.acked = d.stand
	}
	d.leases, d.woke, d.fresh = nil, nil, map[postrider.ID]bool{}
	d.tick() // a spool at rest: what it says in the background is part of it
	d.fs.SetHook(nil)
	d.settleWorld(how)
	d.arm()
	s.mu.Lock()
	s.reader(feedReaderName) // who reads the feed does so from the start
	s.mu.Unlock()
	if d.opened%3 > 0 { // and what it reads may be in memory, in part, for another reader's sake
		s.recent.most = 2 << (d.opened % 5)
		s.recent.join(&follower{s: s})
	}
	s.Rekey(destOf)
	return d.err == nil && !d.fs.Dead()
}

// settleWorld compares what is there with each world that could be.
func (d *driver) settleWorld(how *manner) {
	d.mu.Lock()
	alarms := slices.Clone(d.alarms)
	d.mu.Unlock()
	for _, a := range alarms {
		told := slices.ContainsFunc(d.rot, func(g string) bool { return strings.Contains(a, g+" is damaged") }) || d.badSnap > 0 && strings.Contains(a, "the snapshot of the index cannot be used")
		if d.calm && !told {
			d.wrong("false alarm: %q", a)
		}
	}
	f, err := look(d.s, feedReaderName)
	if err != nil {
		d.wrong("%w", err)
		return
	}
	why := ""
	for _, w := range slices.Backward(d.worlds) {
		diff := w.differs(f, how)
		if n := min(len(d.told), len(w.events)); diff == "" && !slices.Equal(d.told, w.events[:n]) {
			diff = fmt.Sprintf("the feed had told %q, and that did not come to pass", d.told[max(0, n-1):])
		}
		if diff == "" {
			d.now = w.restarted()
			for id, m := range d.now.msgs {
				m.wake = f.wakes[id]
			}
			d.worlds = []*world{d.now}
			d.stand = len(w.events) - len(f.events)
			return
		}
		why += "\n" + diff
	}
	d.wrong("none of %d possible worlds: %s", len(d.worlds), why)
}

// close stops the spool in good order.
func (d *driver) close() {
	if d.s == nil {
		return
	}
	d.tick()
	d.s.Close(context.Background())
	d.wrote = d.s.active != nil
	d.s = nil
	d.leaks("a stop")
}

// leaks sees to it that no file is left open.
func (d *driver) leaks(after string) {
	if n := d.fs.Opened(); n > 0 {
		d.wrong("%d files are open after %s", n, after)
	}
}

// waking returns the messages with a Wake lease out.
func (d *driver) waking() map[postrider.ID]bool {
	all := map[postrider.ID]bool{}
	for _, l := range d.leases {
		if l.Why == postrider.Wake {
			all[l.ID] = true
		}
	}
	return all
}

// wakingBefore returns those of which a Wake lease was out in one of the worlds.
func (d *driver) wakingBefore() map[postrider.ID]bool {
	all := d.waking()
	for _, id := range d.woke {
		all[id] = true
	}
	return all
}

// underWay returns the recipients of a message that are leased.
func (d *driver) underWay(id postrider.ID) (rcpts []int) {
	for _, l := range d.leases {
		if l.ID == id {
			rcpts = append(rcpts, l.Rcpts...)
		}
	}
	return rcpts
}

// commit commits acts, all but the first while that is being written, and keeps
// the model. It returns what became of each.
func (d *driver) commit(acts ...*act) []error {
	waking := d.waking()
	base, chain := d.now, []*world(nil)
	for _, a := range acts {
		a.waking = waking
		a.leased = map[postrider.ID][]int{}
		for _, am := range a.batch.Amend {
			a.leased[am.ID] = d.underWay(am.ID)
		}
		base = base.after(a)
		chain = append(chain, base)
	}
	before := d.worlds
	d.worlds = append(before[:len(before):len(before)], chain...)
	errs := make([]error, len(acts))
	var wg sync.WaitGroup
	for i, a := range acts {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Nanosecond)
			errs[i] = d.s.Commit(context.Background(), a.batch)
		})
	}
	wg.Wait()
	if d.talk != nil {
		for i, a := range acts {
			d.talk("operation %d: %s: %v", d.ops, a, errs[i])
		}
	}
	if !d.fs.Dead() {
		d.learn(before, chain, acts, errs)
	}
	return errs
}

// learn makes the model what the answers say.
func (d *driver) learn(before, chain []*world, acts []*act, errs []error) {
	sure := -1
	for i, err := range errs {
		if err == nil && !acts[i].batch.Lazy {
			sure = i
		}
		if err != nil && d.calm && !d.full.Load() && !errors.Is(err, postrider.ErrLeaseLost) {
			d.wrong("commit: %w", err)
		}
	}
	worlds := before
	failed := false
	for i, err := range errs {
		switch next := d.now.after(acts[i]); {
		case err != nil:
			failed = true
			if !errors.Is(err, postrider.ErrLeaseLost) {
				worlds = append(worlds, next, chain[i])
			}
		case i <= sure:
			for _, add := range acts[i].batch.Add {
				d.fresh[add.Message.ID] = true
			}
			d.now, worlds = next, []*world{next}
		default:
			d.now = next
			worlds = append(worlds[:len(worlds):len(worlds)], next)
		}
		if failed {
			worlds = append(worlds[:len(worlds):len(worlds)], chain[i])
		}
	}
	if d.worlds = worlds; len(worlds) == 1 {
		d.woke = nil
	}
	d.leases = slices.DeleteFunc(d.leases, func(l postrider.Lease) bool {
		for i, err := range errs {
			for _, set := range acts[i].batch.Settle {
				if set.Lease.Token == l.Token && (err == nil || errors.Is(err, postrider.ErrLeaseLost)) {
					if l.Why == postrider.Wake && len(worlds) > 1 {
						d.woke = append(d.woke, l.ID)
					}
					return true
				}
			}
		}
		return d.now.msgs[l.ID] == nil
	})
}

// draft makes the addition of a new message. It returns nil when the disk
// refused its content.
func (d *driver) draft(size int, from smtp.Path, to ...string) *act {
	dr, err := d.s.Create(context.Background(), "")
	if err != nil {
		return nil
	}
	body := bytes.Repeat([]byte(fmt.Sprintf("%07d\r\n", d.rng.IntN(1e7))), size/9+1)
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1500)
		if _, err := dr.Write(rest[:n]); err != nil {
			if !d.fs.Dead() && d.calm && !d.full.Load() {
				d.wrong("write of a draft: %w", err)
			}
			dr.Discard()
			return nil
		}
		rest = rest[n:]
	}
	now := d.time()
	head := []byte("Received: " + strings.Repeat("x", d.rng.IntN(80)) + "\r\n")
	m := &postrider.Message{ID: dr.ID(), From: from, EnvID: fmt.Sprint("env", d.rng.IntN(9)), Arrived: now, EightBit: size%2 == 0, UTF8: size%3 == 0,
		HeaderID: fmt.Sprint(d.rng.IntN(9), "@example.org"), Size: int64(len(head) + len(body)), Automatic: size%5 == 0,
		Source: postrider.Source{Listener: "mx", Hello: "client.example", Protocol: "ESMTP", TLS: "TLS 1.3"}}
	for i, r := range to {
		m.Recipients = append(m.Recipients, postrider.Recipient{To: addr(r), Due: now.Add(time.Duration(i%2) * time.Minute), Notify: smtp.NotifyFailure, ORcpt: "rfc822;x"})
	}
	wake := now.Add(time.Duration(1+d.rng.IntN(300)) * time.Minute)
	return &act{at: now.UnixNano(), body: body, batch: postrider.Batch{Add: []postrider.Addition{{Draft: dr, Message: m, Head: head, Wake: wake}}}}
}

// let discards the draft of an act that was refused.
func (d *driver) let(a *act, err error) {
	if err != nil && len(a.batch.Add) > 0 {
		a.batch.Add[0].Draft.Discard()
	}
}

// sleep lets time go by. A driver runs in a bubble of synctest.
func (d *driver) sleep(t time.Duration) { time.Sleep(t) }

// settled is called when more time has gone by than anything may stay lazy.
func (d *driver) settled() {
	if d.tick(); d.calm && !d.full.Load() && !d.over() {
		d.worlds = []*world{d.now}
	}
}

// claim leases what is due now; false: nothing is.
func (d *driver) claim() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	l, err := d.s.Claim(ctx, 1+d.rng.IntN(3))
	if err != nil {
		return false
	}
	d.leases = append(d.leases, l)
	return true
}
