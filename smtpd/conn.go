package smtpd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
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
	errNoMail      = errors.New("smtpd: no message for too long")
)

// A conn is one connection. One goroutine owns it at a time; idle alone is shared.
// The fields are all that a connection has which waits for a command, so that there
// are no more of them than it needs.
type conn struct {
	server  *Server
	raw     net.Conn // as it was accepted
	nc      net.Conn // raw, or TLS over it
	client  Client
	key     netip.Addr      // what the client is counted by, which Server.mu guards
	told    *told           // what XCLIENT has said; nil: nothing
	base    context.Context // ends when the server stops at once
	ended   *sync.WaitGroup // knows of the connection until it has ended
	ctx     context.Context // of the session
	cancel  context.CancelFunc
	session Session
	state   state

	*desk    // nil: the connection is at rest
	first    [firstSize]byte
	have     int       // octets of first that are the beginning of a line
	deadline time.Time // of the client; zero: it begins with the next wait
	since    time.Time // when we last had a message of this client, or met it

	dead     error // why there is nothing more to read, or to write
	begun    bool  // the wait for the next line has begun, and its deadline stands, also at rest
	behind   bool  // who has connected is a proxy that begins with a header
	resting  bool  // at rest, and not at an end
	deaf     bool  // the client does not take what we write
	quitting bool  // QUIT was said
	closing  bool  // a 421 was said

	idle atomic.Bool // waiting for a command outside of a transaction
}

// run speaks with the client until it is at rest, and goes on in a goroutine of its
// own when it is not, one with as small a stack as there is; or to the end.
func (c *conn) run() {
	if c.resting {
		c.rest()
	}
	if c.work() {
		go c.run()
		return
	}
	c.end()
	c.server.forget(c)
	c.ended.Done()
}

// work speaks with the client, and reports whether the connection is at rest then.
func (c *conn) work() (resting bool) {
	if c.guard(c.talk) {
		c.resting = false
		c.bye(4, 3, 0, "Something went wrong here, try again later")
	}
	return c.resting
}

// end is the end of a connection.
func (c *conn) end() {
	defer c.close()
	defer c.cancel()
	defer c.stand()
	c.guard(c.closeSession)
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

func (c *conn) talk() {
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancel(c.base)
		c.since = time.Now()
		if c.behind && !c.proxy() || c.server.Implicit && !c.implicit() || !c.greet(c.ctx) {
			return
		}
	}
	c.sit()
	if c.resting = false; c.dead != nil {
		c.lost(c.dead)
		return
	}
	for c.await() && c.next(c.ctx) {
	}
}

// greet opens the session and sends the greeting.
func (c *conn) greet(ctx context.Context) bool {
	c.sit()
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
	case errors.Is(err, errNoMail):
		c.bye(4, 7, 0, noMail)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.bye(4, 4, 2, "Timeout")
	}
}

// bye puts a 421 into the last replies.
func (c *conn) bye(class uint8, subject, detail uint16, text string) {
	c.closing = true
	c.sit()
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

// die notes why the connection can no longer be used, and ends the context of
// the session.
func (c *conn) die(err error) error {
	if c.dead == nil {
		c.dead = err
		c.cancel()
	}
	return err
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
