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

func (p entryList) appendTo(all []entry) []entry {
	for b := range p.blocks {
		all = append(all, b...)
	}
	return all
}

func (l *entries) count() (n int) {
	for i := range l {
		for b := range l[i].blocks {
			n += len(b)
		}
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

// sortEntries sorts those of one part as they stand in an index: by the bits of the
// hash that come after those of the part, then each few that share them. That is a
// quarter of the time that comparing alone takes.
func sortEntries(part, spare []entry) (sorted []entry) {
	const shift = 64 - 2*entryPartBits
	var ends [entryParts + 1]int // behind those with smaller bits, at first
	for _, e := range part {
		ends[e.hash>>shift%entryParts+1]++
	}
	for i := range entryParts {
		ends[i+1] += ends[i]
	}
	sorted = append(spare[:0], part...)
	for _, e := range part {
		i := e.hash >> shift % entryParts
		sorted[ends[i]] = e
		ends[i]++
	}
	from := 0
	for _, end := range ends[:entryParts] {
		slices.SortFunc(sorted[from:end], compareEntries)
		from = end
	}
	return sorted
}

func compareEntries(a, b entry) int {
	if a.hash != b.hash {
		return cmp.Compare(a.hash, b.hash)
	}
	return cmp.Compare(a.off, b.off)
}
