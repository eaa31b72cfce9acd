package dns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// client returns a Client of servers that gives up soon.
func client(servers ...string) *dns.Client {
	return dns.NewClient(dns.Options{Servers: servers, Dialer: &net.Dialer{}, Timeout: 5 * time.Second, Rounds: 1})
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// testZone holds one name of each kind.
func testZone() *dns.Zone {
	z := dns.NewZone().
		A("a.test", "192.0.2.1", "192.0.2.2").AAAA("a.test", "2001:db8::1").
		MX("m.test", 20, "B.Test").MX("m.test", 10, "a.test.").
		MX("null.test", 0, ".").
		TXT("t.test", "one", strings.Repeat("long ", 100)).
		PTR("1.2.0.192.in-addr.arpa", "a.test").
		CNAME("c.test", "c2.test").CNAME("c2.test", "a.test").
		CNAME("gone.test", "nowhere.test").
		CNAME("empty.test", "t.test").
		CNAME("loop.test", "loop2.test").CNAME("loop2.test", "loop.test").
		CNAME("self.test", "self.test").
		A("host.below.test", "192.0.2.9").
		A("bad.test", "192.0.2.3").Fail("bad.test", dns.ErrServFail).
		A("no.test", "192.0.2.4").Fail("no.test", dns.ErrRefused)
	for i := range 12 {
		z.CNAME(fmt.Sprintf("chain%d.test", i), fmt.Sprintf("chain%d.test", i+1))
	}
	for i := range 1000 {
		z.MX("huge.test", uint16(i%7), fmt.Sprintf("mx%d.huge.test", i))
	}
	return z
}

// TestLookup puts the same questions to a Zone and, over the wire, to a server
// of it: the answers must be the same.
func TestLookup(t *testing.T) {
	zone := testZone()
	c := client(dnstest.Start(t, zone))
	tests := []struct {
		name string
		t    dns.Type
		want dns.Answer
		err  error
	}{
		{"a.test", dns.TypeA, dns.Answer{Name: "a.test", Addrs: addrs("192.0.2.1", "192.0.2.2")}, nil},
		{"A.TEST.", dns.TypeAAAA, dns.Answer{Name: "a.test", Addrs: addrs("2001:db8::1")}, nil},
		{"m.test", dns.TypeMX, dns.Answer{Name: "m.test", MX: []dns.MX{{20, "b.test"}, {10, "a.test"}}}, nil},
		{"null.test", dns.TypeMX, dns.Answer{Name: "null.test", MX: []dns.MX{{0, ""}}}, nil},
		{"t.test", dns.TypeTXT, dns.Answer{Name: "t.test", Text: []string{"one", strings.Repeat("long ", 100)}}, nil},
		{"1.2.0.192.in-addr.arpa", dns.TypePTR, dns.Answer{Name: "1.2.0.192.in-addr.arpa", Text: []string{"a.test"}}, nil},
		{"c.test", dns.TypeA, dns.Answer{Name: "a.test", Addrs: addrs("192.0.2.1", "192.0.2.2")}, nil},
		{"c.test", dns.TypeCNAME, dns.Answer{Name: "c.test", Text: []string{"c2.test"}}, nil},
		{"c.test", dns.TypeMX, dns.Answer{Name: "a.test"}, nil},
		{"gone.test", dns.TypeMX, dns.Answer{Name: "nowhere.test", NXDomain: true}, nil},
		{"empty.test", dns.TypeMX, dns.Answer{Name: "t.test"}, nil},
		{"nowhere.test", dns.TypeA, dns.Answer{Name: "nowhere.test", NXDomain: true}, nil},
		{"t.test", dns.TypeA, dns.Answer{Name: "t.test"}, nil},
		{"below.test", dns.TypeA, dns.Answer{Name: "below.test"}, nil},
		{"bad.test", dns.TypeA, dns.Answer{}, dns.ErrServFail},
		{"no.test", dns.TypeA, dns.Answer{}, dns.ErrRefused},
		{"loop.test", dns.TypeA, dns.Answer{}, dns.ErrLoop},
		{"self.test", dns.TypeMX, dns.Answer{}, dns.ErrLoop},
		{"chain0.test", dns.TypeA, dns.Answer{}, dns.ErrLoop},
		{"chain6.test", dns.TypeA, dns.Answer{Name: "chain12.test", NXDomain: true}, nil},
	}
	for _, tt := range tests {
		for _, r := range []dns.Resolver{zone, c} {
			t.Run(fmt.Sprintf("%v %s %T", tt.t, tt.name, r), func(t *testing.T) {
				got, err := r.Lookup(t.Context(), tt.name, tt.t)
				if tt.err != nil {
					if !errors.Is(err, tt.err) {
						t.Fatalf("error %v, want %v", err, tt.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.TTL <= 0 {
					t.Error("no TTL")
				}
				got.TTL = 0
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("got %+v\nwant %+v", got, tt.want)
				}
			})
		}
	}
}

// A name that DNS cannot spell does not exist, and no server is asked for it.
func TestUnspellable(t *testing.T) {
	c := client()
	for _, name := range []string{strings.Repeat("a", 64) + ".test", strings.Repeat("ab.", 90) + "test", "a..test", "", "."} {
		a, err := c.Lookup(t.Context(), name, dns.TypeMX)
		if err != nil || !a.NXDomain {
			t.Errorf("%q: %+v, %v", name, a, err)
		}
	}
	if _, err := c.Lookup(t.Context(), "a.test", dns.TypeMX); !errors.Is(err, dns.ErrNoServer) {
		t.Errorf("without servers: %v", err)
	}
}

// countDialer counts connections by network.
type countDialer struct{ udp, tcp atomic.Int32 }

func (d *countDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network == "udp" {
		d.udp.Add(1)
	} else {
		d.tcp.Add(1)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func TestTruncatedUDPGoesToTCP(t *testing.T) {
	d := new(countDialer)
	c := dns.NewClient(dns.Options{Servers: []string{dnstest.Start(t, testZone())}, Dialer: d, Rounds: 1})
	a, err := c.Lookup(t.Context(), "huge.test", dns.TypeMX)
	if err != nil || len(a.MX) != 1000 {
		t.Fatalf("%d MX, %v", len(a.MX), err)
	}
	if d.udp.Load() != 1 || d.tcp.Load() != 1 {
		t.Fatalf("%d UDP and %d TCP", d.udp.Load(), d.tcp.Load())
	}
}

func TestNextServerAnswers(t *testing.T) {
	bad := dnstest.Start(t, dns.NewZone().Fail("a.test", dns.ErrServFail))
	refused := dnstest.Start(t, dns.NewZone().Fail("a.test", dns.ErrRefused))
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	good := dnstest.Start(t, testZone())
	a, err := client(bad, refused, closed.LocalAddr().String(), good).Lookup(t.Context(), "a.test", dns.TypeA)
	if err != nil || len(a.Addrs) != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = client(bad, refused).Lookup(t.Context(), "a.test", dns.TypeA)
	if !errors.Is(err, dns.ErrServFail) || !errors.Is(err, dns.ErrRefused) ||
		!strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), refused) {
		t.Fatalf("the error does not name each server and its reason: %v", err)
	}
}

// silent starts a socket that reads and never answers.
func silent(t *testing.T) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().String()
}

func TestTimeout(t *testing.T) {
	mute, good := silent(t), dnstest.Start(t, testZone())
	o := dns.Options{Servers: []string{mute}, Dialer: &net.Dialer{}, Timeout: 20 * time.Millisecond, Rounds: 2}
	_, err := dns.NewClient(o).Lookup(t.Context(), "a.test", dns.TypeA)
	if !errors.Is(err, dns.ErrTimeout) || !strings.Contains(err.Error(), mute) {
		t.Fatalf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(mute).Lookup(ctx, "a.test", dns.TypeA); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	o.Servers, o.Timeout = []string{mute, good}, time.Second
	if _, err := dns.NewClient(o).Lookup(t.Context(), "a.test", dns.TypeA); err != nil {
		t.Fatal(err)
	}
}

// handler is a server that answers with what fn makes of a reply.
func handler(fn func(q, m *wire.Msg)) wire.Handler {
	return wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		fn(q, m)
		w.WriteMsg(m)
	})
}

func record(t *testing.T, s string) wire.RR {
	rr, err := wire.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// A forged answer, with another ID or question, is passed over, and the right
// one that follows is taken.
func TestForgedAnswers(t *testing.T) {
	rightA, wrongA := record(t, "a.test. 60 IN A 192.0.2.1"), record(t, "a.test. 60 IN A 192.0.2.66")
	addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		for _, spoil := range []func(*wire.Msg){
			func(m *wire.Msg) { m.Id++ },
			func(m *wire.Msg) { m.Question[0].Name = "b.test." },
			func(m *wire.Msg) { m.Question[0].Qtype = wire.TypeAAAA },
			func(m *wire.Msg) { m.Question[0].Qclass = wire.ClassCHAOS },
			func(m *wire.Msg) { m.Question = nil },
			func(m *wire.Msg) { m.Response = false },
			func(m *wire.Msg) { m.Answer = []wire.RR{rightA} },
		} {
			m := new(wire.Msg)
			m.SetReply(q)
			m.Answer = []wire.RR{wrongA}
			spoil(m)
			w.WriteMsg(m)
		}
	}))
	a, err := client(addr).Lookup(t.Context(), "a.test", dns.TypeA)
	if err != nil || !slices.Equal(a.Addrs, addrs("192.0.2.1")) {
		t.Fatalf("%+v, %v", a, err)
	}
}

