package vfs

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// An entry is a name in a directory.
type entry struct {
	dir  *node
	name string
}

// A step changes one entry, or two at once. A nil node removes.
type step struct {
	seq  uint64
	fate fate
	sets []entrySet
}

type entrySet struct {
	entry
	to *node
}

// stepsMax bounds the steps that are not durable. A kernel too writes back
// what nobody syncs; beyond this the oldest become durable.
const stepsMax = 1024

// set changes entries in one step.
func (d *disk) set(sets ...entrySet) {
	d.seq++
	for _, s := range sets {
		s.apply(s.dir.entries)
		s.dir.modTime = time.Now()
	}
	d.steps = append(d.steps, &step{seq: d.seq, sets: sets})
	if len(d.steps) > stepsMax {
		for _, s := range d.steps[0].sets {
			s.apply(s.dir.durable)
		}
		d.steps = slices.Delete(d.steps, 0, 1)
	}
}

func (s entrySet) apply(entries map[string]*node) {
	if s.to == nil {
		delete(entries, s.name)
	} else {
		entries[s.name] = s.to
	}
}

// SyncDir makes the entries of a directory durable. A step that moved something
// in from elsewhere, or out, becomes durable whole.
func (m *Mem) SyncDir(name string) error {
	upto := m.mark()
	failed := m.start(Op{Kind: OpSyncDir, Name: name})
	return m.do("syncdir", name, func(d *disk) error {
		_, n, err := d.there(name)
		if err == nil && n.isDir() && n.told != n.lost {
			n.told, failed = n.lost, errors.Join(failed, syscall.EIO)
		}
		switch {
		case err != nil:
		case !n.isDir():
			err = syscall.ENOTDIR
		case failed == nil:
			d.settle(d.stepsOf(n, upto), sure)
		default:
			d.settle(d.stepsOf(n, upto), lost)
		}
		if failed != nil {
			return failed
		}
		return err
	})
}

// mark returns the number of the last change. A sync takes what was there when
// it was called.
func (m *Mem) mark() uint64 {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.disk.seq
}

// stepsOf returns the pending steps, up to a number, that touch dir, and those
// that they build upon because they touch the same names. A nil dir is every one.
func (d *disk) stepsOf(dir *node, upto uint64) map[*step]bool {
	taken, names := map[*step]bool{}, map[entry]bool{}
	for _, s := range slices.Backward(d.steps) {
		if s.seq > upto || s.fate != pending {
			continue
		}
		if dir == nil || slices.ContainsFunc(s.sets, func(e entrySet) bool { return e.dir == dir || names[e.entry] }) {
			taken[s] = true
			for _, e := range s.sets {
				names[e.entry] = true
			}
		}
	}
	return taken
}

// settle gives steps a fate. A sure step becomes durable at once, but for one
// that comes after a step on the same name whose fate is open.
func (d *disk) settle(taken map[*step]bool, f fate) {
	open := map[entry]bool{}
	d.steps = slices.DeleteFunc(d.steps, func(s *step) bool {
		if taken[s] {
			s.fate = f
		}
		blocked := s.fate != sure
		for _, e := range s.sets {
			blocked = blocked || open[e.entry]
		}
		for _, e := range s.sets {
			if blocked {
				open[e.entry] = true
			} else {
				e.apply(e.dir.durable)
			}
		}
		return !blocked
	})
}
