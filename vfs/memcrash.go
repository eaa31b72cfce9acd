package vfs

import (
	"iter"
	"math/rand/v2"
	"slices"
)

// A Chance is one part of what was not synced: a sector of a write, a growth or
// a cut of a file, or a step of a directory.
type Chance struct {
	Name string // of a file: the name that it has after the crash; of a step: the last component
	Dir  bool   // a step of a directory
	Off  int64  // of a file: where the sector begins, or the size
	Len  int    // octets of a write; 0 for a change of size
}

// A Keep decides of each Chance whether it reached the disk. It is asked in an
// order that depends only on the operations, directories first; what cannot have
// come because something before it did not is not asked.
type Keep func(c Chance) bool

// KeepNone keeps only what was synced.
func KeepNone(Chance) bool { return false }

// KeepAll keeps everything.
func KeepAll(Chance) bool { return true }

// KeepSome keeps each part with probability p.
func KeepSome(rng *rand.Rand, p float64) Keep {
	return func(Chance) bool { return rng.Float64() < p }
}

// Dead reports whether the machine has crashed or was killed.
func (m *Mem) Dead() bool {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.dead
}

// Kill ends the process: the old Mem and its open files answer ErrCrash from now
// on and its locks are gone. The new one sees everything that was written,
// synced or not, and without hooks.
func (m *Mem) Kill() *Mem {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.dead = true
	m.disk.locks = nil
	return &Mem{disk: m.disk}
}

// Image returns the disk that a power cut at this moment could leave, and the
// machine goes on.
func (m *Mem) Image(keep Keep) *Mem {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.image(keep)
}

// Crash cuts the power: the old Mem and its open files answer ErrCrash from now
// on. The new one is the machine as it starts again, with what was durable and
// what keep kept of the rest, all of it durable now, and without hooks. Crash
// again gives another disk that the same power cut could have left.
func (m *Mem) Crash(keep Keep) *Mem {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.dead = true
	return m.image(keep)
}

func (m *Mem) image(keep Keep) *Mem {
	c := crash{keep: keep, dirs: map[*node]map[string]*node{}, copies: map[*node]*node{}}
	c.steps(m.disk.steps)
	root := c.copy("", m.disk.root)
	return &Mem{disk: newDisk(root)}
}

// Crashes yields disks that a power cut could leave, each a different choice of
// what is kept, nothing first: all of them, or the first max. There are up to 2
// to the power of the number of chances.
func (m *Mem) Crashes(max int) iter.Seq[*Mem] {
	return func(yield func(*Mem) bool) {
		var script []bool // the choices of this round; beyond it, no
		for range max {
			var made []bool
			after := m.Crash(func(Chance) bool {
				kept := len(made) < len(script) && script[len(made)]
				made = append(made, kept)
				return kept
			})
			if !yield(after) {
				return
			}
			last := len(made) - 1
			for last >= 0 && made[last] {
				last--
			}
			if last < 0 {
				return
			}
			script = append(slices.Clone(made[:last]), true)
		}
	}
}

// A crash makes one disk out of another.
type crash struct {
	keep   Keep
	dirs   map[*node]map[string]*node // directories that steps have changed
	copies map[*node]*node
}

// entries returns a directory as it is durable, with the steps so far.
func (c *crash) entries(dir *node) map[string]*node {
	if c.dirs[dir] == nil {
		c.dirs[dir] = make(map[string]*node, len(dir.durable))
		for name, n := range dir.durable {
			c.dirs[dir][name] = n
		}
	}
	return c.dirs[dir]
}

// steps does the steps that are sure or kept. When a pending step did not come,
// no later one on its names that is not sure came.
func (c *crash) steps(steps []*step) {
	missing := map[entry]bool{}
	for _, s := range steps {
		kept := s.fate == sure
		if !kept && !slices.ContainsFunc(s.sets, func(e entrySet) bool { return missing[e.entry] }) {
			last := s.sets[len(s.sets)-1]
			kept = c.keep(Chance{Name: last.name, Dir: true})
		}
		for _, e := range s.sets {
			switch {
			case kept:
				e.apply(c.entries(e.dir))
			case s.fate == pending:
				missing[e.entry] = true
			}
		}
	}
}

// copy copies a tree. Two names of a file stay one file. A directory is copied
// once: kept steps could, in theory, hang it into itself.
func (c *crash) copy(name string, n *node) *node {
	if done := c.copies[n]; done != nil {
		return done
	}
	d := &node{mode: n.mode, modTime: n.modTime}
	c.copies[n] = d
	if !n.isDir() {
		d.bad = slices.Clone(n.bad)
		d.synced = c.content(name, n)
		d.now = d.synced.clone()
		return d
	}
	d.entries, d.durable = map[string]*node{}, map[string]*node{}
	entries := c.entries(n)
	for _, child := range sortedNames(entries) {
		to := entries[child]
		if to.isDir() && c.copies[to] != nil {
			continue
		}
		d.entries[child] = c.copy(name+"/"+child, to)
		d.durable[child] = d.entries[child]
	}
	return d
}

// content returns what a file holds after the crash.
func (c *crash) content(name string, n *node) *content {
	out := n.synced.clone()
	missing := map[int64]bool{} // sectors that a pending write did not reach
	for _, ch := range n.changes {
		switch {
		case ch.fate == sure:
			out.apply(ch)
		case ch.kind != changeWrite:
			if c.keep(Chance{Name: name, Off: ch.size}) {
				out.apply(ch)
			}
		default:
			c.write(name, out, ch, missing)
		}
	}
	return out
}

// write does the sectors of a write that are kept. One that lies past the end
// brings the length up to its own end; a write that made the file longer may
// also have brought the length alone, and the file reads zeros there.
func (c *crash) write(name string, out *content, ch change, missing map[int64]bool) {
	end := ch.off + int64(len(ch.data))
	for off := ch.off; off < end; {
		next := min(end, (off/sector+1)*sector)
		at := off / sector * sector
		kept := !missing[at] && c.keep(Chance{Name: name, Off: at, Len: int(next - off)})
		switch {
		case kept:
			out.writeAt(ch.data[off-ch.off:next-ch.off], off)
		case ch.fate == pending:
			missing[at] = true
		}
		off = next
	}
	if end > ch.size && out.size < end && c.keep(Chance{Name: name, Off: end}) {
		out.size = end
	}
}
