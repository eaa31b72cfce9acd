package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/postrider/postrider/vfs"
)

// Sizes that make the spool of a simulated machine do in hours what takes a real
// one days: contents over smallMax have files of their own, segments are full
// after some messages.
const smallMax = 16 << 10

// diskFaults are what befalls the disk of a machine, whoever runs on it.
type diskFaults struct {
	mu     sync.Mutex
	until  map[string]time.Time // a lasting fault, and its end
	ended  string               // the last boot that ended in an operation
	crash  int                  // operations that change the disk until the power goes; -1: it does not
	making int                  // directories of Maildirs that are made and synced until the process is killed between the two; -1: it is not
	made   bool                 // it has
	killed bool                 // the last end was that
	shaky  map[string]bool      // folders of a Maildir a sync of which has failed
	newest newest
}

// newest is what the log itself does not say yet to be durable: what was written
// last and, as long as that is not synced, what was written before it, for the one
// proves the other.
type newest struct {
	file   string           // the segment that was written last
	synced bool             // since then
	last   map[string]int64 // by segment, from which octet on
	before map[string]int64
}

// see notes what an operation does to the log.
func (f *diskFaults) see(op vfs.Op) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &f.newest
	switch {
	case path.Dir(op.Name) != segments:
	case op.Kind == vfs.OpSync:
		n.synced = n.synced || op.Name == n.file
	case op.Kind == vfs.OpWrite:
		if n.synced || n.last == nil {
			n.before, n.last = n.last, map[string]int64{}
		}
		if off, ok := n.last[op.Name]; !ok || op.Off < off {
			n.last[op.Name] = op.Off
		}
		n.file, n.synced = op.Name, false
	}
}

// provenTo returns up to which octet, at most end, the log of a machine that is off
// can say of a segment that it was durable.
func (f *diskFaults) provenTo(name string, end int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := &f.newest
	if off, ok := n.last[name]; ok {
		end = min(end, off)
	}
	if off, ok := n.before[name]; ok && !n.synced {
		end = min(end, off)
	}
	return end
}

// shake notes that a sync has failed: after a power cut a name in that folder that
// was changed since may be there again, beside the new one.
func (f *diskFaults) shake(op vfs.Op) {
	if op.Kind != vfs.OpSyncDir || !strings.HasPrefix(op.Name, "/mail/") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shaky == nil {
		f.shaky = map[string]bool{}
	}
	f.shaky[op.Name] = true
}

// shaken reports whether a sync of a folder has ever failed.
func (f *diskFaults) shaken(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shaky[dir]
}

// last makes a fault last.
func (f *diskFaults) last(kind string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until[kind] = time.Now().Add(d)
}

// on reports whether a fault lasts.
func (f *diskFaults) on(kind string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.until[kind])
}

// lately reports whether a fault lasts, or has ended an hour ago or less.
func (f *diskFaults) lately() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, end := range f.until {
		if time.Since(end) < time.Hour {
			return true
		}
	}
	return false
}

// none ends all faults.
func (f *diskFaults) none() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.until)
	f.crash, f.making = -1, -1
}

// arm lets the power go n operations from now; -1: not at all.
func (f *diskFaults) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crash = n
}

// armMaking lets the process be killed between a directory and its sync, after n others.
func (f *diskFaults) armMaking(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.making, f.made = n, false
}

// ends looks at an operation before it is done, and names the fault that ends a boot
// now; empty: none.
func (f *diskFaults) ends(op vfs.Op, boot string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.making >= 0 && strings.HasPrefix(op.Name, "/mail") {
		if f.made && op.Kind == vfs.OpSyncDir {
			f.made = false
			if f.making--; f.making < 0 {
				f.ended, f.killed = boot, true
				return "kill-in-making"
			}
		}
		f.made = f.made || op.Kind == vfs.OpMkdir
	}
	if f.crash < 0 || !op.Kind.Changes() || strings.HasPrefix(op.Name, "/data/journal/") {
		return ""
	}
	if f.crash--; f.crash >= 0 {
		return ""
	}
	f.ended, f.killed = boot, false
	return "power-in-op"
}

// wasKilled reports whether what ended last in an operation was the process alone.
func (f *diskFaults) wasKilled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.killed
}

// over reports whether the power of a boot has gone: whom that wakes in the same
// instant finds no disk.
func (f *diskFaults) over(boot string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended == boot
}

// An errno is which error an operation meets while a fault lasts, and in which
// share of cases.
type errno struct {
	fault string
	kind  vfs.OpKind
	err   error
	share float64
}

var errnos = []errno{
	{"eio-write", vfs.OpWrite, syscall.EIO, 0.2},
	{"eio-sync", vfs.OpSync, syscall.EIO, 0.3},
	{"eio-sync", vfs.OpSyncFS, syscall.EIO, 0.3},
	{"eio-rename", vfs.OpRename, syscall.EIO, 0.3},
	{"eio-rename", vfs.OpLink, syscall.EIO, 0.3},
	{"eio-syncdir", vfs.OpSyncDir, syscall.EIO, 0.3},
	{"short-write", vfs.OpWrite, syscall.ENOSPC, 0.2},
	{"disk-full", vfs.OpAllocate, syscall.ENOSPC, 1},
	{"disk-full", vfs.OpWrite, syscall.ENOSPC, 1},
	{"disk-full", vfs.OpMkdir, syscall.ENOSPC, 1},
	{"no-inodes", vfs.OpCreate, syscall.ENOSPC, 1},
	{"no-inodes", vfs.OpMkdir, syscall.ENOSPC, 1},
}

