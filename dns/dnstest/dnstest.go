// Package dnstest runs a real DNS server on loopback for tests, which answers
// from a dns.Zone by UDP and TCP.
package dnstest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/postrider/postrider/dns"

	wire "github.com/miekg/dns"
)

// ttl is the TTL of every record, in seconds.
const ttl = 60

// chainMax is how many CNAMEs the server puts into one answer.
const chainMax = 16

// Start serves zone on a free port of 127.0.0.1, by UDP and by TCP, until the
// test ends, and returns its "host:port".
func Start(t testing.TB, zone *dns.Zone) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr := StartHandler(t, Handler(ctx, zone))
	t.Cleanup(cancel)
	return addr
}

// StartHandler is Start for a server that answers as h says.
func StartHandler(t testing.TB, h wire.Handler) string {
	t.Helper()
	pc, l := listen(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // runs after the servers are told to stop
	for _, s := range []*wire.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return pc.LocalAddr().String()
}

// listen opens one port for UDP and TCP both.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	const tries = 20 // the TCP port of a free UDP port may be taken
	for range tries {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("dnstest: %v", err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("dnstest: no port is free for both UDP and TCP")
	return nil, nil
}

// Handler answers as Reply says. A question for a name that hangs is forgotten when
// ctx ends.
func Handler(ctx context.Context, zone *dns.Zone) wire.Handler {
	return wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		if m := Reply(ctx, zone, q, udp); m != nil {
			w.WriteMsg(m)
		}
	})
}

// Reply returns what a server says to a question from a zone: CNAMEs with what they
// lead to, a negative answer with an SOA record, SERVFAIL or REFUSED for a name that
// fails so; nil, silence, for one that is not answered in time. What does not fit
// into a packet of UDP is truncated.
func Reply(ctx context.Context, zone *dns.Zone, q *wire.Msg, udp bool) *wire.Msg {
	m := new(wire.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	err := fill(ctx, zone, m)
	switch {
	case err == nil, errors.Is(err, dns.ErrLoop): // a loop is left to the client
	case ctx.Err() != nil, errors.Is(err, dns.ErrTimeout):
		return nil
	case errors.Is(err, dns.ErrRefused):
		m.Rcode = wire.RcodeRefused
	default:
		m.Rcode = wire.RcodeServerFailure
	}
	if udp {
		size := wire.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
			m.SetEdns0(uint16(size), false)
		}
		m.Truncate(size)
	}
	return m
}

// fill puts into m what the zone says to its question.
func fill(ctx context.Context, zone *dns.Zone, m *wire.Msg) error {
	name, t := m.Question[0].Name, dns.Type(m.Question[0].Qtype)
	for i := 0; t != dns.TypeCNAME && i < chainMax; i++ {
		a, err := zone.Lookup(ctx, name, dns.TypeCNAME)
		if err != nil {
			return err
		}
		if len(a.Text) == 0 {
			break
		}
		target := wire.Fqdn(a.Text[0])
		m.Answer = append(m.Answer, &wire.CNAME{Hdr: header(name, wire.TypeCNAME), Target: target})
		name = target
	}
	a, err := zone.Lookup(ctx, name, t)
	if err != nil {
		return err
	}
	records := records(a, name, t)
	m.Answer = append(m.Answer, records...)
	if a.NXDomain {
		m.Rcode = wire.RcodeNameError
	}
	if len(records) == 0 {
		m.Ns = []wire.RR{&wire.SOA{Hdr: header(".", wire.TypeSOA), Ns: "ns.test.", Mbox: "root.test.", Minttl: ttl}}
	}
	return nil
}

// records returns an answer as records of the wire.
func records(a dns.Answer, name string, t dns.Type) []wire.RR {
	var rrs []wire.RR
	h := header(name, uint16(t))
	for _, addr := range a.Addrs {
		if t == dns.TypeA {
			rrs = append(rrs, &wire.A{Hdr: h, A: addr.AsSlice()})
		} else {
			rrs = append(rrs, &wire.AAAA{Hdr: h, AAAA: addr.AsSlice()})
		}
	}
	for _, mx := range a.MX {
		rrs = append(rrs, &wire.MX{Hdr: h, Preference: mx.Preference, Mx: wire.Fqdn(mx.Host)})
	}
	for _, text := range a.Text {
		switch t {
		case dns.TypePTR:
			rrs = append(rrs, &wire.PTR{Hdr: h, Ptr: wire.Fqdn(text)})
		case dns.TypeCNAME:
			rrs = append(rrs, &wire.CNAME{Hdr: h, Target: wire.Fqdn(text)})
		case dns.TypeTXT:
			rrs = append(rrs, &wire.TXT{Hdr: h, Txt: chunks(text)})
		}
	}
	return rrs
}

// chunks cuts a text into the character strings of a TXT record (RFC 1035 3.3).
func chunks(text string) []string {
	const stringMax = 255
	var out []string
	for len(text) > stringMax {
		out, text = append(out, text[:stringMax]), text[stringMax:]
	}
	return append(out, text)
}

func header(name string, t uint16) wire.RR_Header {
	return wire.RR_Header{Name: wire.Fqdn(name), Rrtype: t, Class: wire.ClassINET, Ttl: ttl}
}
