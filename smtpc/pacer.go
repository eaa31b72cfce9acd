package smtpc

import (
	"crypto/tls"
	"net"
	"time"
)

// A pacer gives each write to the connection its own time, and all reads of a
// reply one. RFC 5321 4.5.3.2.5: the first bounds "the completion of each TCP SEND
// call transmitting a chunk of data".
//
// To set a deadline costs as much as half a read, and to ask the time is not free
// either. So one that was set stays while it comes before the one that is wanted,
// also when it has passed: what it interrupts goes on with the one that is wanted.
type pacer struct {
	conn    net.Conn
	timeout time.Duration // of a write
	wait    time.Duration // for a reply
	since   time.Time     // when that wait began; zero: with its first read
	wrote   time.Time     // when the last write began
	end     time.Time     // of the transaction; zero: none

	once        bool // a write that was interrupted cannot go on: TLS
	read, write time.Time
}

func newPacer(conn net.Conn) *pacer {
	_, over := conn.(*tls.Conn)
	return &pacer{conn: conn, once: over}
}

// bound is t, or the end of the transaction if that is before.
func (p *pacer) bound(t time.Time) time.Time {
	if !p.end.IsZero() && p.end.Before(t) {
		return p.end
	}
	return t
}

// stays reports whether a deadline that was set does, where another is wanted.
func stays(set, want time.Time) bool { return !set.IsZero() && !set.After(want) }

func (p *pacer) Write(b []byte) (int, error) {
	p.wrote = time.Now()
	want := p.bound(p.wrote.Add(p.timeout))
	if p.once || !stays(p.write, want) {
		p.conn.SetWriteDeadline(want)
		p.write = want
	}
	n, err := p.conn.Write(b)
	if early(err, p.write, want) {
		p.conn.SetWriteDeadline(want)
		p.write = want
		var more int
		more, err = p.conn.Write(b[n:])
		n += more
	}
	return n, err
}

// Read is called where no reply, or not all of one, has come yet.
func (p *pacer) Read(b []byte) (int, error) {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	want := p.bound(p.since.Add(p.wait))
	if !stays(p.read, want) {
		p.conn.SetReadDeadline(want)
		p.read = want
	}
	n, err := p.conn.Read(b)
	if n == 0 && early(err, p.read, want) {
		p.conn.SetReadDeadline(want)
		p.read = want
		n, err = p.conn.Read(b)
	}
	return n, err
}

// early reports whether a deadline has passed that is not the one that is wanted.
func early(err error, set, want time.Time) bool {
	if err == nil || !set.Before(want) {
		return false
	}
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}
