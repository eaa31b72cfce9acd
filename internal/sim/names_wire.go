package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// nameServers are those that each machine asks, in this order.
var nameServers = []string{"10.0.2.1:53", "10.0.2.2:53"}

// questionTime is how long a dns.Client takes at most for one question: two rounds of
// nameServers, five seconds for each try.
const questionTime = 20 * time.Second

// A reply is what comes to a nameConn at a time. Where it ends, nothing follows.
type reply struct {
	at     time.Time
	octets []byte
	ends   bool
}

// DialContext implements dns.Dialer. What goes by UDP is sent at once.
func (s *Names) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	server := slices.Index(nameServers, addr)
	if server < 0 || network != "udp" && network != "tcp" {
		return nil, fmt.Errorf("sim: there is no name server at %s %s", network, addr)
	}
	if network == "tcp" {
		time.Sleep(latency(mix(s.net.seed^nameKey(s.node+"?"+addr), uint64(time.Now().UnixNano()))))
	}
	return &nameConn{names: s, server: server, tcp: network == "tcp", changed: make(chan struct{})}, ctx.Err()
}

// replies are what a server answers, and what comes beside it.
func (s *Names) replies(server int, tcp bool, q *wire.Msg) []reply {
	name, t, now := nameOf(q.Question[0].Name), dns.Type(q.Question[0].Qtype), time.Now()
	luck := mix(s.net.seed^nameKey(fmt.Sprint(s.node, "?", server, tcp, name, " ", t)), uint64(now.UnixNano()))
	at := now.Add(latency(luck))
	luck >>= 32 // the rest is for what befalls it
	f, faulty := s.faultOf(name, t, now)
	zone := s.zone
	if faulty {
		s.tell(f, name, t, now)
		zone = s.said(context.Background(), f, name, t)
	}
	m := dnstest.Reply(context.Background(), zone, q, !tcp)
	if m == nil {
		return nil
	}
	switch {
	case !faulty:
	case f.Kind == NameOld && q.IsEdns0() != nil:
		m = new(wire.Msg).SetRcode(q, wire.RcodeFormatError)
	case f.Kind == NameLame && server == 0:
		m = lame(q, luck)
	case tcp:
		octets := packed(m, true)
		switch {
		case f.Kind == NameTruncated && luck&3 == 0:
			octets = octets[:luck>>2%uint64(len(octets))]
		case f.Kind == NameGarbled && luck&1 == 0:
			spoil(octets[2:])
		}
		return []reply{{at, octets, true}}
	default:
		return befall(f, m, q, at, luck)
	}
	return []reply{{at, packed(m, tcp), tcp}}
}

// befall is what becomes of a packet.
func befall(f NameFault, m, q *wire.Msg, at time.Time, luck uint64) []reply {
	truth := packed(m, false)
	switch f.Kind {
	case NameTruncated:
		m.Truncated, m.Answer, m.Ns = true, m.Answer[:luck%uint64(len(m.Answer)+1)], nil
		return []reply{{at, packed(m, false), false}}
	case NameLost:
		return slices.Repeat([]reply{{at, truth, false}}, int(luck%4+1)/2) // none, one, one, two
	case NameForged:
		// Who believes one of these says that there is no such name.
		id, other := new(wire.Msg).SetRcode(q, wire.RcodeNameError), new(wire.Msg).SetRcode(q, wire.RcodeNameError)
		id.Id += uint16(1 + luck%1000)
		other.Question[0].Name = "other." + other.Question[0].Name
		first := at.Add(-time.Duration(1 + luck%uint64(100*time.Microsecond)))
		return []reply{{first, packed(id, false), false}, {first, packed(other, false), false}, {at, truth, false}}
	case NameGarbled:
		switch luck & 3 {
		case 0: // behind the question: what is lost is just what was asked for
			return []reply{{at, truth[:len(packed(&wire.Msg{MsgHdr: q.MsgHdr, Question: q.Question}, false))], false}}
		case 1:
			return []reply{{at, truth[:luck>>2%uint64(len(truth))], false}}
		case 2:
			spoil(truth)
		}
	}
	return []reply{{at, truth, false}}
}

// spoil leaves the header of a message alone right.
func spoil(octets []byte) {
	for i := 12; i < len(octets); i++ {
		octets[i] = 0xff
	}
}

// lame is what a server says that does not answer for a name.
func lame(q *wire.Msg, luck uint64) *wire.Msg {
	switch luck % 4 {
	case 0:
		return new(wire.Msg).SetRcode(q, wire.RcodeRefused)
	case 1:
		return new(wire.Msg).SetRcode(q, wire.RcodeNotImplemented)
	case 2:
		return new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
	}
	m := new(wire.Msg).SetReply(q)
	m.Ns = []wire.RR{&wire.NS{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeNS, Class: wire.ClassINET, Ttl: 60}, Ns: "elsewhere.example."}}
	return m
}

// packed is a message as it goes over the wire. RFC 1035 4.2.2: over TCP it "is prefixed
// with a two byte length field".
func packed(m *wire.Msg, tcp bool) []byte {
	m.Compress = true
	octets, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err)) // the zone of a world can be packed
	}
	if tcp {
		octets = append(binary.BigEndian.AppendUint16(nil, uint16(len(octets))), octets...)
	}
	return octets
}

// A nameConn is a net.Conn to a name server.
type nameConn struct {
	net.Conn // nil: what is not below is not asked for
	names    *Names
	server   int
	tcp      bool

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, when what follows changes
	queue    []reply
	deadline time.Time // zero: none
	closed   bool
}

// Write takes one question.
func (c *nameConn) Write(p []byte) (int, error) {
	q, octets := new(wire.Msg), p
	if c.tcp {
		octets = p[2:]
	}
	if err := q.Unpack(octets); err != nil {
		return 0, fmt.Errorf("sim: no question: %w", err)
	}
	replies := c.names.replies(c.server, c.tcp, q)
	c.change(func() { c.queue = append(c.queue, replies...) })
	return len(p), nil
}

// Read waits for the next packet, or for octets of a stream.
func (c *nameConn) Read(p []byte) (int, error) {
	for {
		n, wait, changed, err := c.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// take reads what is there; else it returns how long to wait at most, and what tells
// before.
func (c *nameConn) take(p []byte) (n int, wait time.Duration, changed <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := time.Now(); {
	case c.closed:
		return 0, 0, nil, net.ErrClosed
	case !c.deadline.IsZero() && !now.Before(c.deadline):
		return 0, 0, nil, os.ErrDeadlineExceeded
	case len(c.queue) == 0:
		return 0, questionTime, c.changed, nil
	case now.Before(c.queue[0].at):
		return 0, c.queue[0].at.Sub(now), c.changed, nil
	}
	r := &c.queue[0]
	n = copy(p, r.octets)
	if c.tcp {
		r.octets = r.octets[n:]
		if n == 0 && r.ends {
			return 0, 0, nil, io.EOF
		}
		return n, 0, nil, nil
	}
	c.queue = c.queue[1:]
	return n, 0, nil, nil
}

// SetDeadline implements net.Conn for a time that has passed.
func (c *nameConn) SetDeadline(t time.Time) error {
	c.change(func() { c.deadline = t })
	return nil
}

// Close implements net.Conn.
func (c *nameConn) Close() error {
	c.change(func() { c.closed = true })
	return nil
}

// change changes the connection, and wakes who reads.
func (c *nameConn) change(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.changed)
	c.changed = make(chan struct{})
}
