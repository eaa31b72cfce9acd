package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a source.
const (
	SessionsMax = 20_000
	RcptsMax    = 1_000_000
	SizeMax     = 1 << 30
	// dialsMax is how many connections in a row a session may fail to open.
	dialsMax = 10
	// What goes in one group, so that neither side fills the other's buffers.
	chunkRcpts = 100
	chunkMax   = 32 << 10
)

// A Source sends messages over some connections at a time. Its fields are not
// changed while it runs.
type Source struct {
	Server string // host:port
	// Dial opens a connection; nil: TCP to Server.
	Dial     func(context.Context) (net.Conn, error)
	Messages int   // to send; 0: until For is over
	Sessions int   // connections at a time; 0: 1
	Size     int64 // octets of a content, header and all; 0: 4,096. A content may be one octet shorter, where else it would end within a CR LF
	Rcpts    int   // of each message; 0: 1
	// From and To are addresses. A "%d" in From is the number of the message from 0 on,
	// in To that of the recipient, which begins again after Spread where that is not 0;
	// another "%d" behind it begins again after Domains.
	From, To string
	Spread   int
	Domains  int
	Reuse    bool // of a connection, for many messages
	Uses     int  // messages on one connection that is reused; 0: all
	Pipeline bool // MAIL, RCPT and DATA go in one group (RFC 2920)
	// Chunk: MAIL, RCPT and BDAT with the content go in one group (RFC 3030). Then there are
	// at most chunkRcpts recipients, and chunkMax octets.
	Chunk bool
	// Rate is in messages a second, whatever the answers: a message that waits for a
	// free session waits since it was due. 0: each session sends as answers come.
	Rate    float64
	For     time.Duration // after which no message is begun; 0: none
	Timeout time.Duration // of a connection on which nothing happens; 0: 5 minutes
	Seed    uint64        // of the bodies
	Sent    *atomic.Int64 // counts the messages that were taken, while it runs; may be nil
}

func (s *Source) timeout() time.Duration {
	if s.Timeout <= 0 {
		return 5 * time.Minute
	}
	return s.Timeout
}

// A run is a source at work, with what was left out filled in.
type run struct {
	Source
	corpus *corpus
	from   pattern
	to     pattern
	next   atomic.Int64
	due    chan time.Time // of each message in turn, in an open loop
	ready  sync.WaitGroup // sessions that are not yet, there

	mu     sync.Mutex
	tally  Tally
	times  Histogram
	broken error // what a session gave up for
}

// check tells a mistake of the caller.
func (s *Source) check() error {
	switch {
	case s.Messages < 0 || s.Messages == 0 && s.For <= 0:
		return fmt.Errorf("%d messages: say how many to send, or for how long", s.Messages)
	case s.Sessions < 0 || s.Sessions > SessionsMax:
		return fmt.Errorf("%d sessions: there may be 1 to %d", s.Sessions, SessionsMax)
	case s.Size != 0 && (s.Size < SizeMin || s.Size > SizeMax):
		return fmt.Errorf("a size of %d octets: a message has %d to %d", s.Size, SizeMin, SizeMax)
	case s.Rcpts < 0 || s.Rcpts > RcptsMax:
		return fmt.Errorf("%d recipients: a message has 1 to %d", s.Rcpts, RcptsMax)
	case s.Chunk && (s.Size > chunkMax || s.Rcpts > chunkRcpts):
		return fmt.Errorf("%d octets to %d recipients: a message in one group has %d octets and %d recipients at most, send it without", s.Size, s.Rcpts, chunkMax, chunkRcpts)
	case s.Rate < 0:
		return fmt.Errorf("a rate of %g: write messages a second", s.Rate)
	case s.To == "":
		return errors.New("no recipient: write an address, with %d where its number goes")
	case strings.ContainsAny(s.From+s.To, "\r\n<>"):
		return fmt.Errorf("%q, %q: an address is in one line, and without < and >", s.From, s.To)
	}
	return nil
}

