package dns_test

import (
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
