package spool

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

var errFull = syscall.ENOSPC

// The steps of a driver, by name, and how often each is in a script.
var steps = []struct {
	name  string
	times int
	do    func(d *driver)
}{
	{"add", 24, (*driver).stepAdd},
	{"large", 7, (*driver).stepLarge},
	{"claim", 18, (*driver).stepClaim},
	{"settle", 36, (*driver).stepSettle},
	{"burst", 8, (*driver).stepBurst},
	{"amend", 14, (*driver).stepAmend},
	{"order", 1, (*driver).stepOrder},
	{"wait", 12, (*driver).stepWait},
	{"drain", 5, (*driver).stepDrain},
	{"feed", 7, (*driver).stepFeed},
	{"read", 4, (*driver).stepRead},
	{"discard", 2, (*driver).stepDiscard},
	{"again", 2, (*driver).stepAgain},
	{"rekey", 1, (*driver).stepRekey},
	{"restart", 2, (*driver).stepRestart},
	{"kill", 1, (*driver).stepKill},
	{"power", 2, (*driver).stepPower},
	{"full", 1, (*driver).stepFull},
	{"rot", 1, (*driver).stepRot},
}

// script does every step as often as it says, in an order of chance, and stops
// the spool.
func (d *driver) script() {
	d.arm()
	if !d.start() {
		return
	}
	d.stepFeed()
	d.stepOrder() // in a log that is short enough to be moved on
	var plan []int
	for i := range steps {
		for range steps[i].times {
			plan = append(plan, i)
		}
	}
	d.rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for _, i := range plan {
		if d.step(i); d.over() {
			break
		}
	}
	d.close()
}

// start opens the spool; on a disk that fails now and then, once more.
func (d *driver) start() bool {
	good := d.open(false)
	for range 3 {
		if good || d.err != nil || d.fs.Dead() {
			break
		}
		good = d.open(false)
	}
	return good
}

func (d *driver) step(i int) {
	d.tick()
	if !d.over() {
		d.mu.Lock()
		d.seen["step "+steps[i].name]++
		d.mu.Unlock()
		if d.talk != nil {
			d.talk("operation %d: %s", d.ops, steps[i].name)
		}
		steps[i].do(d)
	}
	if d.over() {
		return
	}
	d.tick()
	if d.seen["rename index.snap"] >= d.badSnap {
		d.badSnap = 0
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	for _, id := range d.s.names() {
		at := d.s.placeOf(id)
		if was, ok := d.places[id]; ok && was != at.off {
			d.seen["moved"]++
		}
		d.places[id] = at.off
	}
}

var domains = []string{"x.example", "y.example", "x.example", "y.example", "Z.example", "held.example"}

func (d *driver) someone() []string {
	var to []string
	for i := range 1 + d.rng.IntN(3) {
		to = append(to, fmt.Sprintf("r%d@%s", i, domains[d.rng.IntN(len(domains))]))
	}
	return to
}

func (d *driver) addOf(size int) {
	if a := d.draft(size, addr("from@example.org"), d.someone()...); a != nil {
		d.let(a, d.commit(a)[0])
	}
}

func (d *driver) stepAdd()   { d.addOf(100 + d.rng.IntN(1700)) }
func (d *driver) stepLarge() { d.addOf(2500 + d.rng.IntN(4000)) }
func (d *driver) stepClaim() { d.claim() }

// settlement ends a lease in one of the ways that a queue does; nil: there is
// none to end.
func (d *driver) settlement(mayReport bool) *act {
	if len(d.leases) == 0 && !d.claim() {
		return nil
	}
	l := d.leases[d.rng.IntN(len(d.leases))]
	m := d.now.msgs[l.ID]
	now := d.time()
	set := postrider.Settlement{Lease: l}
	a := &act{at: now.UnixNano()}
	for _, n := range l.Rcpts {
		if c, ok := d.outcome(n, &m.m.Recipients[n], l.Why); ok {
			set.Changes = append(set.Changes, c)
		}
	}
	if d.rng.IntN(3) == 0 {
		set.Wake = now.Add(time.Duration(d.rng.IntN(200)) * time.Minute)
	}
	a.batch = postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: d.rng.IntN(3) > 0}
	if mayReport && l.Why == postrider.Wake && len(set.Changes) > 0 && d.rng.IntN(2) == 0 {
		if report := d.draft(d.rng.IntN(3000), smtp.Path{}, "from@z.example"); report != nil {
			a.body, a.batch.Add, a.batch.Lazy = report.body, report.batch.Add, false
		}
	}
	return a
}

