package spool

import (
	"context"
	"flag"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

var (
	crashStates  = flag.Int("crash.states", 10_000, "try this many crash states")
	crashSeed    = flag.Uint64("crash.seed", 1, "begin with the script of this seed")
	crashSubsets = flag.Int("crash.subsets", 24, "of what was not synced, try all subsets up to this many at each operation")
	crashRandom  = flag.Int("crash.random", 10, "and so many of chance beyond")
	crashOp      = flag.Int("crash.op", -1, "crash at this operation alone")
	crashKeep    = flag.String("crash.keep", "", "and with this subset alone, as a failure names it")
)

// A campaign crashes the spool at every operation of one script after the other.
type campaign struct {
	t      *testing.T
	seed   uint64
	states int
	double int // of the states: crashes of a recovery
	ops    int
	lost   int
}

// The disk dies before each operation of a script that changes it, and keeps any
// part of what was not synced. What the next start finds is one of the worlds
// that may be, octet for octet, and it goes on from there. Every few states the
// recovery is crashed too, at each of its operations.
//
// Another seed is another script. A failure says how to see it again.
func TestCrashAtEveryOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for a minute")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	c := &campaign{t: t, seed: *crashSeed}
	begun := time.Now()
	for ; c.states < *crashStates && !t.Failed(); c.seed++ {
		c.script()
		t.Logf("seed %d done after %v: crash states %d, of them in recovery %d", c.seed, time.Since(begun).Round(time.Second), c.states, c.double)
		if *crashOp >= 0 {
			return
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("crash states %d, of them in recovery %d, operations %d, lost %d; what comes next begins with -crash.seed=%d", c.states, c.double, c.ops, c.lost, c.seed)
}

// script crashes one script everywhere.
func (c *campaign) script() {
	ops := c.census()
	c.ops += ops
	for n := range ops {
		if *crashOp >= 0 && n != *crashOp {
			continue
		}
		synctest.Test(c.t, func(t *testing.T) {
			d := newDriver(c.seed, vfs.NewMem())
			if *crashOp >= 0 && testing.Verbose() {
				d.talk = t.Logf
			}
			d.fault = func(op, _ int, _ vfs.Op) error {
				if op >= n {
					return vfs.ErrCrash
				}
				return nil
			}
			d.script()
			if d.err != nil || !d.fs.Dead() {
				t.Fatalf("seed %d to operation %d: %v", c.seed, n, d.err)
			}
			c.crash(d, n)
		})
		if c.t.Failed() {
			return
		}
	}
}

// census runs the script once without a crash, and sees to it that it does all
// that it is for.
func (c *campaign) census() (ops int) {
	synctest.Test(c.t, func(t *testing.T) {
		d := newDriver(c.seed, vfs.NewMem())
		d.script()
		if d.err != nil {
			t.Fatalf("seed %d without a crash: %v", c.seed, d.err)
		}
		ops = d.ops
		for _, what := range []string{"create seg", "remove seg", "link seg", "create big", "remove big", "rename index.snap", "create spare", "rename seg",
			"link damaged", "truncate seg", "moved"} {
			if d.seen[what] == 0 && c.seed == 1 {
				t.Errorf("seed %d: nothing was done to %q", c.seed, what)
			}
		}
		if c.seed == *crashSeed {
			t.Logf("seed %d: %d operations, %v", c.seed, ops, d.seen)
		}
	})
	if ops < 300 {
		c.t.Fatalf("seed %d: %d operations", c.seed, ops)
	}
	return ops
}

// A chooser decides of each chance, first as its script says and then as rest does.
type chooser struct {
	script string // of 0 and 1
	rest   func() bool
	made   []byte
}

func (ch *chooser) keep(vfs.Chance) bool {
	var kept bool
	if n := len(ch.made); n < len(ch.script) {
		kept = ch.script[n] == '1'
	} else if ch.rest != nil {
		kept = ch.rest()
	}
	ch.made = append(ch.made, "01"[btoi(kept)])
	return kept
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// next returns the subset after the one that was made, and false after the last.
func (ch *chooser) next() (string, bool) {
	last := strings.LastIndexByte(string(ch.made), '0')
	if last < 0 {
		return "", false
	}
	return string(ch.made[:last]) + "1", true
}

// crash tries what the crash at operation n may have left.
func (c *campaign) crash(d *driver, n int) {
	d.close()
	if *crashKeep != "" {
		c.try(d, n, *crashKeep)
		return
	}
	seen := map[string]bool{}
	try := func(ch *chooser) {
		image := d.fs.Crash(ch.keep)
		if made := string(ch.made); !seen[made] {
			seen[made] = true
			c.survive(d, image, n, made)
		}
	}
	script, more := "", true
	for range *crashSubsets {
		ch := &chooser{script: script}
		try(ch)
		if script, more = ch.next(); !more {
			break
		}
	}
	if more {
		try(&chooser{rest: func() bool { return true }})
		rng := rand.New(rand.NewPCG(c.seed, uint64(n)))
		for range *crashRandom {
			p := rng.Float64()
			try(&chooser{rest: func() bool { return rng.Float64() < p }})
		}
	}
	if n%12 == 5 && !c.t.Failed() {
		c.again(d, n, slices.Sorted(maps.Keys(seen))[len(seen)/2])
	}
	if !c.t.Failed() {
		c.survive(d, d.fs.Kill(), n, "killed")
	}
}

// try tries one subset.
func (c *campaign) try(d *driver, n int, made string) {
	if made == "killed" {
		c.survive(d, d.fs.Kill(), n, made)
		return
	}
	first, second, double := strings.Cut(made, "/")
	if !double {
		c.survive(d, d.fs.Crash((&chooser{script: made}).keep), n, made)
		return
	}
	var k int
	var kept string
	fmt.Sscanf(second, "%d/%s", &k, &kept)
	c.recovery(d, n, first, k, kept)
}

// again crashes the recovery from one subset at each of its operations.
func (c *campaign) again(d *driver, n int, made string) {
	for k := 0; c.recovery(d, n, made, k, "") && c.recovery(d, n, made, k, "1") && !c.t.Failed(); k++ {
	}
}

// recovery crashes the recovery from one subset at its operation k, and keeps all
// or nothing of what it did not sync. It returns false when there is no such
// operation.
func (c *campaign) recovery(d *driver, n int, made string, k int, kept string) bool {
	disk := d.fs.Crash((&chooser{script: made}).keep)
	disk.SetHook(vfs.CrashAt(k))
	half := d.survivor(disk, uint64(k))
	s, err := Open(context.Background(), half.options())
	if err == nil {
		synctest.Wait()
		s.Close(context.Background())
	}
	if !disk.Dead() {
		return false
	}
	c.double++
	c.survive(d, disk.Crash((&chooser{rest: func() bool { return kept != "" }}).keep), n, fmt.Sprintf("%s/%d/%s", made, k, kept))
	return true
}

// survivor returns a driver that goes on with what a crash has left.
func (d *driver) survivor(disk *vfs.Mem, life uint64) *driver {
	s := newDriver(life, disk)
	s.worlds, s.now, s.leases, s.acked, s.rot, s.badSnap = d.worlds, d.now, d.leases, d.acked, d.rot, d.badSnap
	s.told, s.woke = d.told, d.woke
	s.opened, s.bare = d.opened+(life+1)<<10, true
	s.clock = time.Now()
	return s
}

// survive opens the spool on what is left, and holds it against the model; then
// it accepts, delivers, stops, and is opened once more.
func (c *campaign) survive(d *driver, disk *vfs.Mem, n int, kept string) {
	c.states++
	s := d.survivor(disk, 1000+uint64(crc32.ChecksumIEEE([]byte(kept))))
	if s.open(false); !s.over() {
		s.afterlife()
	}
	s.close()
	if s.err == nil {
		return
	}
	if c.lost++; c.lost > 3 {
		return
	}
	c.t.Errorf("seed %d, crash before operation %d (%v), kept %q: %v\nagain: go test ./spool -run TestCrashAtEveryOperation -crash.seed=%d -crash.op=%d -crash.keep=%s -v",
		c.seed, n, d.lastOp, kept, s.err, c.seed, n, kept)
}

// afterlife is what a spool must still do after whatever was.
func (d *driver) afterlife() {
	d.addOf(d.rng.IntN(3000))
	d.tick()
	for !d.over() && d.claim() {
		l := d.leases[0]
		m := d.now.msgs[l.ID]
		if m == nil {
			d.wrong("a lease of message %s, which is not there", l.ID)
			return
		}
		set := postrider.Settlement{Lease: l}
		for _, n := range l.Rcpts {
			c := changeOf(n, &m.m.Recipients[n])
			switch {
			case c.State != postrider.Waiting:
				c.Reported = true
			case l.Why == postrider.Attempt:
				c = delivered(n)
				if !l.Again && !d.fresh[l.ID] {
					d.wrong("the lease %+v does not say that an attempt may have got through before", l)
				}
			default:
				continue
			}
			set.Changes = append(set.Changes, c)
		}
		d.commit(&act{at: d.time().UnixNano(), batch: postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: true}})
	}
	now := d.time()
	for id, m := range d.now.msgs {
		for n := range m.m.Recipients {
			r := &m.m.Recipients[n]
			held := r.Held || destOf(r.To) == postrider.DestHold && !r.Passed
			if r.State != postrider.Waiting && !r.Reported || r.State == postrider.Waiting && !held && !r.Due.After(now) {
				d.wrong("message %s recipient %d is %s and due, and does not come", id, n, r.State)
			}
		}
	}
	if d.close(); d.err == nil && d.open(true) {
		d.close()
	}
}