// Records of other names, types and classes in an answer are not believed.
func TestForeignRecords(t *testing.T) {
	addr := dnstest.StartHandler(t, handler(func(q, m *wire.Msg) {
		m.Answer = []wire.RR{record(t, "evil.test. 60 IN MX 1 evil.test."), record(t, "a.test. 60 CH MX 1 evil.test."),
			record(t, "evil.test. 60 IN CNAME a.test."), record(t, "a.test. 30 IN MX 5 ok.test.")}
	}))
	a, err := client(addr).Lookup(t.Context(), "a.test", dns.TypeMX)
	if err != nil || !slices.Equal(a.MX, []dns.MX{{5, "ok.test"}}) || a.TTL != 30*time.Second {
		t.Fatalf("%+v, %v", a, err)
	}
}

// TestReferral: a server that only points elsewhere says nothing about a name, whatever
// it is asked for, and the next one is asked. RFC 2308 2.2
func TestReferral(t *testing.T) {
	lame := dnstest.StartHandler(t, handler(func(q, m *wire.Msg) {
		m.Ns = append(m.Ns, record(t, "test. 60 IN NS ns.other.test."))
	}))
	good := dnstest.Start(t, testZone())
	for _, c := range []struct {
		name string
		t    dns.Type
		want int
	}{
		{"m.test", dns.TypeMX, 2}, {"a.test", dns.TypeA, 2}, {"a.test", dns.TypeAAAA, 1}, {"t.test", dns.TypeTXT, 2},
		{"1.2.0.192.in-addr.arpa", dns.TypePTR, 1}, {"c.test", dns.TypeCNAME, 1},
	} {
		if a, err := client(lame).Lookup(t.Context(), c.name, c.t); !errors.Is(err, dns.ErrServFail) {
			t.Errorf("%v: got %+v, %v", c.t, a, err)
		}
		a, err := client(lame, good).Lookup(t.Context(), c.name, c.t)
		if n := len(a.MX) + len(a.Addrs) + len(a.Text); err != nil || n != c.want {
			t.Errorf("%v, and then another: got %+v, %v", c.t, a, err)
		}
	}
	// The host of a domain has an address that nobody knows now, and not none.
	if got, err := dns.LookupAddrs(t.Context(), client(lame), "a.test"); !errors.Is(err, dns.ErrServFail) || len(got) > 0 {
		t.Errorf("addresses %v, %v", got, err)
	}
}