// outcome is what an attempt, or a look, comes to for one recipient.
func (d *driver) outcome(n int, r *postrider.Recipient, why postrider.Why) (postrider.Change, bool) {
	now := d.time()
	c := changeOf(n, r)
	if why == postrider.Wake {
		switch {
		case r.State != postrider.Waiting:
			c.Reported = true
		case d.rng.IntN(3) == 0:
			c.State, c.Settled, c.Reply, c.Due = postrider.Failed, now, smtp.Reply{Code: 554, Text: "too old"}, time.Time{}
		default:
			c.Delayed = true
		}
		return c, d.rng.IntN(6) > 0
	}
	c.Tries++
	c.Remote = "mx.example"
	switch k := d.rng.IntN(10); {
	case k < 5:
		c.State, c.Reported, c.Settled, c.Due = postrider.Delivered, k > 0, now, time.Time{}
		c.Reply, c.Final, c.RelayedTo = smtp.OK, k == 1, k == 2
	case k < 7:
		c.State, c.Settled, c.Due, c.Reply = postrider.Failed, now, time.Time{}, smtp.Reply{Code: 550, Text: "no"}
	case k < 9:
		c.Due, c.Reply = now.Add(time.Duration(d.rng.IntN(40))*time.Minute), smtp.Reply{Code: 451, Text: "later"}
	default:
		return c, false
	}
	return c, true
}

func (d *driver) stepSettle() {
	if a := d.settlement(true); a != nil {
		d.let(a, d.commit(a)[0])
	}
}

// stepBurst commits what is to gather in one group.
func (d *driver) stepBurst() {
	var acts []*act
	for range 3 {
		if a := d.draft(900+d.rng.IntN(1000), addr("from@example.org"), d.someone()...); a != nil {
			acts = append(acts, a)
		}
	}
	settle := d.settlement(false)
	if settle != nil {
		acts = append(acts, settle)
	}
	// Which of two comes first that concern one message would be of chance.
	if a := d.amendment(); a != nil && (settle == nil || settle.batch.Settle[0].Lease.ID != a.batch.Amend[0].ID) {
		acts = append(acts, a)
	}
	d.rng.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
	if !d.slow {
		for i, err := range d.commit(acts...) {
			d.let(acts[i], err)
		}
		return
	}
	for _, a := range acts {
		if !d.over() {
			d.let(a, d.commit(a)[0])
		}
	}
}

// anyOf returns one of the messages; empty: there is none.
func (d *driver) anyOf() postrider.ID {
	ids := make([]postrider.ID, 0, len(d.now.msgs))
	for id := range d.now.msgs {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	return ids[d.rng.IntN(len(ids))]
}

func (d *driver) amendment() *act {
	id := d.anyOf()
	if len(d.leases) > 0 && d.rng.IntN(2) == 0 {
		id = d.leases[d.rng.IntN(len(d.leases))].ID // what is under way is the harder case
	}
	if id == "" {
		return nil
	}
	am := postrider.Amendment{ID: id, Do: postrider.Amend(d.rng.IntN(int(postrider.AmendPass) + 1))}
	if d.rng.IntN(2) == 0 {
		am.Rcpts = []int{d.rng.IntN(len(d.now.msgs[id].m.Recipients))}
	}
	switch am.Do {
	case postrider.AmendDue:
		am.Due = d.time().Add(time.Duration(d.rng.IntN(20)) * time.Minute)
	case postrider.AmendBounce, postrider.AmendDrop:
		am.Reply = bounceReply
	}
	return &act{at: d.time().UnixNano(), batch: postrider.Batch{Amend: []postrider.Amendment{am}, Lazy: d.rng.IntN(4) == 0}}
}

func (d *driver) stepAmend() {
	if a := d.amendment(); a != nil {
		d.commit(a)
	}
}

func (d *driver) stepWait() {
	waits := []time.Duration{60 * time.Millisecond, time.Second, 10 * time.Minute, 2 * time.Hour}
	d.sleep(waits[d.rng.IntN(len(waits))])
	d.settled()
}

// stepDrain delivers most of what waits, so that the log gets shorter.
func (d *driver) stepDrain() {
	d.sleep(2 * time.Hour)
	d.settled()
	for range 20 {
		d.tick()
		if d.over() {
			return
		}
		d.stepSettle()
	}
	d.tick()
	d.feed(100)
}

// stepFeed reads on in the feed, and acknowledges all but perhaps the last that
// it has read.
func (d *driver) stepFeed() { d.feed(1 + d.rng.IntN(8)) }

func (d *driver) feed(left int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	read := d.stand
	for evs, err := range d.s.feed(ctx, feedReaderName, 3) {
		d.stand = read
		if err != nil {
			break
		}
		told := tellings(evs)
		if read+len(told) > len(d.now.events) || !slices.Equal(told, d.now.events[read:read+len(told)]) {
			next := d.now.events[min(read, len(d.now.events)):]
			d.wrong("the feed tells %q after %d events, and not %q", told, read, next[:min(len(next), 6)])
			break
		}
		if read += len(told); read > len(d.told) {
			d.told = d.now.events[:read]
		}
		if left--; left < 0 {
			break
		}
	}
	d.acked = max(d.acked, d.stand)
}

// stepRead reads a message as its delivery would.
func (d *driver) stepRead() {
	id := d.anyOf()
	if id == "" {
		return
	}
	c, err := d.s.Open(context.Background(), id)
	if err == nil {
		var all []byte
		all, err = io.ReadAll(c.Reader())
		if err == nil && crc32.ChecksumIEEE(all) != d.now.msgs[id].body {
			d.wrong("message %s: wrong octets", id)
		}
		c.Close()
	}
	if err != nil && d.calm && !d.fs.Dead() {
		d.wrong("read: %w", err)
	}
}

func (d *driver) stepDiscard() {
	if a := d.draft(4000, addr("from@example.org"), "a@x.example"); a != nil {
		a.batch.Add[0].Draft.Discard()
	}
}

// stepAgain tries to add a message that is there.
func (d *driver) stepAgain() {
	id := d.anyOf()
	if id == "" {
		return
	}
	a, err := addition(d.s, id, []byte("other"), d.time(), "a@x.example")
	if err == nil {
		if err = d.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err == nil {
			d.wrong("message %s was added twice", id)
		}
		a.Draft.Discard()
	}
}

func (d *driver) stepRekey() { d.s.Rekey(destOf) }

func (d *driver) stepRestart() {
	good := d.fs
	d.close()
	if good.Dead() {
		return
	}
	if !d.open(true) {
		d.start()
	}
}

func (d *driver) stepKill() { d.die(d.fs.Kill()) }

func (d *driver) stepPower() {
	d.die(d.fs.Crash(vfs.KeepSome(rand.New(rand.NewPCG(d.rng.Uint64(), 5)), d.rng.Float64())))
}

// die goes on with what a sudden end has left.
func (d *driver) die(next *vfs.Mem) {
	d.close()
	d.fs = next
	d.arm()
	d.start()
}

// stepFull fills the disk: what waits goes on, new mail is refused, and after
// that there is room again.
func (d *driver) stepFull() {
	d.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 0, Inodes: 5000})
	d.full.Store(true)
	for range 6 {
		d.stepAdd()
	}
	for range 8 {
		d.tick()
		if d.over() {
			break
		}
		spare := d.s.spare
		if a := d.settlement(false); a != nil && d.commit(a)[0] != nil && spare && d.calm {
			d.wrong("a full disk cannot be emptied, though there was a spare")
		}
	}
	if d.full.Store(false); !d.over() {
		d.fs.SetSpace(vfs.Space{})
		d.sleep(time.Second)
	}
}

