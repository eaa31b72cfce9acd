package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"os"
	"time"

	"github.com/postrider/postrider/smtp"
)

const (
	// readSize is the buffer of a connection at work, and contentSize that of one whose
	// content comes, or a line of an authentication.
	readSize    = 4096
	contentSize = 32 << 10
	// firstSize is all the buffer that a connection has which waits: what comes first
	// is read into it.
	firstSize = 64
	// briefly is how long a connection waits with all that it has in hand, at the least,
	// before it puts it down: a client that is at work is waited for at no cost.
	briefly = 100 * time.Millisecond
)

// errSlow: nothing has come for a while, and nothing is wrong.
var errSlow = errors.New("smtpd: nothing has come yet")

// A desk is what a connection needs while it has something to do, and gives back
// while it waits for a client that thinks. Most connections of a server wait most of
// the time, so that what one has then is what the server needs memory for.
type desk struct {
	buf      []byte // what was read and not used yet is buf[r:w]; nil: it was given back
	r, w     int
	out      []byte // replies that wait to be sent
	again    []byte // a command line that ended a content, and is yet to be answered
	chunks   *chunks
	content  bool // reading content, where the deadline is per read
	away     bool // what comes of it is thrown away
	pace     pace // of the content
	began    time.Time
	due      time.Time   // when reads are woken, if that is known
	writeBy  time.Time   // when writes fail, if that is known
	utf8     bool        // the reply to the command at hand may hold UTF-8
	hopeless bool        // nobody can tell what comes next from commands
	chunky   bool        // the line at hand begins as a BDAT does
	upgrade  *tls.Config // STARTTLS was answered 220
}

// sit takes a desk, and lays on it what has come.
func (c *conn) sit() {
	if c.desk != nil {
		return
	}
	d, ok := c.server.desks.Get().(*desk)
	if !ok {
		d = &desk{}
	}
	c.desk = d
	c.resize(readSize)
	c.w = copy(c.buf, c.first[:c.have])
	c.have = 0
}

// stand gives the desk back, with all that is on it.
func (c *conn) stand() {
	d := c.desk
	if d == nil {
		return
	}
	c.resize(0)
	*d = desk{out: d.out[:0]}
	if cap(d.out) > 2*gatherMax {
		d.out = nil
	}
	c.desk = nil
	c.server.desks.Put(d)
}

// resize takes a buffer of another size, one of readSize and contentSize, and puts
// what is in hand into it; 0: none, and nothing is in hand.
func (c *conn) resize(size int) {
	if len(c.buf) == size {
		return
	}
	old, buf := c.buf, c.server.buffer(size)
	n := copy(buf, old[c.r:c.w])
	c.buf, c.r, c.w = buf, 0, n
	switch len(old) {
	case readSize:
		c.server.small.Put((*[readSize]byte)(old))
	case contentSize:
		c.server.large.Put((*[contentSize]byte)(old))
	}
}

func (s *Server) buffer(size int) []byte {
	switch size {
	case readSize:
		b, ok := s.small.Get().(*[readSize]byte)
		if !ok {
			b = new([readSize]byte)
		}
		return b[:]
	case contentSize:
		b, ok := s.large.Get().(*[contentSize]byte)
		if !ok {
			b = new([contentSize]byte)
		}
		return b[:]
	}
	return nil
}

// await waits for a command line, and reports whether the connection goes on. It
// does not where the client takes its time: then the connection is at rest, and its
// goroutine may end.
func (c *conn) await() bool {
	if len(c.buf) > readSize && c.w-c.r <= readSize {
		c.resize(readSize)
	}
	if c.again != nil {
		return true
	}
	// A client that sends an octet now and then costs no more than one that is silent.
	for c.w-c.r < firstSize && bytes.IndexByte(c.buf[c.r:c.w], '\n') < 0 {
		if !c.begun {
			c.deadline, c.begun = time.Time{}, true
		}
		if c.flush() != nil {
			return false
		}
		c.room()
		n, err := c.receive(c.buf[c.w:], false)
		switch c.w += n; {
		case err == errSlow:
			c.have = copy(c.first[:], c.buf[c.r:c.w])
			c.stand()
			c.resting = true
			return false
		case err != nil:
			c.lost(err)
			return false
		}
	}
	return true
}

// rest waits on, with nothing in hand and on the least of stacks, until there is
// something to do or the end of the connection.
func (c *conn) rest() {
	for c.dead == nil && c.have < len(c.first) && bytes.IndexByte(c.first[:c.have], '\n') < 0 {
		n, _ := c.receive(c.first[c.have:], true) // c.dead has the error
		c.have += n
	}
}

// room makes room behind what is in hand.
func (c *conn) room() {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.w < len(c.buf):
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	default:
		c.resize(contentSize)
	}
}

// fill reads more behind what is in hand. It is called when there is nothing left
// to work on, and that is when the gathered replies go out.
func (c *conn) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.away && c.overdue() {
		return c.die(errNoMail)
	}
	c.room()
	n, err := c.receive(c.buf[c.w:], false)
	if err == errSlow && c.r == c.w {
		size := len(c.buf)
		c.resize(0)
		n, err = c.receive(c.first[:], true)
		c.resize(size)
		copy(c.buf, c.first[:n])
	} else if err == errSlow {
		n, err = c.receive(c.buf[c.w:], true)
	}
	c.w += n
	if c.content {
		c.pace.read(n, time.Since(c.began))
		c.deadline = time.Time{}
	}
	return err
}

