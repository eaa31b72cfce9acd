package vfs

// sector is what a disk writes whole or not at all, in octets.
const sector = 512

// pageSize is the unit in which Mem keeps content. What was never written has no page.
const pageSize = 4096

// A content is the octets of a file. Pages that nobody wrote are zeros and take
// no memory. Pages may be shared with a clone; the owner mark tells.
type content struct {
	size  int64
	pages map[int64]*page
	owner *mark
}

// A mark is an identity. It has a size so that no two are at one address.
type mark struct{ _ byte }

type page struct {
	owner *mark
	data  [pageSize]byte
}

func newContent() *content {
	return &content{pages: map[int64]*page{}, owner: new(mark)}
}

// clone returns an independent copy; pages are copied when either side writes.
func (c *content) clone() *content {
	c.owner = new(mark)
	d := &content{size: c.size, pages: make(map[int64]*page, len(c.pages)), owner: new(mark)}
	for i, p := range c.pages {
		d.pages[i] = p
	}
	return d
}

// own returns page i for writing.
func (c *content) own(i int64) *page {
	p := c.pages[i]
	switch {
	case p == nil:
		p = &page{owner: c.owner}
	case p.owner != c.owner:
		p = &page{owner: c.owner, data: p.data}
	default:
		return p
	}
	c.pages[i] = p
	return p
}

// readAt returns how many octets there were, which is less than len(b) at the end.
func (c *content) readAt(b []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	b = b[:min(int64(len(b)), c.size-off)]
	for done := 0; done < len(b); {
		at := off + int64(done)
		part := b[done:min(len(b), done+int(pageSize-at%pageSize))]
		if p := c.pages[at/pageSize]; p != nil {
			copy(part, p.data[at%pageSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(b)
}

func (c *content) writeAt(b []byte, off int64) {
	c.size = max(c.size, off+int64(len(b)))
	for len(b) > 0 {
		n := copy(c.own(off / pageSize).data[off%pageSize:], b)
		b, off = b[n:], off+int64(n)
	}
}

// truncate sets the size. What lies past it is gone, and reads as zeros if the
// size grows again.
func (c *content) truncate(size int64) {
	if size < c.size {
		for i := range c.pages {
			if i*pageSize >= size {
				delete(c.pages, i)
			}
		}
		if i := size / pageSize; c.pages[i] != nil {
			clear(c.own(i).data[size%pageSize:])
		}
	}
	c.size = size
}

// A fate says what is known of a change that was not seen to reach the disk.
type fate uint8

const (
	pending fate = iota // the next sync takes it
	lost                // a sync failed: no later one takes it, and yet it may be on the disk
	sure                // synced; it waits only because a lost change comes before it
)

// A change is one write, growth or cut of a file.
type change struct {
	seq  uint64
	kind changeKind
	fate fate
	off  int64  // of a write
	data []byte // of a write
	size int64  // of growth and cut
}

type changeKind uint8

const (
	changeWrite changeKind = iota
	changeGrow             // the size becomes size if it was less
	changeCut              // the size becomes size
)

func (c *content) apply(ch change) {
	switch ch.kind {
	case changeWrite:
		c.writeAt(ch.data, ch.off)
	case changeGrow:
		c.size = max(c.size, ch.size)
	case changeCut:
		c.truncate(ch.size)
	}
}
