package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

func contextTimeout(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Millisecond)
}

// A packetConn is a connection to a server that sends fixed packets and then
// nothing more.
type packetConn struct {
	net.Conn
	packets [][]byte
}

func (c *packetConn) Read(p []byte) (int, error) {
	if len(c.packets) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.packets[0])
	c.packets = c.packets[1:]
	return n, nil
}
func (c *packetConn) Write(p []byte) (int, error)   { return len(p), nil }
func (c *packetConn) Close() error                  { return nil }
func (c *packetConn) SetDeadline(t time.Time) error { return nil }

// A streamConn is the same over TCP.
type streamConn struct {
	packetConn
	r *bytes.Reader
}

func (c *streamConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// A fuzzDialer connects to a server that sends one packet, whatever it is asked.
type fuzzDialer []byte

func (d fuzzDialer) DialContext(_ context.Context, network, _ string) (net.Conn, error) {
	if network == "tcp" {
		return &streamConn{r: bytes.NewReader(append([]byte{byte(len(d) >> 8), byte(len(d))}, d...))}, nil
	}
	return &packetConn{packets: [][]byte{d}}, nil
}

// FuzzAnswer gives a Client what a hostile server may send. Whatever it is, the
// answer holds only records of the question and of what its CNAMEs lead to, or
// it is an error.
func FuzzAnswer(f *testing.F) {
	const id = 0x1234
	add := func(rcode int, records ...string) {
		m := new(wire.Msg)
		m.Id, m.Response, m.Rcode = id, true, rcode
		m.Question = []wire.Question{{Name: "a.test.", Qtype: wire.TypeMX, Qclass: wire.ClassINET}}
		for _, r := range records {
			rr, err := wire.NewRR(r)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint16(wire.TypeMX))
	}
	add(0, "a.test. 60 IN MX 10 b.test.", "a.test. 60 IN MX 0 .")
	add(0, "a.test. 60 IN CNAME b.test.", "b.test. 60 IN MX 10 c.test.")
	add(0, "a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME a.test.")
	add(0, "b.test. 60 IN MX 10 c.test.")
	add(3)
	add(2)
	f.Fuzz(func(t *testing.T, packet []byte, qtype uint16) {
		if len(packet) > 65000 {
			return
		}
		typ := Type(qtype)
		c := NewClient(Options{Servers: []string{"server"}, Dialer: fuzzDialer(packet), Rounds: 1, ID: func() uint16 { return id }})
		a, err := c.Lookup(t.Context(), "a.test", typ)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrServFail) && !errors.Is(err, ErrRefused) &&
				!errors.Is(err, ErrMalformed) && !errors.Is(err, ErrLoop) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		m := new(wire.Msg)
		if err := m.Unpack(packet); err != nil {
			t.Fatalf("an answer %+v from a packet that cannot be read: %v", a, err)
		}
		if m.Id != id || !m.Response || len(m.Question) != 1 || canonical(m.Question[0].Name) != "a.test" || m.Question[0].Qtype != qtype {
			t.Fatalf("an answer %+v from a packet for something else", a)
		}
		if a.TTL < 0 || a.TTL > ttlMax {
			t.Fatalf("TTL %v", a.TTL)
		}
		n := 0
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == qtype && canonical(rr.Header().Name) == a.Name {
				n++
			}
		}
		if got := len(a.Addrs) + len(a.MX) + len(a.Text); got > n || a.NXDomain && got > 0 && m.Rcode != wire.RcodeNameError {
			t.Fatalf("%d records from %d in the packet: %+v", got, n, a)
		}
		for _, addr := range a.Addrs {
			if addr == (netip.Addr{}) {
				t.Fatal("an address that is none")
			}
		}
	})
}
