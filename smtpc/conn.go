// Package smtpc is the client side of SMTP and LMTP (RFC 5321, RFC 2033). Give it a
// connection: NewConn reads the greeting and learns the extensions, StartTLS and Login
// do what their names say, Send makes one transaction after another, and Quit ends it.
// It dials nothing and decides nothing: which host is asked, and what becomes of a
// message that was refused, is for the caller.
//
// Send returns a Result with the reply of each stage; Result.Decides names the one that
// counts for a recipient. A refusal is no error: Err is what broke, and Uncertain says
// that the peer may have the message all the same. What the peer offers is used:
// PIPELINING (RFC 2920), CHUNKING (RFC 3030), SIZE, and the parameters of a Transaction.
// Those that only inform are left out where they are not offered; without the others
// there is a *NeedError.
//
// Every reply is bounded in length, every wait in time. A peer whose replies
// cannot be read, or come before they were asked for, loses the connection and
// never the message.
package smtpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// Options of a connection.
type Options struct {
	Hello string // our name in EHLO; empty: the address literal of our end
	// TLS is spoken from the first octet (RFC 8314 3.3); nil: only after StartTLS.
	TLS      *tls.Config
	LMTP     bool // the peer delivers, and answers for each recipient (RFC 2033)
	Timeouts Timeouts
	// ChunkSize is the octets of a chunk of BDAT (RFC 3030); 0: 256 KiB. Two of them
	// are in memory while a content goes so.
	ChunkSize int
}

// Timeouts bound the waits of a connection. A zero duration is the minimum of
// RFC 5321 4.5.3.2.
type Timeouts struct {
	Greeting time.Duration // 5 minutes
	TLS      time.Duration // the handshake: 1 minute
	Command  time.Duration // EHLO, AUTH, MAIL, RCPT, RSET, NOOP: 5 minutes
	Data     time.Duration // until the reply to DATA: 2 minutes
	Block    time.Duration // until a chunk of data is sent: 3 minutes
	Final    time.Duration // until the reply to the final dot: 10 minutes
	Quit     time.Duration // QUIT and its reply: 10 seconds; nothing hangs on it
}

func (t Timeouts) orDefaults() Timeouts {
	for _, f := range []struct {
		d   *time.Duration
		std time.Duration
	}{
		{&t.Greeting, 5 * time.Minute}, {&t.TLS, time.Minute}, {&t.Command, 5 * time.Minute}, {&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Final, 10 * time.Minute}, {&t.Quit, 10 * time.Second},
	} {
		if *f.d <= 0 {
			*f.d = f.std
		}
	}
	return t
}

// Errors of a connection, found in Error.Err.
var (
	// ErrUnasked: the peer sent a reply that no command had asked for, so that
	// no later reply could be trusted to answer its command.
	ErrUnasked = errors.New("the peer sent a reply that was not asked for")
	// ErrUnexpected: the peer sent a reply whose code makes no sense there.
	ErrUnexpected = errors.New("the peer sent a reply that makes no sense here")
	// ErrClosed: the connection was ended before.
	ErrClosed = errors.New("the connection is closed")
)

// A Conn is a connection to a server that has taken our hello. Its methods are
// called one at a time. Cancelling the context of any of them closes it.
type Conn struct {
	raw      net.Conn // as it was given to us
	conn     net.Conn // raw, or TLS over it
	r        *bufio.Reader
	out      *pacer
	timeouts Timeouts
	name     string // ours
	lmtp     bool
	tls      *tls.ConnectionState // nil: in the clear
	exts     map[string]string    // by keyword in upper case: parameters
	offers   smtp.Extensions      // those of exts that have a name of ours
	banner   string               // first word of the reply to our hello
	basic    bool                 // it refused EHLO, and took HELO
	dirty    bool                 // the peer may hold half a transaction: RSET comes first
	authed   bool                 // the peer knows who we are
	mails    int                  // MAIL commands sent
	chunk    int                  // octets
	dead     bool
	guard    *guard // of the last call; nil: none
	unwatch  func() // endWatch

	// What is used again for each transaction.
	steps []step
	lines []byte
	src   source
}

// NewConn reads the greeting and says hello on a fresh connection, which it
// closes if that fails. The error is an *Error.
func NewConn(ctx context.Context, conn net.Conn, o Options) (*Conn, error) {
	c := &Conn{raw: conn, name: o.Hello, lmtp: o.LMTP, timeouts: o.Timeouts.orDefaults(), chunk: o.ChunkSize}
	if c.chunk <= 0 {
		c.chunk = chunkSize
	}
	if c.name == "" {
		c.name = literal(conn.LocalAddr())
	}
	c.over(conn)
	c.unwatch = c.endWatch
	defer c.watch(ctx)()
	var err error
	if o.TLS != nil {
		err = c.handshake(ctx, o.TLS)
	}
	if err == nil {
		err = c.greet()
	}
	if err == nil {
		err = c.hello()
	}
	if err == nil {
		return c, nil
	}
	if !c.dead {
		// RFC 5321 3.1: a client that is turned away with 554 says QUIT.
		c.quit()
	}
	c.Close()
	return nil, err
}

