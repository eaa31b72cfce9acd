package spool

import (
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime/debug"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/vfs"
)

var (
	crashFaults = flag.Int("crash.faults", 6, "make one in so many of the operations of a disk fail; 1: each one")
	crashFault  = flag.String("crash.fault", "", "make this operation fail alone, as a failure names it")
)

// failures are the ways in which an operation fails.
var failures = []struct {
	name  string
	reads bool // what only reads, and not what changes the disk
	err   func(op vfs.Op) error
}{
	{"EIO", false, func(vfs.Op) error { return syscall.EIO }},
	{"ENOSPC", false, func(vfs.Op) error { return syscall.ENOSPC }},
	{"short", false, func(op vfs.Op) error { return &vfs.ShortWrite{N: op.Len / 2, Err: syscall.ENOSPC} }},
	{"read", true, func(vfs.Op) error { return syscall.EIO }},
}

// firstStart is how many operations are of the first start, and fail in each run.
const firstStart = 12

// A single operation of a script fails: a write, a sync, a rename, an allocation,
// a read. What was refused may come to nothing; all that was not is there, after
// a stop in good order, after a kill, and after a power cut, and no start after
// the fault sees damage.
func TestFaultAtEveryOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for a minute")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var changes, all int
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(*crashSeed, vfs.NewMem())
		d.slow = true
		d.script()
		if d.err != nil {
			t.Fatal(d.err)
		}
		changes, all = d.ops, d.all
	})
	begun, runs, struck := time.Now(), 0, map[vfs.OpKind]int{}
	for kind := range failures {
		last := changes
		if failures[kind].reads {
			last = all
		}
		for n := range last {
			name := fmt.Sprintf("%s/%d", failures[kind].name, n)
			if *crashFault != "" && name != *crashFault || *crashFault == "" && n >= firstStart && (n+kind)%*crashFaults != 0 {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				if op, ok := faultRun(t, kind, n); ok {
					runs++
					struck[op.Kind]++
				}
			})
			if t.Failed() {
				t.Fatalf("again: go test ./spool -run TestFaultAtEveryOperation -crash.seed=%d -crash.fault=%s -v", *crashSeed, name)
			}
		}
	}
	t.Logf("%d faults struck after %v: %v", runs, time.Since(begun).Round(time.Second), struck)
}

// faultRun runs the script with one failure, and holds what is left against the
// model.
func faultRun(t *testing.T, kind, n int) (hit vfs.Op, ok bool) {
	f := failures[kind]
	d := newDriver(*crashSeed, vfs.NewMem())
	d.calm, d.slow = false, true
	if *crashFault != "" && testing.Verbose() {
		d.talk = t.Logf
	}
	d.fault = func(op, all int, o vfs.Op) error {
		at := op
		if f.reads {
			if at = all; op >= 0 {
				at = -1
			}
		}
		if at != n || f.name == "short" && o.Kind != vfs.OpWrite {
			return nil
		}
		hit, ok = o, true
		return f.err(o)
	}
	d.script()
	if d.err != nil {
		t.Errorf("%s at operation %d (%v): %v", f.name, n, hit, d.err)
	}
	if !ok || d.err != nil {
		return hit, false
	}
	rng := rand.New(rand.NewPCG(uint64(n), 6))
	for name, keep := range map[string]vfs.Keep{"nothing": vfs.KeepNone, "everything": vfs.KeepAll, "something": vfs.KeepSome(rng, 0.5)} {
		d.hold(t, d.fs.Crash(keep), fmt.Sprintf("%s at operation %d (%v), kept %s", f.name, n, hit, name))
	}
	killed := d.hold(t, d.fs.Kill(), fmt.Sprintf("%s at operation %d (%v), killed", f.name, n, hit))
	killed.hold(t, killed.fs.Crash(vfs.KeepNone), fmt.Sprintf("%s at operation %d (%v), killed, used, power cut", f.name, n, hit))
	return hit, true
}

// hold opens the spool on what is left of a disk and goes on with it.
func (d *driver) hold(t *testing.T, disk *vfs.Mem, how string) *driver {
	s := d.survivor(disk, uint64(crc32.ChecksumIEEE([]byte(how))))
	if s.open(false); !s.over() {
		s.afterlife()
	}
	s.close()
	if s.err != nil {
		t.Errorf("%s: %v", how, s.err)
	}
	return s
}
