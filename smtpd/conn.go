package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/smtp"
)

const (
	// lineMax is the longest command line with its CRLF: 512 octets of RFC 5321
	// 4.5.3.1.4, and what the extensions add. To MAIL that is 26 for SIZE, 16 for
	// BODY, 10 for SMTPUTF8, 108 for DSN, 506 for AUTH, 17 for BY, 34 for HOLDFOR, 15
	// for MT-PRIORITY and 1009 for SOLICIT; to RCPT 528 for DSN and 33 for RRVS. One
	// limit for all verbs, with room to spare.
	lineMax = 3072
	// authMax is the longest line of an authentication with its CRLF. RFC 4954 4:
	// "12288 octets is considered to be a sufficient line length limit".
	authMax = 12288 + len("\r\n")
	// swallowMax is how much of a line over lineMax is read away to find its end.
	swallowMax = 1 << 20
	// readSize is the buffer of a connection at work. A line that fits lineMax fits.
	readSize = 4096
	// firstSize is all that a connection has which waits for a command: what comes
	// first is read into it. Most command lines fit, and the groups of short messages.
	firstSize = 256
	// gatherMax is how many octets of replies wait to be sent together.
	gatherMax = 4096
	// lingerMax and lingerTime are how much and how long we read on after a 421, so
	// that what the client sent meanwhile does not destroy the reply on its way.
	lingerMax  = 64 << 10
	lingerTime = time.Second
)

// Why no further command is read, beside the errors of the connection.
var (
	errTooLong     = errors.New("smtpd: command line too long")
	errAuthTooLong = errors.New("smtpd: line of an authentication too long")
	errEndless     = errors.New("smtpd: command line without an end")
	errDraining    = errors.New("smtpd: shutting down")
)

// A conn is one connection. One goroutine owns it; idle alone is shared.
type conn struct {
	server   *Server
	raw      net.Conn // as it was accepted
	nc       net.Conn // raw, or TLS over it
	client   Client
	via      netip.AddrPort  // who speaks: the client, or one who speaks for it by XCLIENT
	key      netip.Addr      // what the client is counted by, which Server.mu guards
	behind   bool            // via is a proxy that begins with a header
	heloTold string          // what XCLIENT has said in place of the name in EHLO
	proto    string          // and of the verb
	base     context.Context // ends when the server stops at once
	cancel   context.CancelFunc
	session  Session
	state    state
	upgrade  *tls.Config // STARTTLS was answered 220

	in       *bufio.Reader // of desk; nil: the connection waits for a command
	desk     *desk
	first    [firstSize]byte
	begun    bool   // the wait for the next line has begun, and its deadline stands
	pre      []byte // read already by a content reader: comes before the connection
	line     []byte // a command line that did not come in one piece
	deadline time.Time
	again    []byte    // a command line that ended a content, and is yet to be answered
	chunks   *chunks   // the content that comes by BDAT
	content  bool      // reading content, where the deadline is per read
	pace     pace      // of the content
	since    time.Time // when we last had a message of this client, or met it

	out      []byte // replies that wait to be sent
	utf8     bool   // the reply to the command at hand may hold UTF-8
	dead     error  // why there is nothing more to read, or to write
	deaf     bool   // the client does not take what we write
	quitting bool   // QUIT was said
	closing  bool   // a 421 was said
	hopeless bool   // nobody can tell what comes next from commands
	chunky   bool   // the line at hand begins as a BDAT does

	idle atomic.Bool // waiting for a command outside of a transaction
}

// serve speaks with the client to the end.
func (c *conn) serve(ctx context.Context) {
	defer c.close()
	ctx, c.cancel = context.WithCancel(ctx)
	defer c.cancel()
	c.since = time.Now()
	if c.guard(func() { c.talk(ctx) }) {
		c.bye(4, 3, 0, "Something went wrong here, try again later")
	}
	c.guard(c.closeSession)
	defer c.stand()
	// Nothing is left to flush after a handshake that failed, but for its alert.
	if c.flush() == nil && !c.quitting {
		c.linger()
	}
}

// guard runs f, and reports whether it panicked. The Alarm of the server hears
// of it; the process and all other connections go on.
func (c *conn) guard(f func()) (panicked bool) {
	defer func() {
		if v := recover(); v != nil {
			panicked = true
			c.server.alarm(&PanicError{Peer: c.client.Peer, Value: v, Stack: debug.Stack()})
		}
	}()
	f()
	return false
}

