package dns_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// A countingDialer knows how many sockets of each network were opened, and how many of
// them are still open.
type countingDialer struct {
	net.Dialer
	mu     sync.Mutex
	opened map[string]int
	open   map[*countedConn]string
}

func (d *countingDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &countedConn{Conn: conn, d: d}
	d.opened[network]++
	d.open[c] = network
	return c, nil
}

type countedConn struct {
	net.Conn
	d *countingDialer
}

func (c *countedConn) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	delete(c.d.open, c)
	return c.Conn.Close()
}

// Each question has a socket of its own, and it is closed when the question has its
// answer, or will have none: however many are asked, no descriptors are used up.
func TestSocketsAreClosed(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		switch name, _, _ := strings.Cut(q.Question[0].Name, "."); {
		case name == "hangs":
			giveUp()
			return
		case name == "broken":
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			packed[7] = 1 // an answer, and none is there
			w.Write(packed)
			return
		case name == "fails":
			m.Rcode = wire.RcodeServerFailure
		case name == "old" && q.IsEdns0() != nil:
			m.Rcode = wire.RcodeFormatError
		case name == "long" && udp:
			m.Truncated = true
		default:
			m.RecursionAvailable, m.Answer = true, []wire.RR{record(t, q.Question[0].Name+" 60 IN A 192.0.2.1")}
		}
		w.WriteMsg(m)
	}))
	for _, tt := range []struct {
		name     string
		udp, tcp int // sockets that it takes
		fails    bool
	}{
		{"a.test", 1, 0, false},
		{"old.test", 2, 0, false},
		{"long.test", 1, 1, false},
		{"fails.test", 1, 0, true},
		{"broken.test", 1, 1, true},
		{"hangs.test", 1, 0, true}, // the last: whoever asked gives up
	} {
		d := &countingDialer{opened: map[string]int{}, open: map[*countedConn]string{}}
		_, err := dns.NewClient(dns.Options{Servers: []string{addr}, Dialer: d, Rounds: 1}).Lookup(ctx, tt.name, dns.TypeA)
		if (err != nil) != tt.fails || d.opened["udp"] != tt.udp || d.opened["tcp"] != tt.tcp {
			t.Errorf("%s: %v; %v were opened, want %d of UDP and %d of TCP", tt.name, err, d.opened, tt.udp, tt.tcp)
		}
		for _, network := range d.open {
			t.Errorf("%s: a socket of %s stays open", tt.name, network)
		}
	}
}