// skip reads octets away, amid a content.
func (c *conn) skip(n int64) error {
	c.away = true
	for {
		k := min(n, int64(c.w-c.r))
		c.r, n = c.r+int(k), n-k
		if n == 0 {
			return nil
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// receive reads once, and waits for that: until c.deadline, which it sets if it is
// zero, or if it is not patient until errSlow.
func (c *conn) receive(p []byte, patient bool) (int, error) {
	if c.dead != nil {
		return 0, c.dead
	}
	now := time.Now()
	began := now
	if c.deadline.IsZero() {
		c.deadline = now.Add(c.server.commandTimeout())
		if c.desk != nil && c.content {
			c.began, c.deadline = now, now.Add(c.pace.patience(c.server.dataTimeout()))
		}
	}
	idle := (c.desk == nil || !c.content) && !c.state.open()
	for {
		c.arm(now, patient)
		c.idle.Store(idle)
		if c.base.Err() != nil || idle && c.server.draining() {
			return 0, c.die(errDraining)
		}
		n, err := c.nc.Read(p)
		c.idle.Store(false)
		if err == nil || n > 0 {
			return n, nil
		}
		// A deadline that is not that of the client wakes a connection to look at what it
		// waits for; it may have come late, to a transaction.
		if now = time.Now(); !errors.Is(err, os.ErrDeadlineExceeded) || !now.Before(c.deadline) {
			return 0, c.die(err)
		}
		if c.desk != nil {
			c.due = time.Time{}
		}
		if !patient && now.Sub(began) >= briefly {
			return 0, errSlow
		}
	}
}

// arm sets the deadline of the reads to come. One that wakes us early and does no
// harm stands, so that a client at work costs one for many of its reads.
func (c *conn) arm(now time.Time, patient bool) {
	due := c.deadline
	if soon := now.Add(briefly); !patient && soon.Before(due) {
		due = soon
	}
	if c.desk == nil {
		_ = c.raw.SetDeadline(due)
		return
	}
	if c.due.After(now) && !c.due.After(due) && !patient {
		return
	}
	c.due = due
	if _, secure := c.nc.(*tls.Conn); secure { // TLS may have to write in order to read
		_ = c.raw.SetDeadline(c.deadline)
		c.writeBy = time.Time{}
	}
	_ = c.raw.SetReadDeadline(due)
}

// armWrite sets the deadline of the writes to come, if the one that stands leaves a
// client less time than it has. It may have a little more.
func (c *conn) armWrite() {
	now, timeout := time.Now(), c.server.writeTimeout()
	if c.writeBy.Sub(now) < timeout {
		c.writeBy = now.Add(timeout + timeout/16)
		_ = c.raw.SetWriteDeadline(c.writeBy)
	}
	if c.base.Err() != nil {
		_ = c.raw.SetWriteDeadline(now.Add(lingerTime))
		c.writeBy = time.Time{}
	}
}

// disarm takes note of a deadline that was set for something else than a command.
func (c *conn) disarm() {
	if c.desk != nil {
		c.due, c.writeBy = time.Time{}, time.Time{}
	}
}

// readLine reads a line and returns it without its CRLF, valid until the next
// read. It may have limit octets with the CRLF, and authMax if it is an AUTH
// command. Only CRLF ends it. The deadline is that of the whole line, so
// that a client which sends an octet now and then gains nothing by it.
func (c *conn) readLine(limit int) ([]byte, error) {
	if !c.begun {
		c.deadline = time.Time{}
	}
	c.begun = false
	seen, dropped := 0, 0 // octets of the line: in hand, and thrown away
	for {
		lf := bytes.IndexByte(c.buf[c.r+seen:c.w], '\n')
		if lf < 0 {
			seen = c.w - c.r
		} else {
			seen += lf + 1
		}
		line := c.buf[c.r : c.r+seen]
		end := lf >= 0 && seen > 1 && line[seen-2] == '\r'
		if dropped == 0 && (end || seen > limit) {
			c.chunky = isChunk(line)
			if limit == lineMax && c.isAuth(line) {
				limit = authMax
			}
		}
		tooLong := dropped+seen > limit
		switch {
		case end:
			c.r += seen
			if !tooLong {
				return line[:seen-2], nil
			} else if limit == authMax {
				return nil, errAuthTooLong
			}
			return nil, errTooLong
		case dropped+seen > swallowMax:
			return nil, errEndless
		case tooLong: // what may be half of its end stays
			dropped, c.r, seen = dropped+seen-1, c.r+seen-1, 1
		}
		if lf >= 0 {
			continue // alone it ends nothing
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// answer gathers a reply. It is sent now unless it is of a group, and else with
// those after it just before we would wait for the client: RFC 2920 3.2: the
// server "MUST send all pending responses immediately whenever the local TCP
// input buffer is emptied".
func (c *conn) answer(r smtp.Reply, group bool) {
	if c.utf8 {
		c.out, c.utf8 = r.AppendUTF8(c.out), false
	} else {
		c.out = r.AppendTo(c.out)
	}
	if !group || len(c.out) > gatherMax {
		_ = c.flush() // c.dead has it
	}
}

// flush sends what was gathered. A client that does not read is given up after
// the write timeout.
func (c *conn) flush() error {
	switch {
	case c.deaf:
		return c.dead
	case c.desk == nil || len(c.out) == 0:
		return nil
	}
	c.armWrite()
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.deaf = true
		return c.die(err)
	}
	return nil
}
