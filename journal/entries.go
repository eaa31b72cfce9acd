package journal

import (
	"cmp"
	"slices"
)

// entries are those of one file, as they come: by the first bits of their hashes, in
// blocks that are full but for the last, so that neither more of them nor a copy
// moves what is there.
type entries [entryParts]entryList

const (
	entryParts    = 1 << entryPartBits
	entryPartBits = 8
	// entryBlockLen makes 4 KiB of a block.
	entryBlockLen = 255
)

type entryList struct {
	last *entryBlock
	n    int // of last
}

type entryBlock struct {
	before *entryBlock
	e      [entryBlockLen]entry
}

func (l *entries) add(more []entry) {
	for _, e := range more {
		p := &l[e.hash>>(64-entryPartBits)]
		if p.last == nil || p.n == entryBlockLen {
			p.last, p.n = &entryBlock{before: p.last}, 0
		}
		p.last.e[p.n] = e
		p.n++
	}
}

// blocks yields what is in an entryList, the last block first.
func (p entryList) blocks(yield func([]entry) bool) {
	for b, n := p.last, p.n; b != nil; b, n = b.before, entryBlockLen {
		if !yield(b.e[:n]) {
			return
		}
	}
}

// appendTo appends what is in an entryList, in the order in which it came.
func (p entryList) appendTo(all []entry) []entry {
	from := len(all)
	all = slices.Grow(all, p.count())[:from+p.count()]
	end := len(all)
	for b := range p.blocks {
		end -= copy(all[end-len(b):], b)
	}
	return all
}

func (p entryList) count() (n int) {
	for b := range p.blocks {
		n += len(b)
	}
	return n
}

func (l *entries) count() (n int) {
	for i := range l {
		n += l[i].count()
	}
	return n
}

// lookup finds the offsets of a hash, in any order.
func (l *entries) lookup(hash uint64) (offs []uint32, _ error) {
	for b := range l[hash>>(64-entryPartBits)].blocks {
		for _, e := range b {
			if e.hash == hash {
				offs = append(offs, e.off)
			}
		}
	}
	return offs, nil
}

// sortEntries sorts entries, which come in the order of their offsets, as they stand
// in an index: by the eight bits of their hashes from shift on, then by those below.
// Comparing alone takes several times as long, the more so as an address that is in
// every message has one hash. What is in spare is lost.
func sortEntries(some, spare []entry, shift int) {
	switch {
	case len(some) <= 24 || shift < 0:
		slices.SortFunc(some, compareEntries)
		return
	case slices.IsSortedFunc(some, compareEntries):
		return
	}
	var ends [257]int // where each of them begins, and as they are put there, ends
	for _, e := range some {
		ends[e.hash>>shift&0xff+1]++
	}
	for i := range 256 {
		ends[i+1] += ends[i]
	}
	spare = append(spare[:0], some...)
	for _, e := range spare {
		i := e.hash >> shift & 0xff
		some[ends[i]] = e
		ends[i]++
	}
	from := 0
	for _, end := range ends[:256] {
		sortEntries(some[from:end], spare, shift-8)
		from = end
	}
}

func compareEntries(a, b entry) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	return cmp.Compare(a.off, b.off)
}
