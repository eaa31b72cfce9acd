package spool

import (
	"math/bits"

	"github.com/postrider/postrider"
)

// The entries of the index lie in pages without a pointer in them, so that the
// collector has nothing to do with them, and a queue that grows copies nothing.
// They are named by numbers: a ref is a place, and may be that of another message
// later; a handle is one message for ever.

// A ref is where an entry lies: page and slot. 0 is none.
type ref uint32

// A handle names an entry across the ends of the lock.
type handle struct {
	at  ref
	gen uint32
}

const (
	pageBits = 8
	pageLen  = 1 << pageBits // entries: 32 KiB
)

// A page is a piece of the slab. Its free slots are a list by entry.link.
type page struct {
	free    ref
	live    int
	partial bool            // it is in slab.partial
	slots   *[pageLen]entry // apart, for 32 KiB and a bit would take 40 KiB
}

// emptyPages is how many pages without an entry are kept for what comes next.
const emptyPages = 8

// A slab holds all entries, and finds them by their ID.
type slab struct {
	pages   []*page  // the first is not used; nil: given back
	partial []uint32 // pages with free slots, and some that were given back since
	gone    []uint32 // numbers of pages that were given back
	n       int
	gens    uint32
	ids     buckets
}

// get returns the entry at a place that is in use.
func (b *slab) get(at ref) *entry { return &b.pages[at>>pageBits].slots[at&(pageLen-1)] }

// at returns the entry of a handle; nil: it is gone.
func (b *slab) at(h handle) *entry {
	p := uint32(h.at) >> pageBits
	if h.at == 0 || p >= uint32(len(b.pages)) || b.pages[p] == nil {
		return nil
	}
	if e := &b.pages[p].slots[h.at&(pageLen-1)]; e.self == h.at && e.gen == h.gen {
		return e
	}
	return nil
}

func (e *entry) handle() handle { return handle{e.self, e.gen} }

// find returns the entry of an ID; nil: there is none.
func (b *slab) find(id postrider.ID) *entry {
	k, ok := packID(id)
	if !ok {
		return nil
	}
	return b.findKey(k)
}

func (b *slab) findKey(k key) *entry {
	for at := b.ids.get(k); at != 0; {
		e := b.get(at)
		if e.id == k {
			return e
		}
		at = e.link
	}
	return nil
}

// add returns a new entry of an ID that is not there.
func (b *slab) add(k key) *entry {
	p := b.room()
	pg := b.pages[p]
	at := pg.free
	e := b.get(at)
	pg.free = e.link
	if pg.live++; pg.free == 0 {
		pg.partial = false
		b.partial = b.partial[:len(b.partial)-1]
	}
	b.gens++
	*e = entry{id: k, self: at, gen: b.gens, wake: never, wakePos: -1}
	b.n++
	b.ids.grow(b)
	head := b.ids.head(k)
	e.link, *head = *head, at
	return e
}

// room returns the number of a page with a free slot, which is the last of
// partial.
func (b *slab) room() uint32 {
	for n := len(b.partial); n > 0; n = len(b.partial) {
		if p := b.partial[n-1]; b.pages[p] != nil && b.pages[p].partial {
			return p
		}
		b.partial = b.partial[:n-1]
	}
	if len(b.pages) == 0 {
		b.pages = append(b.pages, nil)
	}
	p := uint32(len(b.pages))
	if n := len(b.gone); n > 0 {
		p = b.gone[n-1]
		b.gone = b.gone[:n-1]
	} else {
		b.pages = append(b.pages, nil)
	}
	pg := &page{partial: true, slots: new([pageLen]entry)}
	for i := pageLen - 1; i >= 0; i-- {
		pg.slots[i].link = pg.free
		pg.free = ref(p<<pageBits | uint32(i))
	}
	b.pages[p] = pg
	b.partial = append(b.partial, p)
	return p
}

// remove forgets an entry.
func (b *slab) remove(e *entry) {
	at := b.ids.head(e.id)
	for *at != e.self {
		at = &b.get(*at).link
	}
	*at = e.link
	self := e.self
	*e = entry{}
	p := uint32(self) >> pageBits
	pg := b.pages[p]
	e.link, pg.free = pg.free, self
	b.n--
	if !pg.partial {
		pg.partial = true
		b.partial = append(b.partial, p)
	}
	if pg.live--; pg.live == 0 && len(b.partial) > emptyPages {
		b.pages[p] = nil
		b.gone = append(b.gone, p)
		// Where it stands in partial is left to room, unless that grows too long.
		if len(b.partial) > 2*len(b.pages) {
			b.sweep()
		}
	}
}

// sweep takes pages that were given back out of partial, and those that are there
// twice.
func (b *slab) sweep() {
	b.partial = b.partial[:0]
	for p, pg := range b.pages {
		if pg != nil && pg.partial {
			b.partial = append(b.partial, uint32(p))
		}
	}
}

