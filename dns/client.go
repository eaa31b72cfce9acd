package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	wire "github.com/miekg/dns"
)

// A Dialer connects to a server: "udp" for a question, "tcp" where the answer
// does not fit into a packet.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Options are the options of a Client.
type Options struct {
	Servers []string // "host:port", asked in this order
	// Current returns the servers in place of Servers, for one question: those of the
	// system change when it comes into another network. Many goroutines call it. Nil: they
	// stay.
	Current func() []string
	Dialer  Dialer        // how to reach them
	Timeout time.Duration // for one try at one server; zero: 5 s
	Rounds  int           // how often the list of servers is gone through; zero: 2
	// ID returns the ID of a query. Zero: from crypto/rand, so that nobody can
	// guess what a forged answer must carry.
	ID func() uint16
}

// Defaults of Options.
const (
	timeoutDefault = 5 * time.Second
	roundsDefault  = 2
)

// Sizes of packets, in octets.
const (
	ednsSize = 1232 // what we say we take: fits an IPv6 packet on every path
	readSize = 4096 // what we do take, from a server that did not listen
)

// A Client asks recursive servers. Each query goes out from a port of its own;
// an answer that is not for it is passed over. It keeps no state but its
// options, and may be used by many goroutines at once.
type Client struct {
	o Options
}

// NewClient returns a Client.
func NewClient(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = timeoutDefault
	}
	if o.Rounds <= 0 {
		o.Rounds = roundsDefault
	}
	if o.ID == nil {
		o.ID = randomID
	}
	return &Client{o: o}
}

// randomID returns an ID that cannot be guessed.
func randomID() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// Lookup implements Resolver. A name that DNS cannot spell, such as one with a
// label of 64 octets, does not exist.
func (c *Client) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	name = canonical(name)
	total := Answer{Name: name, TTL: ttlMax}
	seen := map[string]bool{}
	for {
		if seen[total.Name] || len(seen) > cnameMax {
			return Answer{}, fmt.Errorf("dns: %v %s: %w", t, name, ErrLoop)
		}
		seen[total.Name] = true
		if !spellable(total.Name) {
			total.NXDomain = true
			return total, nil
		}
		m, server, err := c.ask(ctx, total.Name, t)
		if err != nil {
			return Answer{}, err
		}
		a, more, err := readAnswer(m, total.Name, t)
		if err != nil {
			return Answer{}, fmt.Errorf("dns: %v %s from %s: %w", t, name, server, err)
		}
		a.TTL = min(a.TTL, total.TTL)
		if !more {
			return a, nil
		}
		total = a
	}
}

// spellable reports whether a canonical name fits into a DNS message. The root,
// the empty name, has nothing that mail could ask for.
func spellable(name string) bool {
	_, ok := wire.IsDomainName(name)
	if !ok || name == "" {
		return false
	}
	buf := make([]byte, 256) // RFC 1035 2.3.4: names are 255 octets or less
	_, err := wire.PackDomainName(name+".", buf, 0, nil, false)
	return err == nil
}

// ask puts one question to the servers, one after another, until one answers.
// It returns the answer and who gave it.
func (c *Client) ask(ctx context.Context, name string, t Type) (*wire.Msg, string, error) {
	servers := c.o.Servers
	if c.o.Current != nil {
		servers = c.o.Current()
	}
	if len(servers) == 0 {
		return nil, "", fmt.Errorf("dns: %v %s: %w", t, name, ErrNoServer)
	}
	var errs []error
	for range c.o.Rounds {
		errs = errs[:0]
		for _, server := range servers {
			m, err := c.askServer(ctx, server, name, t)
			if err == nil {
				return m, server, nil
			}
			if ctx.Err() != nil {
				return nil, "", fmt.Errorf("dns: %v %s from %s: %w", t, name, server, context.Cause(ctx))
			}
			errs = append(errs, fmt.Errorf("dns: %v %s from %s: %w", t, name, server, err))
		}
	}
	return nil, "", errors.Join(errs...)
}

// askServer puts one question to one server: by UDP with EDNS0, without EDNS0 if
// the server does not know it, and by TCP if the answer was truncated, or was none:
// something on the way may have cut it, or somebody else have sent it.
func (c *Client) askServer(ctx context.Context, server, name string, t Type) (*wire.Msg, error) {
	q := new(wire.Msg)
	q.Question = []wire.Question{{Name: wire.Fqdn(name), Qtype: uint16(t), Qclass: wire.ClassINET}}
	q.RecursionDesired = true
	q.SetEdns0(ednsSize, false)

	m, err := c.exchange(ctx, "udp", server, q)
	if err == nil && (m.Rcode == wire.RcodeFormatError || m.Rcode == wire.RcodeNotImplemented) {
		q.Extra = nil // RFC 6891 7: a server that does not know OPT answers FORMERR
		m, err = c.exchange(ctx, "udp", server, q)
	}
	if err == nil && m.Truncated || errors.Is(err, ErrMalformed) {
		m, err = c.exchange(ctx, "tcp", server, q)
	}
	if err != nil {
		return nil, err
	}
	switch m.Rcode {
	case wire.RcodeSuccess, wire.RcodeNameError:
		if saysNothing(m, name) {
			return nil, fmt.Errorf("%w: an answer that says nothing of the name", ErrServFail)
		}
		return m, nil
	case wire.RcodeServerFailure:
		return nil, ErrServFail
	case wire.RcodeRefused:
		return nil, ErrRefused
	}
	return nil, fmt.Errorf("%w: code %s", ErrServFail, wire.RcodeToString[m.Rcode])
}

// exchange sends q, under a new ID, on a new connection and returns the answer
// to it. A truncated answer over UDP comes with nothing but its header.
func (c *Client) exchange(ctx context.Context, network, server string, q *wire.Msg) (*wire.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, ErrTimeout)
	defer cancel()
	conn, err := c.o.Dialer.DialContext(ctx, network, server)
	if err != nil {
		return nil, c.reason(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	q.Id = c.o.ID()
	packed, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	if network == "tcp" {
		// RFC 1035 4.2.2: "The message is prefixed with a two byte length field".
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, c.reason(ctx, err)
	}
	read := readPacket
	if network == "tcp" {
		read = readStream
	}
	m, err := read(conn, q)
	if err != nil {
		return nil, c.reason(ctx, err)
	}
	return m, nil
}

// reason returns why an exchange failed: the end of ctx, rather than the
// deadline that it put on the connection.
func (c *Client) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return ErrTimeout
	}
	return err
}