// over makes conn what is spoken over from now on. Nothing that was read before
// is kept.
func (c *Conn) over(conn net.Conn) {
	c.conn, c.out = conn, newPacer(conn)
	c.r = bufio.NewReader(c.out)
}

// greet reads the greeting. RFC 5321 4.3.2: 220, or 554; RFC 7504 adds 521.
func (c *Conn) greet() error {
	r, err := c.read(StageGreeting, c.timeouts.Greeting)
	if err != nil {
		return err
	}
	if !r.Positive() {
		return &Error{Stage: StageGreeting, Reply: r}
	}
	return nil
}

// hello says EHLO, and HELO to a peer that knows only RFC 821; or LHLO.
//
// RFC 5321 3.2: "if the server returns a 'command not recognized' response to
// EHLO, the client SHOULD be able to fall back and send HELO."
// RFC 2033 4.1: "The HELO and EHLO commands of ESMTP are replaced by the LHLO
// command. This permits a misconfiguration where both parties are not using the
// same protocol to be detected."
func (c *Conn) hello() error {
	verb := "EHLO "
	if c.lmtp {
		verb = "LHLO "
	}
	r, err := c.command(StageHello, verb+c.name)
	if c.basic = err == nil && r.Permanent() && !c.lmtp; c.basic {
		if r, err = c.command(StageHello, "HELO "+c.name); err == nil {
			r.Text, _, _ = strings.Cut(r.Text, "\n")
		}
	}
	if err != nil {
		return err
	}
	if !r.Positive() {
		return &Error{Stage: StageHello, Reply: r}
	}
	c.banner, c.exts = parseHello(r.Text)
	c.offers = 0
	for word, params := range c.exts {
		ext, _ := smtp.ParseExtension(word + " " + params)
		c.offers |= ext
	}
	return nil
}

// parseHello reads the lines of a reply to EHLO. RFC 5321 4.1.1.1: keywords
// "MUST always be recognized and processed in a case-insensitive manner".
func parseHello(text string) (banner string, exts map[string]string) {
	first, rest, _ := strings.Cut(text, "\n")
	banner, _, _ = strings.Cut(strings.TrimSpace(first), " ")
	exts = make(map[string]string)
	for line := range strings.SplitSeq(rest, "\n") {
		key, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != "" {
			exts[strings.ToUpper(key)] = strings.TrimSpace(params)
		}
	}
	return banner, exts
}

// literal is the address literal of our end (RFC 5321 4.1.1.1: what a client
// sends that has no meaningful domain name).
func literal(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case t.IP.To4() != nil:
		return "[" + t.IP.String() + "]"
	}
	return "[IPv6:" + t.IP.String() + "]"
}

// Ext returns the parameters of an extension, and whether the peer offers it.
// The name is in upper case: "SIZE".
func (c *Conn) Ext(name string) (params string, ok bool) {
	params, ok = c.exts[name]
	return params, ok
}

// Extended reports whether the peer answered EHLO, or LHLO; else it took HELO, and what
// it offers is not known.
func (c *Conn) Extended() bool { return !c.basic }

// Name is what the peer calls itself in its reply to our hello.
func (c *Conn) Name() string { return c.banner }

// Limits are what the peer announced in its last reply to our hello (RFC 9422 3.6:
// "Clients MUST discard any previous limits in favor of those provided by the most
// recent EHLO"); 0: nothing.
func (c *Conn) Limits() smtp.Limits {
	params, ok := c.Ext("LIMITS")
	if !ok {
		return smtp.Limits{}
	}
	return smtp.ParseLimits(params)
}

// Spent reports that the connection has had as many transactions as the peer
// announced that it takes (RFC 9422 4.1), accepted or not: it is to be ended.
func (c *Conn) Spent() bool {
	limit := c.Limits().MailMax
	return limit > 0 && c.mails >= limit
}

// Usable reports whether the connection can take another transaction.
func (c *Conn) Usable() bool { return !c.dead }

// Reset ends a transaction that was left half way; it does nothing where there
// is none. The next Send does it by itself, and with pipelining at no cost.
func (c *Conn) Reset(ctx context.Context) error {
	if !c.dirty || c.dead {
		return c.alive(StageReset)
	}
	defer c.watch(ctx)()
	r, err := c.command(StageReset, "RSET")
	if err != nil {
		return err
	}
	return c.afterReset(r)
}

// afterReset looks at the reply to RSET. A server that refuses it (RFC 5321
// 4.1.1.5 knows only 250) is in a state that nobody knows.
func (c *Conn) afterReset(r smtp.Reply) error {
	if !r.Positive() {
		return c.end(StageReset, r, ErrUnexpected)
	}
	c.dirty = false
	return nil
}

