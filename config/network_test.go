package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// A network of IPv4 that is written as IPv6 holds the clients that it names, whose
// addresses are of IPv4: in each list.
func TestMappedNetworks(t *testing.T) {
	const list = `["::ffff:192.0.2.0/120", "::ffff:198.51.100.7", "::ffff:c633:6400/127", "2001:db8::/32"]`
	src := "listener \"mx\" {\n address = \":25\"\n relay_from = " + list + "\n refuse = " + list + "\n proxy_from = " + list +
		"\n xclient_from = " + list + "\n}\nlimits { exempt = " + list + " }\n"
	cfg, found := Load("x.hcl", []byte(src), nil, nil)
	if found.HasErrors() {
		t.Fatal(found)
	}
	l := cfg.Listeners[0]
	for i, got := range [][]netip.Prefix{l.RelayFrom, l.Refuse, l.ProxyFrom, l.XClientFrom, cfg.Limits.Exempt} {
		if want := "[192.0.2.0/24 198.51.100.7/32 198.51.100.0/31 2001:db8::/32]"; fmt.Sprint(got) != want {
			t.Errorf("list %d: %v", i, got)
		}
	}
}

// Who lets in everybody is told so, unless only this machine can come.
func TestEverybody(t *testing.T) {
	for src, want := range map[string]string{
		`address = ":25"
relay_from = ["0.0.0.0/0"]`: `x.hcl:3,15: warning: relay_from = "0.0.0.0/0" makes this an open relay`,
		`address = ":25"
relay_from = ["::/0"]`: `x.hcl:3,15: warning: relay_from = "::/0" makes this an open relay`,
		`address = ":25"
relay_from = ["::ffff:0:0/96"]`: `x.hcl:3,15: warning: relay_from = "0.0.0.0/0" makes this an open relay`,
		`address = ":25"
xclient_from = ["192.0.2.1", "::/0"]`: `x.hcl:3,30: warning: xclient_from = "::/0" lets anyone say`,
		`address = ":25"
proxy_from = ["0.0.0.0/0"]`: `x.hcl:3,15: warning: proxy_from = "0.0.0.0/0" lets anyone say`,
		`address = "127.0.0.1:25"
relay_from = ["0.0.0.0/0"]`: "",
		`address = "[::1]:25"
proxy_from = ["::/0"]`: "",
		`address = ":25"
relay_from = ["10.0.0.0/8"]
refuse = ["0.0.0.0/0", "::/0"]`: "",
	} {
		_, found := Load("x.hcl", []byte("listener \"mx\" {\n"+src+"\n}\n"), nil, nil)
		if (len(found) > 0) != (want != "") || found.HasErrors() || len(found) > 0 && !strings.HasPrefix(found[0].String(), want) {
			t.Errorf("%s: %v, want %q", src, found, want)
		}
	}
}