// hook is asked before each operation of the disk of this boot.
func (m *Machine) hook(host *Host, boot string) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if m.faults.over(boot) {
			return vfs.ErrCrash
		}
		if m.site.Ops {
			m.site.tell("%s: disk: %v %s %d %d", boot, op.Kind, op.Name, op.Off, op.Len)
		}
		if fault := m.faults.ends(op, boot); fault != "" {
			host.Crash()
			m.site.fault(fault, m.name)
			select {
			case m.fell <- boot:
			default:
			}
			return vfs.ErrCrash
		}
		for _, e := range errnos {
			if e.kind != op.Kind || !m.faults.on(e.fault) {
				continue
			}
			// Room that a segment has allocated is there also on a full disk.
			if e.fault == "disk-full" && op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".seg") {
				continue
			}
			rng := m.site.luck(boot, "disk", op)
			if rng.Float64() >= e.share {
				continue
			}
			m.site.fault(e.fault, m.name)
			m.faults.shake(op)
			if e.fault == "short-write" {
				return &vfs.ShortWrite{N: rng.IntN(op.Len + 1), Err: e.err}
			}
			return e.err
		}
		m.faults.see(op)
		return nil
	}
}

// delay is how long an operation takes. No two take the same time, so that what
// waits for the disk goes on in one order.
func (m *Machine) delay(boot string) func(vfs.Op) time.Duration {
	return func(op vfs.Op) time.Duration {
		h := opHash(boot, op)
		most := uint64(20 * time.Microsecond)
		switch op.Kind {
		case vfs.OpSync, vfs.OpSyncDir, vfs.OpSyncFS:
			most = uint64(4 * time.Millisecond)
			if m.faults.on("slow-disk") {
				most = uint64(3 * time.Second)
				m.site.fault("slow-disk", m.name)
			}
		case vfs.OpWrite, vfs.OpCreate, vfs.OpRename, vfs.OpLink:
			most = uint64(200 * time.Microsecond)
		}
		return time.Duration(1 + h%most)
	}
}

func opHash(boot string, op vfs.Op) uint64 {
	h := fnv.New64a()
	io.WriteString(h, boot)
	io.WriteString(h, op.Name)
	b := [9]byte{8: byte(op.Kind)} // not its length: signatures have none that is fixed
	for i := range 8 {
		b[i] = byte(op.Off >> (8 * i))
	}
	h.Write(b[:])
	return h.Sum64()
}

// luck is the chance of an operation at its time: the same for the same
// operation, whatever else happens.
func (s *Site) luck(boot, what string, op vfs.Op) *rand.Rand {
	return Stream(s.Plan.Seed, fmt.Sprint(boot, what, opHash(boot, op), time.Now().UnixNano()))
}

// keepSome keeps each part of what was not synced with probability p. Its chance
// comes from where the part is, and not from how much else there is.
func (m *Machine) keepSome(what string, p float64) vfs.Keep {
	key := m.site.Plan.Seed ^ nameKey(fmt.Sprintf("%s %s %d", what, m.name, m.boots))
	times := map[vfs.Chance]uint64{}
	return func(c vfs.Chance) bool {
		c.Len = 0
		times[c]++
		return unit(key^nameKey(c.Name), uint64(c.Off)<<16|times[c]) < p
	}
}

// space is how much room the disk says that it has.
func (m *Machine) space() vfs.Space {
	sp := vfs.Space{Total: 1 << 40, Free: 1 << 39, Inodes: 1 << 30}
	if m.faults.on("disk-full") {
		sp.Free = 0
	}
	if m.faults.on("no-inodes") {
		sp.Inodes = 0
	}
	return sp
}

// segments is the folder of the log.
const segments = "/data/spool/seg"

// flipMin is how much a segment holds where a bit may turn.
const flipMin = 16 << 10

// flip turns one bit of the log of a machine that is off, somewhere in what was
// written. What nothing proves is spared: there a bit that turned is the same as a
// write that was cut short.
func (m *Machine) flip(arg uint64) error {
	rng := rand.New(rand.NewPCG(arg, 1))
	files, err := m.disk.ReadDir(segments)
	if err != nil || len(files) == 0 {
		return err
	}
	name := path.Join(segments, files[rng.IntN(len(files))].Name())
	octets, err := vfs.ReadFile(m.disk, name)
	if err != nil {
		return err
	}
	used := len(strings.TrimRight(string(octets), "\x00"))
	if used < flipMin {
		return nil
	}
	proven := m.faults.provenTo(name, int64(used/2))
	if proven == 0 {
		return nil
	}
	at := rng.IntN(int(proven))
	f, err := m.disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{octets[at] ^ 1<<rng.IntN(8)}, int64(at)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	m.site.fault("bit-flip", m.name)
	return nil
}