// A server that knows no EDNS0 is asked again without (RFC 6891 7).
func TestServerWithoutEDNS(t *testing.T) {
	rr := record(t, "a.test. 60 IN A 192.0.2.1")
	addr := dnstest.StartHandler(t, handler(func(q, m *wire.Msg) {
		if q.IsEdns0() != nil {
			m.Rcode, m.Question = wire.RcodeFormatError, nil
			return
		}
		m.Answer = []wire.RR{rr}
	}))
	if a, err := client(addr).Lookup(t.Context(), "a.test", dns.TypeA); err != nil || len(a.Addrs) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
}

// A server that gives only the CNAME is asked for what it leads to.
func TestCNAMELeadsOutOfTheAnswer(t *testing.T) {
	byName := map[string]wire.RR{
		"x.test.": record(t, "x.test. 5 IN CNAME y.test."),
		"y.test.": record(t, "y.test. 60 IN CNAME z.test."),
		"z.test.": record(t, "z.test. 60 IN A 192.0.2.1"),
		"p.test.": record(t, "p.test. 60 IN CNAME q.test."),
		"q.test.": record(t, "q.test. 60 IN CNAME p.test."),
	}
	addr := dnstest.StartHandler(t, handler(func(q, m *wire.Msg) { m.Answer = []wire.RR{byName[q.Question[0].Name]} }))
	a, err := client(addr).Lookup(t.Context(), "x.test", dns.TypeA)
	if err != nil || a.Name != "z.test" || len(a.Addrs) != 1 || a.TTL != 5*time.Second {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := client(addr).Lookup(t.Context(), "p.test", dns.TypeA); !errors.Is(err, dns.ErrLoop) {
		t.Fatalf("a loop over two answers: %v", err)
	}
}

func TestTTL(t *testing.T) {
	tests := []struct {
		name    string
		rcode   int
		answer  []string
		ns      []string
		want    time.Duration
		missing bool
	}{
		{"least of all records", 0, []string{"a.test. 60 IN A 192.0.2.1", "a.test. 30 IN A 192.0.2.2"}, nil, 30 * time.Second, false},
		{"never over a day", 0, []string{"a.test. 999999 IN A 192.0.2.1"}, nil, 24 * time.Hour, false},
		{"highest bit set", 0, []string{"a.test. 4000000000 IN A 192.0.2.1"}, nil, 0, false},
		{"highest bit alone", 0, []string{"a.test. 2147483648 IN A 192.0.2.1"}, nil, 0, false}, // RFC 2181 8
		{"NODATA behind a CNAME that holds for less", 0, []string{"a.test. 5 IN CNAME b.test."}, []string{"test. 600 IN SOA n. m. 1 2 3 4 20"}, 5 * time.Second, false},
		{"SOA of a zone that ends alike", wire.RcodeNameError, nil, []string{"est. 10 IN SOA n. m. 1 2 3 4 20"}, 0, true},
		{"NXDOMAIN by MINIMUM", wire.RcodeNameError, nil, []string{"test. 600 IN SOA n. m. 1 2 3 4 20"}, 20 * time.Second, true},
		{"NXDOMAIN by the TTL of SOA", wire.RcodeNameError, nil, []string{"test. 10 IN SOA n. m. 1 2 3 4 20"}, 10 * time.Second, true},
		{"NODATA never over an hour", 0, nil, []string{"test. 99999 IN SOA n. m. 1 2 3 4 99999"}, time.Hour, false},
		{"negative without SOA", wire.RcodeNameError, nil, nil, 0, true},
		{"SOA of another zone", wire.RcodeNameError, nil, []string{"example. 10 IN SOA n. m. 1 2 3 4 20"}, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := dnstest.StartHandler(t, handler(func(q, m *wire.Msg) {
				m.Rcode = tt.rcode
				for _, s := range tt.answer {
					m.Answer = append(m.Answer, record(t, s))
				}
				for _, s := range tt.ns {
					m.Ns = append(m.Ns, record(t, s))
				}
			}))
			a, err := client(addr).Lookup(t.Context(), "a.test", dns.TypeA)
			if err != nil || a.TTL != tt.want || a.NXDomain != tt.missing {
				t.Fatalf("%+v, %v", a, err)
			}
		})
	}
}

