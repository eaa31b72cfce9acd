package dns_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// octets is a record of a type with any data.
func octets(name string, t uint16, data string) wire.RR {
	return &wire.NULL{Hdr: wire.RR_Header{Name: name, Rrtype: t, Class: wire.ClassINET, Ttl: 60}, Data: data}
}

// raw is a server that answers with the octets that spoil makes of a reply, which fn
// has filled.
func raw(t *testing.T, fn func(m *wire.Msg), spoil func(packet []byte)) string {
	return dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		fn(m)
		packed, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		if spoil != nil {
			spoil(packed)
		}
		w.Write(packed)
	}))
}

// TestNoWordOfTheName: an answer that seems to say that there is no MX, or that the
// domain takes no mail, and says neither. Who believes it sends mail to another host, or
// back for good.
func TestNoWordOfTheName(t *testing.T) {
	good := dnstest.Start(t, testZone())
	for _, tt := range []struct {
		name  string
		fn    func(m *wire.Msg)
		spoil func(packet []byte)
		want  error
	}{
		{"MX with a preference and no name", func(m *wire.Msg) { m.Answer = []wire.RR{octets("m.test.", wire.TypeMX, "\x00\x00")} }, nil, dns.ErrMalformed},
		{"the same, and OPT behind it", func(m *wire.Msg) {
			m.Answer = []wire.RR{octets("m.test.", wire.TypeMX, "\x00\x0a")}
			m.SetEdns0(1232, false)
		}, nil, dns.ErrMalformed},
		{"BADVERS, and OPT with its upper bits is cut off", func(m *wire.Msg) {}, func(p []byte) { p[11] = 1 }, dns.ErrMalformed},
		{"BADVERS", func(m *wire.Msg) { m.SetEdns0(1232, false); m.Rcode = wire.RcodeBadVers }, nil, dns.ErrServFail},
		{"SOA without data beside a referral", func(m *wire.Msg) {
			m.Ns = []wire.RR{record(t, "test. 60 IN NS ns.other."), octets("test.", wire.TypeSOA, "")}
		}, nil, dns.ErrMalformed},
		{"SOA cut off behind its first name", func(m *wire.Msg) {
			m.Ns = []wire.RR{record(t, "test. 60 IN NS ns.other."), octets("test.", wire.TypeSOA, "\x00")}
		}, nil, dns.ErrMalformed},
		{"a referral, of a server that asks others too", func(m *wire.Msg) { m.Ns = []wire.RR{record(t, "test. 60 IN NS ns.other.")} }, nil, dns.ErrServFail},
		{"neither AA nor RA", func(m *wire.Msg) { m.RecursionAvailable = false }, nil, dns.ErrServFail},
		{"DNAME without the CNAME that it makes", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "test. 60 IN DNAME other.")} }, nil, dns.ErrServFail},
		{"only records of another name", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "other.test. 60 IN MX 10 mx.test.")} }, nil, dns.ErrServFail},
		{"only records of another class", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "m.test. 60 CH MX 0 .")} }, nil, dns.ErrServFail},
	} {
		bad := raw(t, tt.fn, tt.spoil)
		if a, err := client(bad).Lookup(t.Context(), "m.test", dns.TypeMX); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
		if a, err := client(bad, good).Lookup(t.Context(), "m.test", dns.TypeMX); err != nil || len(a.MX) != 2 {
			t.Errorf("%s, and then another server: %+v, %v", tt.name, a, err)
		}
	}
}

// TestNoRecordByOddAnswers: what does say that there is no MX, or holds one, whatever
// else is odd about it.
func TestNoRecordByOddAnswers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fn    func(m *wire.Msg)
		spoil func(packet []byte)
		want  []dns.MX
	}{
		{"RA alone, without SOA", func(m *wire.Msg) {}, nil, nil},
		{"AA alone, without SOA", func(m *wire.Msg) { m.RecursionAvailable, m.Authoritative = false, true }, nil, nil},
		{"SOA alone", func(m *wire.Msg) {
			m.RecursionAvailable, m.Ns = false, []wire.RR{record(t, ". 60 IN SOA . . 1 2 3 4 5")}
		}, nil, nil},
		{"another type", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "m.test. 60 IN A 192.0.2.1")} }, nil, nil},
		{"the null MX", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "m.test. 60 IN MX 0 .")} }, nil, []dns.MX{{0, ""}}},
		{"MX, and what is behind it is cut off", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "m.test. 60 IN MX 5 b.test.")} },
			func(p []byte) { p[11] = 1 }, []dns.MX{{5, "b.test"}}},
		{"another case", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, "M.tEST. 60 IN MX 5 B.test.")} }, nil, []dns.MX{{5, "b.test"}}},
		{"DNAME and CNAME", func(m *wire.Msg) {
			m.Answer = []wire.RR{record(t, "test. 60 IN DNAME o."), record(t, "m.test. 60 IN CNAME m.o."), record(t, "m.o. 60 IN MX 5 b.o.")}
		}, nil, []dns.MX{{5, "b.o"}}},
		{"the CNAME behind what it leads to", func(m *wire.Msg) {
			m.Answer = []wire.RR{record(t, "m.o. 60 IN MX 5 b.o."), record(t, "m.test. 60 IN CNAME m.o.")}
		}, nil, []dns.MX{{5, "b.o"}}},
		{"a label with a dot and a space", func(m *wire.Msg) { m.Answer = []wire.RR{record(t, `m.test. 60 IN MX 5 b\.c\032d.test.`)} }, nil,
			[]dns.MX{{5, `b\.c\ d.test`}}},
	} {
		a, err := client(raw(t, tt.fn, tt.spoil)).Lookup(t.Context(), "m.test", dns.TypeMX)
		if err != nil || a.NXDomain || !slices.Equal(a.MX, tt.want) {
			t.Errorf("%s: %+v, %v", tt.name, a, err)
		}
	}
}

