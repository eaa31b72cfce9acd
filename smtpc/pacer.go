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
// To set a deadline costs as much as half a read. So one that was set stays while it
// comes before the one that is wanted; where it passes, what was interrupted goes on
// with that.
type pacer struct {
	conn    net.Conn
	timeout time.Duration // of a write
	until   time.Time     // for reads
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
func stays(set, want, now time.Time) bool { return set.After(now) && !set.After(want) }

func (p *pacer) Write(b []byte) (int, error) {
	now := time.Now()
	want := p.bound(now.Add(p.timeout))
	if p.once || !stays(p.write, want, now) {
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
	want := p.bound(p.until)
	if !stays(p.read, want, time.Now()) {
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