// A server that sends what is no DNS message, by UDP or TCP, is an error that
// names it, and no answer.
func TestMalformed(t *testing.T) {
	addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg)
		m.SetReply(q)
		packed, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && strings.HasPrefix(q.Question[0].Name, "tcp.") {
			packed[2] |= 0x02 // TC
			w.Write(packed)
			return
		}
		packed[7] = 9 // nine answers, and none there
		w.Write(append(packed, 0xff))
	}))
	for _, name := range []string{"udp.test", "tcp.test"} {
		_, err := client(addr).Lookup(t.Context(), name, dns.TypeA)
		if !errors.Is(err, dns.ErrMalformed) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMissingRecords: an answer that is cut off between two records, or has a record
// without data, is none. A domain would else have no MX, or the null MX, and its mail
// would go to another host or back.
func TestMissingRecords(t *testing.T) {
	mx := record(t, "a.test. 60 IN MX 5 mx.a.test.")
	for name, spoil := range map[string]func([]byte) []byte{
		"no record": func(p []byte) []byte { return p[:len(p)-len("\xc0\x0c....TTTTll\x00\x05\x02mx\xc0\x0c")] },
		"one more":  func(p []byte) []byte { p[7]++; return p },
		"authority": func(p []byte) []byte { p[9]++; return p },
		"no data":   func(p []byte) []byte { p = p[:len(p)-7]; p[len(p)-1] = 0; return p },
	} {
		addr := dnstest.StartHandler(t, wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
			m := &wire.Msg{Compress: true}
			m.SetReply(q)
			m.Answer = []wire.RR{mx}
			packed, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			w.Write(spoil(packed))
		}))
		a, err := client(addr).Lookup(t.Context(), "a.test", dns.TypeMX)
		if !errors.Is(err, dns.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}
