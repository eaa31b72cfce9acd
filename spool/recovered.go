package spool

import (
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Recovered is messages whose recipients have no queue yet, with their addresses:
// they are needed once, for the first Rekey, and there may be millions.
type recovered struct {
	all    []unkeyed // in the order of the log; some are gone since
	chunks [][]byte
}

// An unkeyed is a message, and where its addresses begin.
type unkeyed struct {
	e     handle
	chunk uint32
	off   uint32
}

// chunkMin and chunkMax are how many octets of addresses are taken at once, first
// and in the end.
const (
	chunkMin = 16 << 10
	chunkMax = 1 << 20
)

// add keeps encoded addresses.
func (r *recovered) add(h handle, tos []byte) {
	n := len(r.chunks)
	if n == 0 || len(r.chunks[n-1])+len(tos) > cap(r.chunks[n-1]) {
		r.chunks = append(r.chunks, make([]byte, 0, max(min(chunkMin<<min(n, 6), chunkMax), len(tos))))
		n++
	}
	last := &r.chunks[n-1]
	r.all = append(r.all, unkeyed{h, uint32(n - 1), uint32(len(*last))})
	*last = append(*last, tos...)
}

// each goes through the messages.
func (r *recovered) each(yield func(h handle, tos []smtp.Path)) {
	for _, u := range r.all {
		d := decoder{b: r.chunks[u.chunk][u.off:]}
		tos := make([]smtp.Path, d.uint())
		for i := range tos {
			tos[i] = d.path()
		}
		yield(u.e, tos)
	}
}

// keepTos keeps the addresses of a message for the first Rekey. Those of messages
// that were dropped go when they are as many as the others.
func (s *Spool) keepTos(e *entry, m *postrider.Message) {
	w := encoder{s.scratch[:0]}
	w.uint(uint64(len(m.Recipients)))
	for i := range m.Recipients {
		w.path(m.Recipients[i].To)
	}
	s.scratch = w.b
	s.keepEncoded(e, w.b)
}

func (s *Spool) keepEncoded(e *entry, tos []byte) {
	if len(s.recovered.all) >= 2*s.slab.n+1024 {
		was := s.recovered
		s.recovered = recovered{}
		for _, u := range was.all {
			if s.slab.at(u.e) == nil {
				continue
			}
			b := was.chunks[u.chunk][u.off:]
			d := decoder{b: b}
			for range d.uint() {
				d.bytes()
				d.bytes()
			}
			s.recovered.add(u.e, b[:len(b)-len(d.b)])
		}
	}
	s.recovered.add(e.handle(), tos)
}