func (c *conn) talk(ctx context.Context) {
	if c.behind && !c.proxy() || c.server.Implicit && !c.implicit() || !c.greet(ctx) {
		return
	}
	for c.await() && c.next(ctx) {
	}
}

// A desk is what a connection needs while it has something to do.
type desk struct {
	in  *bufio.Reader
	out []byte
}

// sit takes a desk.
func (c *conn) sit() {
	d, ok := c.server.desks.Get().(*desk)
	if !ok {
		d = &desk{in: bufio.NewReaderSize(nil, readSize)}
	}
	d.in.Reset(c)
	c.desk, c.in, c.out = d, d.in, append(d.out[:0], c.out...)
}

// stand gives the desk back, with all that is on it.
func (c *conn) stand() {
	if d := c.desk; d != nil {
		d.in.Reset(nil)
		if d.out = c.out[:0]; cap(d.out) > 2*gatherMax {
			d.out = nil
		}
		c.server.desks.Put(d)
	}
	c.desk, c.in, c.out, c.line = nil, nil, nil, nil
}

// await waits until there is something to read, and reports whether there is. Most
// connections of a server wait most of the time, so that what one has while it waits
// is what the server needs memory for: no buffer, and, because this is called from
// near the bottom of the stack, no more than the least of stacks.
func (c *conn) await() bool {
	if c.desk == nil {
		c.sit()
	}
	if c.again != nil || len(c.pre) > 0 || c.in.Buffered() > 0 {
		return true
	}
	if c.flush() != nil {
		return false
	}
	c.stand()
	c.deadline, c.begun = time.Time{}, true
	n, err := 0, error(nil)
	// A client that sends an octet now and then costs no more than one that is silent.
	for more := true; more && err == nil; {
		var k int
		k, err = c.Read(c.first[n:])
		more = n+k < len(c.first) && bytes.IndexByte(c.first[n:n+k], '\n') < 0
		n += k
	}
	c.sit()
	if err != nil {
		c.lost(err)
		return false
	}
	c.pre = c.first[:n]
	return true
}

// greet opens the session and sends the greeting.
func (c *conn) greet(ctx context.Context) bool {
	r := c.openSession(ctx)
	if r.IsZero() {
		c.state.phase = greeted
		r = smtp.Reply{Code: 220, Text: c.server.hostname() + " ESMTP"}
		if c.client.LMTP {
			r.Text = c.server.hostname() + " LMTP"
		}
		if c.server.Software != "" {
			r.Text += " " + c.server.Software
		}
	}
	c.answer(r, false)
	return r.Code != 421
}

// openSession asks the Handler for a session, and returns the zero Reply if there
// is one to use, and else what the client hears of it.
func (c *conn) openSession(ctx context.Context) smtp.Reply {
	session, r := c.server.Handler.Open(ctx, c.client)
	c.session = session
	switch {
	case !r.IsZero() && !r.Positive():
		return final(r)
	case session == nil:
		return c.farewell(4, 3, 0, "No session here, try again later")
	}
	return smtp.Reply{}
}

// closeSession ends the session in the order that it was promised.
func (c *conn) closeSession() {
	if c.session == nil {
		return
	}
	session := c.session
	c.session = nil
	defer session.Close()
	if c.state.open() {
		session.Reset()
	}
}

// next answers one command, and reports whether there is another.
func (c *conn) next(ctx context.Context) bool {
	line, err := c.again, error(nil)
	if c.again = nil; line == nil {
		line, err = c.readLine(lineMax)
	}
	if err != nil && err != errTooLong && err != errAuthTooLong {
		c.lost(err)
		return false
	}
	r, group := smtp.Reply{}, false
	cmd, bad := smtp.Command{}, (*smtp.Reply)(nil)
	if err == errTooLong {
		r = *no(500, 5, 2, "Command line too long")
		c.hopeless = c.hopeless || c.chunky
	} else if err != nil {
		r = *authTooLong
	} else if cmd, bad = smtp.ParseCommand(line); bad != nil {
		r = *bad
		c.hopeless = c.hopeless || isChunk(line)
	} else if isHTTP(cmd.Verb) {
		c.bye(4, 7, 0, "This is SMTP, and you speak HTTP")
		return false
	} else if v, bad := c.state.begin(cmd); bad != nil {
		r, group = *bad, v != nil && v.group
		if cmd.Verb == "BDAT" {
			r = c.swallow(cmd.Arg, r)
		}
	} else if v.resets && c.state.phase == chunking {
		// First the content ends, and then this is answered as ever.
		c.again = append([]byte(nil), line...)
		return false
	} else {
		r, group = v.run(c, ctx, cmd.Arg), v.group
	}
	if c.dead != nil {
		c.lost(c.dead)
		return false
	}
	if r.Code != unsaid.Code {
		c.answer(r, group)
	}
	if c.hopeless && !c.closing && (c.chunks == nil || !c.chunks.fresh) {
		c.bye(4, 7, 0, "What follows that BDAT cannot be told from commands")
		return false
	}
	if words := c.weary(cmd.Verb, r); words != "" {
		c.bye(4, 7, 0, words)
		return false
	}
	if c.quitting || c.closing || r.Code == 421 || c.dead != nil {
		return false
	}
	return c.upgrade == nil || c.secure(ctx)
}