// stepRot lets an octet of a record rot while the spool is closed, and one of
// the snapshot. The message of the record is gone then; it is told, and the
// segment is kept.
func (d *driver) stepRot() {
	if d.stepAdd(); d.over() || len(d.now.msgs) == 0 || len(d.worlds) > 1 { // one trouble at a time
		return
	}
	d.tick()
	if d.feed(1000); d.over() || d.stand < len(d.now.events) {
		return // the feed would miss what the record tells
	}
	id := d.anyOf()
	at, large := d.s.placeOf(id), d.s.entryOf(id).big
	d.close()
	if d.fs.Dead() {
		return
	}
	if strings.Contains(strings.Join(d.alarms, " "), "at the end") {
		d.start() // nor does the log know how far its reader is
		return
	}
	d.fs.SetHook(nil)
	name := path.Join("data/spool/seg", segmentName(at.seg.n))
	d.seen["rot"]++
	d.flip(name, at.off+int64(d.rng.IntN(headerLen+40)), 1<<d.rng.IntN(8))
	d.spoil("data/spool/index.snap", int64(d.rng.IntN(2)))
	d.arm()
	d.rot, d.badSnap = append(d.rot, segmentName(at.seg.n)), 2+d.seen["rename index.snap"]
	for _, w := range d.worlds {
		without := &world{msgs: maps.Clone(w.msgs), events: w.events}
		delete(without.msgs, id)
		d.worlds = append(d.worlds[:len(d.worlds):len(d.worlds)], without)
	}
	if !d.open(true) {
		d.start()
	}
	if d.over() || !d.calm {
		return
	}
	if large {
		_, here := d.fs.Stat(path.Join("data/spool/big", string(id)))
		_, aside := d.fs.Stat(path.Join("data/spool/damaged", string(id)))
		if here != nil && aside != nil {
			d.wrong("the content of message %s is gone with its record: %v", id, aside)
		}
	}
	_, err := d.fs.Stat(path.Join("data/spool/damaged", segmentName(at.seg.n)))
	if err != nil || !strings.Contains(strings.Join(d.alarms, "\n"), "damaged") {
		d.wrong("after rot of message %s in %s: %v, alarms %q", id, name, err, d.alarms)
	}
}

// spoil makes one octet zero: of the magic of a record, and as often as one likes.
func (d *driver) spoil(name string, off int64) {
	f, err := d.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteAt([]byte{0}, off)
	f.Sync()
}

// flip changes bits of one octet of a file on the disk.
func (d *driver) flip(name string, off int64, bits byte) {
	f, err := d.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return
	}
	b[0] ^= bits
	f.WriteAt(b[:], off)
	f.Sync()
}