// Noop asks whether the peer is still there.
func (c *Conn) Noop(ctx context.Context) error {
	if err := c.alive(StageNoop); err != nil {
		return err
	}
	defer c.watch(ctx)()
	r, err := c.command(StageNoop, "NOOP")
	if err == nil && !r.Positive() {
		err = c.end(StageNoop, r, nil)
	}
	return err
}

// Quit says goodbye, waits for the answer and closes.
//
// RFC 5321 4.1.1.10: "the sender MUST NOT intentionally close the transmission
// channel until it sends a QUIT command, and it SHOULD wait until it receives
// the reply".
func (c *Conn) Quit(ctx context.Context) error {
	if err := c.alive(StageQuit); err != nil {
		return err
	}
	defer c.Close()
	defer c.watch(ctx)()
	return c.quit()
}

func (c *Conn) quit() error {
	if err := c.send(StageQuit, c.timeouts.Quit, "QUIT"); err != nil {
		return err
	}
	_, err := c.read(StageQuit, c.timeouts.Quit)
	return err
}

// Close ends the connection without a word.
func (c *Conn) Close() error {
	if c.dead {
		return nil
	}
	c.dead = true
	if c.guard != nil && c.guard.state.Load() == guardIdle {
		c.unguard()
	}
	return c.conn.Close()
}

func (c *Conn) alive(s Stage) error {
	if c.dead {
		return &Error{Stage: s, Err: ErrClosed}
	}
	return nil
}

// end closes the connection and returns why.
func (c *Conn) end(s Stage, r smtp.Reply, err error) error {
	c.Close()
	return &Error{Stage: s, Reply: r, Err: err}
}

// command sends one command and reads its reply.
func (c *Conn) command(s Stage, line string) (smtp.Reply, error) {
	if err := c.send(s, c.timeouts.Command, line); err != nil {
		return smtp.Reply{}, err
	}
	return c.read(s, c.timeouts.Command)
}

// send sends one command line. Nothing may lie in the input then: what came
// before we asked answers nothing.
func (c *Conn) send(s Stage, timeout time.Duration, line string) error {
	return c.sendLines(s, timeout, append(append(c.lines[:0], line...), '\r', '\n'))
}

// sendLines sends lines that have their CRLF.
func (c *Conn) sendLines(s Stage, timeout time.Duration, lines []byte) error {
	if err := c.quiet(s); err != nil {
		return err
	}
	c.out.timeout = timeout
	if _, err := c.out.Write(lines); err != nil {
		return c.broken(s, err)
	}
	// Commands go without waiting: their octets are few, and all before them was answered.
	c.out.since = c.out.wrote
	return nil
}

// broken is called when a write failed. A peer that has hung up has often said
// why before: for now, or, while it was sent the content, for good.
func (c *Conn) broken(s Stage, err error) error {
	c.out.wait, c.out.since = lastWordsWait, time.Time{}
	r, rerr := smtp.ReadReply(c.r)
	if rerr == nil && (r.Code/100 == 4 || r.Permanent() && s == StageContent) {
		return c.end(s, r, nil)
	}
	return c.end(s, smtp.Reply{}, err)
}

// lastWordsWait is how long a reply is waited for after a write has failed.
const lastWordsWait = time.Second

// quiet ends the connection if a reply has come that nobody has asked for. A 421
// may come at any time (RFC 5321 3.8).
func (c *Conn) quiet(s Stage) error {
	if c.r.Buffered() == 0 {
		return nil
	}
	c.out.wait, c.out.since = lastWordsWait, time.Time{}
	if r, err := smtp.ReadReply(c.r); err == nil && r.Code == 421 {
		return c.end(s, r, nil)
	}
	return c.end(s, smtp.Reply{}, ErrUnasked)
}

// read reads one reply. 421 ends the connection wherever it comes (RFC 5321
// 4.2.2: "Service not available, closing transmission channel"), and so does
// what is no reply, or one of a kind that cannot stand there: peer and client
// are out of step then. A code that nobody knows counts by its first digit
// (RFC 5321 4.2.1).
func (c *Conn) read(s Stage, timeout time.Duration) (smtp.Reply, error) {
	c.out.wait = timeout
	r, err := smtp.ReadReply(c.r)
	c.out.since = time.Time{} // the next has a wait of its own
	switch {
	case err != nil:
		return r, c.end(s, smtp.Reply{}, err)
	case r.Code == 421:
		return r, c.end(s, r, nil)
	case r.Code < 200 || r.Code > 599, r.Positive() && s == StageData,
		r.Intermediate() && s != StageData && s != StageAuth:
		return r, c.end(s, smtp.Reply{}, fmt.Errorf("%w: code %d", ErrUnexpected, r.Code))
	}
	return r, nil
}
