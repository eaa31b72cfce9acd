package dns_test

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// An answer of several records holds as long as the first of them that ends, in whatever
// order they come. A record of another class leads nowhere, and its TTL counts as little.
func TestTTLOfSeveral(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []string
	}{
		{"the shortest first", []string{"a.test. 60 IN A 192.0.2.1", "a.test. 300 IN A 192.0.2.2"}},
		{"the shortest last", []string{"a.test. 300 IN A 192.0.2.1", "a.test. 60 IN A 192.0.2.2"}},
		{"a short CNAME", []string{"a.test. 60 IN CNAME b.test.", "b.test. 300 IN A 192.0.2.1", "b.test. 300 IN A 192.0.2.2"}},
		{"a CNAME of another class", []string{"a.test. 5 CH CNAME b.test.", "b.test. 5 IN A 192.0.2.9",
			"a.test. 60 IN A 192.0.2.1", "a.test. 60 IN A 192.0.2.2"}},
	} {
		server := raw(t, func(m *wire.Msg) {
			for _, r := range tt.records {
				m.Answer = append(m.Answer, record(t, r))
			}
		}, nil)
		a, err := client(server).Lookup(t.Context(), "a.test", dns.TypeA)
		if err != nil || a.TTL != time.Minute || len(a.Addrs) != 2 {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
}

// A server that does not know EDNS0 is asked without, by whatever word it says so
// (RFC 6891 7 has FORMERR; others say NOTIMP).
func TestServerRefusesEDNS(t *testing.T) {
	for _, code := range []int{wire.RcodeFormatError, wire.RcodeNotImplemented} {
		server := edns(t, code)
		if a, err := client(server).Lookup(t.Context(), "m.test", dns.TypeMX); err != nil || len(a.MX) != 1 {
			t.Errorf("%s: %+v, %v", wire.RcodeToString[code], a, err)
		}
	}
}

// TestQuery: what a server is asked. RD, without which one that is not told the answer yet
// says that it does not know it (RFC 1035 4.1.1); a packet that every path carries, 1232 octets;
// and an ID of its own for each question that is put, which is what a forged answer has to
// guess.
func TestQuery(t *testing.T) {
	asked := make(chan *wire.Msg, 8)
	server := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		asked <- q
		m := new(wire.Msg)
		m.SetRcode(q, wire.RcodeFormatError)
		w.WriteMsg(m)
	}))
	id := uint16(7)
	c := dns.NewClient(dns.Options{Servers: []string{server}, Dialer: &net.Dialer{}, Rounds: 1, ID: func() uint16 { id++; return id }})
	if a, err := c.Lookup(t.Context(), "m.test", dns.TypeMX); !errors.Is(err, dns.ErrServFail) {
		t.Errorf("%+v, %v", a, err)
	}
	if len(asked) != 2 {
		t.Fatalf("asked %d times", len(asked))
	}
	for i, size := range []uint16{1232, 0} { // the second time without EDNS0
		q, want := <-asked, wire.Question{Name: "m.test.", Qtype: wire.TypeMX, Qclass: wire.ClassINET}
		if q.Id != uint16(8+i) || !q.RecursionDesired || len(q.Question) != 1 || q.Question[0] != want {
			t.Errorf("question %d: %v", i, q)
		}
		if opt := q.IsEdns0(); (opt == nil) != (size == 0) || opt != nil && opt.UDPSize() != size {
			t.Errorf("question %d: %v", i, opt)
		}
	}
}

// TestCodesThatAreNoAnswer: RFC 1035 4.1.1 has one code for what is there, and one for a name
// that does not exist. Every other says that this server cannot tell, and never that there
// is no record: mail waits, or another server is asked.
func TestCodesThatAreNoAnswer(t *testing.T) {
	for code := range 16 {
		if code == wire.RcodeSuccess || code == wire.RcodeNameError {
			continue
		}
		server := raw(t, func(m *wire.Msg) { m.Rcode = code }, nil)
		if a, err := client(server).Lookup(t.Context(), "m.test", dns.TypeMX); !errors.Is(err, dns.ErrServFail) && !errors.Is(err, dns.ErrRefused) {
			t.Errorf("code %d: %+v, %v", code, a, err)
		}
	}
}

// TestMappedAddress: an address of IPv4 that somebody has put into an AAAA is that address:
// nothing is sent to it twice, and no check of ours takes it for another.
func TestMappedAddress(t *testing.T) {
	server := raw(t, func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "m.test. 60 IN AAAA ::ffff:192.0.2.1")} }, nil)
	a, err := client(server).Lookup(t.Context(), "m.test", dns.TypeAAAA)
	if err != nil || !slices.Equal(a.Addrs, addrs("192.0.2.1")) {
		t.Errorf("%+v, %v", a, err)
	}
}

// edns is a server that answers a query with EDNS0 by a code, and any other by an MX.
func edns(t *testing.T, code int) string {
	return dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		if q.IsEdns0() != nil {
			m.Rcode = code
		} else {
			m.Answer = []wire.RR{record(t, "m.test. 60 IN MX 5 mx.test.")}
		}
		w.WriteMsg(m)
	}))
}