// page returns the entries of a page, to those who go through all; more is false
// behind the last.
func (b *slab) page(p int, yield func(*entry)) (more bool) {
	if p >= len(b.pages) {
		return false
	}
	if pg := b.pages[p]; pg != nil && pg.live > 0 {
		for i := range pg.slots {
			if e := &pg.slots[i]; e.self != 0 {
				yield(e)
			}
		}
	}
	return true
}

// each goes through all entries. Spool.mu is held, so it is for starts and tests.
func (b *slab) each(yield func(*entry)) {
	for p := 0; b.page(p, yield); p++ {
	}
}

// buckets are a hash table that grows by one bucket at a time (linear hashing), so
// that no addition waits until a million others are put elsewhere. What shares a
// bucket is a list by entry.link.
type buckets struct {
	parts [][]ref
	n     uint32 // in use
}

const bucketPart = 1 << 12

func (t *buckets) at(i uint32) *ref { return &t.parts[i/bucketPart][i%bucketPart] }

// index is the bucket of a key.
func (t *buckets) index(k key) uint32 {
	hi, lo := bits.Mul64(k[0]^0x9e3779b97f4a7c15, k[1]^0xd6e8feb86659fd93)
	h := uint32(hi^lo) ^ uint32((hi^lo)>>32)
	mask := uint32(1)<<bits.Len32(t.n-1) - 1
	if i := h & mask; i < t.n {
		return i
	}
	return h & (mask >> 1)
}

func (t *buckets) get(k key) ref {
	if t.n == 0 {
		return 0
	}
	return *t.at(t.index(k))
}

func (t *buckets) head(k key) *ref { return t.at(t.index(k)) }

// grow adds a bucket when there are fewer than entries, and parts the bucket that
// it takes from.
func (t *buckets) grow(b *slab) {
	for t.n < uint32(b.n) {
		if t.n%bucketPart == 0 {
			t.parts = append(t.parts, make([]ref, bucketPart))
		}
		t.n++
		if t.n == 1 {
			continue
		}
		from := t.n - 1 - 1<<(bits.Len32(t.n-1)-1)
		at := *t.at(from)
		*t.at(from) = 0
		for at != 0 {
			e := b.get(at)
			next := e.link
			head := t.head(e.id)
			e.link, *head = *head, at
			at = next
		}
	}
}

// A key is an ID in 16 octets: ten characters in each half. It has the order of
// the IDs.
type key [2]uint64

// idLen is how many characters an ID may have.
const idLen = 20

const idDigits = "0123456789abcdefghijklmnopqrstuvwxyz"

// packID packs an ID; false: it is none, for it is empty, too long, or has other
// characters than [0-9a-z].
func packID(id postrider.ID) (k key, ok bool) {
	if id == "" || len(id) > idLen {
		return key{}, false
	}
	for i := range idLen {
		d := uint64(0) // behind the end
		if i < len(id) {
			switch c := id[i]; {
			case '0' <= c && c <= '9':
				d = uint64(c-'0') + 1
			case 'a' <= c && c <= 'z':
				d = uint64(c-'a') + 11
			default:
				return key{}, false
			}
		}
		k[i/10] = k[i/10]*37 + d
	}
	return k, true
}

// name is the ID.
func (k key) name() postrider.ID {
	var b [idLen]byte
	n := idLen
	for i := idLen - 1; i >= 0; i-- {
		d := k[i/10] % 37
		k[i/10] /= 37
		if d == 0 {
			n = i
		} else {
			b[i] = idDigits[d-1]
		}
	}
	return postrider.ID(b[:n])
}

func (k key) less(o key) bool { return k[0] < o[0] || k[0] == o[0] && k[1] < o[1] }

// compare orders keys as strings.Compare does their IDs.
func (k key) compare(o key) int {
	switch {
	case k == o:
		return 0
	case k.less(o):
		return -1
	}
	return 1
}

// An interner numbers texts that many recipients share. 0 is none.
type interner struct {
	ids  map[string]uint32
	all  []interned
	free []uint32
	size int // octets of all texts
}

type interned struct {
	text string
	n    int32
}

// add returns the number of a text, used once more. At most so many octets of texts
// are kept; what comes beyond is none.
func (t *interner) add(b []byte, most int) uint32 {
	if len(b) == 0 {
		return 0
	}
	if i, ok := t.ids[string(b)]; ok {
		t.all[i].n++
		return i
	}
	if t.size+len(b) > most {
		return 0
	}
	if t.ids == nil {
		t.ids, t.all = map[string]uint32{}, make([]interned, 1)
	}
	text := string(b)
	i := uint32(len(t.all))
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		t.all = append(t.all, interned{})
	}
	t.all[i] = interned{text, 1}
	t.ids[text] = i
	t.size += len(text)
	return i
}

// drop ends one use.
func (t *interner) drop(i uint32) {
	if i == 0 {
		return
	}
	if t.all[i].n--; t.all[i].n == 0 {
		t.size -= len(t.all[i].text)
		delete(t.ids, t.all[i].text)
		t.all[i] = interned{}
		t.free = append(t.free, i)
	}
}

// text returns what a number stands for.
func (t *interner) text(i uint32) string {
	if i == 0 {
		return ""
	}
	return t.all[i].text
}