// TestOldServersKeepTheHeader: a server that does not know OPT may answer with nothing but
// the header of the question, its counts left as they were, and its code changed.
func TestOldServersKeepTheHeader(t *testing.T) {
	for name, size := range map[string]int{"header": 12, "question": 12 + len("\x01m\x04test\x00TTCC")} {
		addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
			m := new(wire.Msg)
			if m.SetReply(q); q.IsEdns0() == nil {
				m.RecursionAvailable, m.Answer = true, []wire.RR{record(t, "m.test. 60 IN MX 5 b.test.")}
			} else {
				m.Rcode, m.Extra = wire.RcodeFormatError, q.Extra
			}
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			if q.IsEdns0() != nil {
				packed = packed[:size]
			}
			w.Write(packed)
		}))
		if a, err := client(addr).Lookup(t.Context(), "m.test", dns.TypeMX); err != nil || len(a.MX) != 1 {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// TestOddNameIsAskedFor: the host of an MX is asked for as it came, with what no host
// name has in it.
func TestOddNameIsAskedFor(t *testing.T) {
	addr := raw(t, func(m *wire.Msg) {
		q := m.Question[0]
		if q.Qtype == wire.TypeA {
			m.Answer = []wire.RR{&wire.A{Hdr: wire.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
		}
	}, nil)
	long := strings.Repeat(`\000`, 63) + "." + strings.Repeat(`\255`, 63) + "." + strings.Repeat(`\.`, 63) + "." + strings.Repeat(`\009`, 61)
	for _, host := range []string{`b\.c\ d.test`, `\.`, `a.\.`, `\\.\@.\"`, `b\200.test`, "_a.test", "-.test", "192.0.2.1", "*.test", long} {
		got, err := dns.LookupAddrs(t.Context(), client(addr), host)
		if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

// TestCurrentServers: who is asked may change while a Client is in use.
func TestCurrentServers(t *testing.T) {
	servers := []string{dnstest.Start(t, dns.NewZone().A("a.test", "192.0.2.1"))}
	c := dns.NewClient(dns.Options{Current: func() []string { return servers }, Dialer: &net.Dialer{}, Rounds: 1})
	for _, want := range []string{"192.0.2.1", "192.0.2.2"} {
		if a, err := c.Lookup(t.Context(), "a.test", dns.TypeA); err != nil || !slices.Equal(a.Addrs, addrs(want)) {
			t.Errorf("%+v, %v, want %s", a, err, want)
		}
		servers = []string{dnstest.Start(t, dns.NewZone().A("a.test", "192.0.2.2"))}
	}
	servers = nil
	if _, err := c.Lookup(t.Context(), "a.test", dns.TypeA); !errors.Is(err, dns.ErrNoServer) {
		t.Errorf("without servers: %v", err)
	}
}

// TestLookupAddrsBound: a host of thousands of addresses has some of either family.
func TestLookupAddrsBound(t *testing.T) {
	z := dns.NewZone()
	for i := range 4000 {
		z.A("a.test", netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}).String()).AAAA("a.test", fmt.Sprintf("2001:db8::%x", i))
	}
	got, err := dns.LookupAddrs(t.Context(), z, "a.test")
	if err != nil || len(got) != 2*dns.AddrsMax || !got[0].Is6() || !got[dns.AddrsMax].Is4() {
		t.Fatalf("%d addresses, %v", len(got), err)
	}
}

// TestLongPacket: a packet longer than was agreed, of which we may have a part, is asked
// for by TCP.
func TestLongPacket(t *testing.T) {
	addr := raw(t, func(m *wire.Msg) {
		for range 300 {
			m.Answer = append(m.Answer, record(t, "m.test. 60 IN MX 5 b.test."))
		}
	}, nil)
	if a, err := client(addr).Lookup(t.Context(), "m.test", dns.TypeMX); err != nil || len(a.MX) != 300 {
		t.Fatalf("%d MX, %v", len(a.MX), err)
	}
}

// TestMalformedGoesToTCP: what came by UDP and is no message may have been cut on the way,
// or be of somebody else. The server is asked by TCP before it is given up.
func TestMalformedGoesToTCP(t *testing.T) {
	addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		m.Answer = []wire.RR{record(t, "m.test. 60 IN MX 5 b.test.")}
		packed, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			packed = packed[:len(packed)-3]
		}
		w.Write(packed)
	}))
	if a, err := client(addr).Lookup(t.Context(), "m.test", dns.TypeMX); err != nil || len(a.MX) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
}