// Run sends all, and returns what came of it. The error says that nothing, or
// not all, could be tried: what was refused is in the tally alone.
func (s *Source) Run(ctx context.Context) (Tally, error) {
	r, err := s.prepare()
	if err != nil {
		return Tally{}, err
	}
	first, has, err := s.connect(ctx, nil)
	if err != nil {
		return Tally{}, fmt.Errorf("load: %s: %w", s.Server, err)
	}
	first.quit()
	switch {
	case (s.Pipeline || s.Chunk) && !has.pipelining:
		return Tally{}, fmt.Errorf("load: %s does not offer PIPELINING: send without", s.Server)
	case s.Chunk && !has.chunking:
		return Tally{}, fmt.Errorf("load: %s does not offer CHUNKING: send without", s.Server)
	}
	if s.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.For+s.timeout())
		defer cancel()
	}
	began := time.Now()
	from := began
	var sessions, pacer sync.WaitGroup
	over := make(chan struct{})
	if r.due != nil {
		r.ready.Add(r.Sessions)
		pacer.Go(func() {
			r.ready.Wait()
			began = time.Now()
			r.pace(ctx, began, over)
		})
	}
	for range r.Sessions {
		sessions.Go(func() { r.session(ctx, from) })
	}
	sessions.Wait()
	close(over)
	pacer.Wait()
	r.tally.Seconds = time.Since(began).Seconds()
	r.tally.P50, r.tally.P99 = r.times.Quantile(0.50), r.times.Quantile(0.99)
	return r.tally, r.left()
}

// prepare fills in what was left out.
func (s *Source) prepare() (*run, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	r := &run{Source: *s, from: strings.Split(s.From, "%d"), to: strings.Split(s.To, "%d")}
	r.Sessions = cmp.Or(s.Sessions, 1)
	r.Rcpts = cmp.Or(s.Rcpts, 1)
	r.Size = cmp.Or(s.Size, 4096)
	if s.Messages > 0 {
		r.Sessions = min(r.Sessions, s.Messages)
	}
	if r.Sent == nil {
		r.Sent = new(atomic.Int64)
	}
	r.corpus = newCorpus(s.Seed, r.Size, time.Now())
	if s.Rate > 0 {
		r.due = make(chan time.Time, dueMax)
	}
	return r, nil
}

// left says what was not tried.
func (r *run) left() error {
	if r.broken == nil {
		return nil
	}
	return fmt.Errorf("load: sessions gave up after %d connections in a row that failed: %w", dialsMax, r.broken)
}

func (r *run) mail(b []byte, n int) []byte {
	b = append(b, "MAIL FROM:<"...)
	b = r.from.appendTo(b, n, n)
	return append(b, ">\r\n"...)
}

func (r *run) rcpt(b []byte, n int) []byte {
	if r.Spread > 0 {
		n %= r.Spread
	}
	domain := n
	if r.Domains > 0 {
		domain %= r.Domains
	}
	b = append(b, "RCPT TO:<"...)
	b = r.to.appendTo(b, n, domain)
	return append(b, ">\r\n"...)
}

// turn returns the number of the next message, and since when it is due.
func (r *run) turn(ctx context.Context, began time.Time) (n int, due time.Time, more bool) {
	if ctx.Err() != nil {
		return 0, due, false
	}
	if r.due != nil {
		if due, more = <-r.due; !more {
			return 0, due, false
		}
	} else if due = time.Now(); r.For > 0 && due.Sub(began) >= r.For {
		return 0, due, false
	}
	n = int(r.next.Add(1)) - 1
	return n, due, r.Messages == 0 || n < r.Messages
}

// A share is what one session counts, without asking the others.
type share struct {
	tally Tally
	times Histogram
}

// session sends messages until there are no more.
func (r *run) session(ctx context.Context, began time.Time) {
	var mine share
	var c, was *client
	var broken error
	used := 0 // messages on this connection
	if r.due != nil {
		if r.Reuse { // to connect is no part of how long a message takes
			c, _, _ = r.connect(ctx, nil) // without one the first message tries again, and tells
			was = c
		}
		r.ready.Done()
	}
	for dials := 0; dials < dialsMax; {
		n, due, more := r.turn(ctx, began)
		if !more {
			break
		}
		octets, err := int64(0), error(nil)
		if c == nil {
			if c, _, err = r.connect(ctx, was); err != nil {
				dials++
				broken = err
				mine.tally.fail(cause(err), 1)
				continue
			}
			dials, broken, was = 0, nil, c
		}
		c.arm(due)
		if octets, err = c.send(r, n); err != nil {
			mine.tally.fail(cause(err), 1)
			c.drop()
			c, used = nil, 0
			continue
		}
		mine.times.Add(time.Since(due))
		mine.tally.Messages++
		mine.tally.Bytes += octets
		r.Sent.Add(1)
		if used++; !r.Reuse || used == r.Uses {
			c.quit()
			c, used = nil, 0
		}
	}
	if c != nil {
		c.quit()
	}
	r.merge(&mine, broken)
}

func (r *run) merge(s *share, broken error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.Messages += s.tally.Messages
	r.tally.Bytes += s.tally.Bytes
	for what, n := range s.tally.Replies {
		r.tally.fail(what, n)
	}
	r.times.Merge(&s.times)
	if broken != nil {
		r.broken = broken
	}
}
