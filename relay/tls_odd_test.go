package relay

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
)

// TestNameOfLiteral: what a server hears of the name that it is asked for, and what its
// certificate must be for, where we have an address and no name. RFC 6066 3: "Literal
// IPv4 and IPv6 addresses are not permitted in "HostName"."
func TestNameOfLiteral(t *testing.T) {
	leaf := authorities()[0].sign(&x509.Certificate{
		IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}, NotAfter: authorities()[0].cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	for _, test := range []struct{ to, host, addr string }{
		{"b@[192.0.2.1]", "", "192.0.2.1:25"},
		{"b@[IPv6:2001:db8::1]", "", "[2001:db8::1]:25"},
		{"b@[ipv6:2001:DB8:0::1]", "", "[2001:db8::1]:25"},
		{"b@[IPv6:::ffff:192.0.2.1]", "", "192.0.2.1:25"},
		{"b@example.org", "[192.0.2.1]", "192.0.2.1:25"},
		{"b@example.org", "2001:db8::1", "[2001:db8::1]:25"},
		{"b@example.org", "[2001:DB8::1]", "[2001:db8::1]:25"},
		{"b@example.org", "::ffff:192.0.2.1", "192.0.2.1:25"},
	} {
		t.Run(test.to+" "+test.host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard []string
				w := newWorld()
				w.peers[test.addr] = offering(&tls.Config{
					Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}, SessionTicketsDisabled: true,
					GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
						heard = append(heard, h.ServerName)
						return nil, nil
					},
				}, nil)
				r := w.relay(Options{Roots: roots()})
				defer w.done(t, r)
				d := delivery(t, postrider.ViaMX, test.to)
				if d.Route.TLS = postrider.TLSVerify; test.host != "" {
					d.Route.Via, d.Route.Host = postrider.ViaSMTP, test.host
				}
				o := r.Deliver(t.Context(), d)[0]
				if o.Result != postrider.ResultDelivered || len(heard) != 1 || heard[0] != "" {
					t.Errorf("%s, name %q", describe(o), heard)
				}
			})
		})
	}
}
