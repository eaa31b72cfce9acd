package journal

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// The payload of a record is an event, field by field. Another set of fields
// needs another recordMagic.

type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) str(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) path(p smtp.Path) { e.str(p.Local); e.str(p.Domain) }

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.int(0)
		return
	}
	e.int(t.UnixNano())
}

// appendEvent appends the payload of an event, without its LSN.
func appendEvent(b []byte, ev *postrider.Event) []byte {
	e := encoder{b}
	e.uint(uint64(ev.Kind))
	e.time(ev.Time)
	e.str(string(ev.ID))
	e.path(ev.From)
	e.int(ev.Size)
	s := &ev.Source
	peer, _ := s.Peer.MarshalBinary()
	for _, v := range [...]string{s.Listener, string(peer), s.Hello, s.Protocol, s.Account, s.TLS, ev.HeaderID} {
		e.str(v)
	}
	e.uint(uint64(len(ev.Tos)))
	for _, to := range ev.Tos {
		e.path(to)
	}
	e.int(int64(ev.Rcpt))
	e.path(ev.To)
	e.str(string(ev.Dest))
	e.uint(uint64(ev.State))
	e.int(int64(ev.Tries))
	e.time(ev.Next)
	e.int(int64(ev.Reply.Code))
	e.uint(uint64(ev.Reply.Status.Class))
	e.uint(uint64(ev.Reply.Status.Subject))
	e.uint(uint64(ev.Reply.Status.Detail))
	e.str(ev.Reply.Text)
	e.str(ev.Remote)
	e.time(ev.Arrived)
	e.uint(uint64(ev.Amend))
	e.str(string(ev.Report))
	return e.b
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	return v * d.took(n)
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	return v * int64(d.took(n))
}

// took goes on by n octets, and returns 1; 0 if they are not there.
func (d *decoder) took(n int) uint64 {
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return 1
}

func (d *decoder) str() string {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) path() smtp.Path { return smtp.Path{Local: d.str(), Domain: d.str()} }

func (d *decoder) time() time.Time {
	if n := d.int(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

var errPayload = errors.New("journal: a record does not decode")

// decodeEvent reads the event of a record.
func decodeEvent(r *record) (postrider.Event, error) {
	d := decoder{b: r.payload}
	ev := postrider.Event{LSN: r.lsn, Kind: postrider.EventKind(d.uint()), Time: d.time(), ID: postrider.ID(d.str()), From: d.path(), Size: d.int()}
	s := &ev.Source
	s.Listener = d.str()
	peer := d.str()
	s.Hello, s.Protocol, s.Account, s.TLS, ev.HeaderID = d.str(), d.str(), d.str(), d.str(), d.str()
	var at netip.AddrPort
	if peer != "" && at.UnmarshalBinary([]byte(peer)) == nil {
		s.Peer = at
	}
	n := d.uint()
	if n > uint64(len(d.b)) { // each takes two octets at least
		return ev, errPayload
	}
	if n > 0 {
		ev.Tos = make([]smtp.Path, n)
	}
	for i := range ev.Tos {
		ev.Tos[i] = d.path()
	}
	ev.Rcpt, ev.To, ev.Dest = int(d.int()), d.path(), postrider.Dest(d.str())
	ev.State, ev.Tries, ev.Next = postrider.State(d.uint()), int(d.int()), d.time()
	ev.Reply.Code = int(d.int())
	ev.Reply.Status = smtp.Status{Class: uint8(d.uint()), Subject: uint16(d.uint()), Detail: uint16(d.uint())}
	ev.Reply.Text, ev.Remote, ev.Arrived = d.str(), d.str(), d.time()
	ev.Amend, ev.Report = postrider.Amend(d.uint()), postrider.ID(d.str())
	if d.bad || len(d.b) != 0 {
		return ev, errPayload
	}
	return ev, nil
}