// lost says goodbye to a client that does not go on, if it can still hear it.
func (c *conn) lost(err error) {
	switch {
	case c.closing:
	case errors.Is(err, errDraining):
		c.bye(4, 3, 2, "Shutting down, try again later")
	case errors.Is(err, errEndless):
		c.bye(4, 7, 0, "That line has no end")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.bye(4, 4, 2, "Timeout")
	}
}

// bye puts a 421 into the last replies.
func (c *conn) bye(class uint8, subject, detail uint16, text string) {
	c.closing = true
	c.out = c.farewell(class, subject, detail, text).AppendTo(c.out)
}

// farewell makes a 421.
func (c *conn) farewell(class uint8, subject, detail uint16, text string) smtp.Reply {
	return smtp.Reply{
		Code:   421,
		Status: smtp.Status{Class: class, Subject: subject, Detail: detail},
		Text:   c.server.hostname() + " " + text,
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
	if c.deaf {
		return c.dead
	}
	if len(c.out) == 0 {
		return nil
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.server.writeTimeout()))
	if c.base.Err() != nil {
		_ = c.raw.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		c.deaf = true
		return c.die(err)
	}
	return nil
}

// die notes why the connection can no longer be used, and ends the context of
// the session.
func (c *conn) die(err error) error {
	if c.dead == nil {
		c.dead = err
		c.cancel()
	}
	return err
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
	c.line = c.line[:0]
	tooLong, cr := false, false
	for size := 0; ; {
		part, err := c.in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		n := len(part)
		if size == 0 {
			c.chunky = isChunk(part)
			if limit == lineMax && c.isAuth(part) {
				limit = authMax
			}
		}
		size += n
		end := err == nil && (n > 1 && part[n-2] == '\r' || n == 1 && cr)
		cr = part[n-1] == '\r'
		tooLong = tooLong || size > limit
		switch {
		case end && tooLong:
			c.line = nil
			if limit == authMax {
				return nil, errAuthTooLong
			}
			return nil, errTooLong
		case end && size == n:
			return part[:n-2], nil
		case size > swallowMax:
			return nil, errEndless
		case !tooLong:
			c.line = append(c.line, part...)
		}
		if end {
			return c.line[:len(c.line)-2], nil
		}
	}
}

// Read is the source of c.in. It is called when there is nothing left to work
// on, and that is when the gathered replies go out.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.pre) > 0 {
		n := copy(p, c.pre)
		c.pre = c.pre[n:]
		return n, nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.dead != nil {
		return 0, c.dead
	}
	idle := !c.content && !c.state.open()
	for {
		if c.content {
			c.deadline = time.Now().Add(c.pace.patience(c.server.dataTimeout()))
		} else if c.deadline.IsZero() {
			c.deadline = time.Now().Add(c.server.commandTimeout())
		}
		// TLS may have to write in order to read.
		_ = c.raw.SetDeadline(c.deadline)
		c.idle.Store(idle)
		if c.base.Err() != nil || idle && c.server.draining() {
			return 0, c.die(errDraining)
		}
		begin := time.Now()
		n, err := c.nc.Read(p)
		c.idle.Store(false)
		if c.content {
			c.pace.read(n, time.Since(begin))
		}
		if err == nil || n > 0 {
			return n, nil
		}
		// A deadline that is not ours wakes a connection to look at what it waits
		// for; it may have come late, to a transaction.
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(c.deadline) {
			continue
		}
		return 0, c.die(err)
	}
}

// close ends the connection; TLS with a close_notify, unless the client is known
// to take nothing more.
func (c *conn) close() {
	if c.deaf {
		_ = c.raw.Close()
		return
	}
	_ = c.nc.Close()
}

// linger reads on for a moment before the connection is closed, where the
// kernel would answer unread input with a reset.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || c.base.Err() != nil || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, lingerMax)
}
