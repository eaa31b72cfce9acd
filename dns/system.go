package dns

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
)

// resolvConfMax is how many servers a resolv.conf names at most.
const resolvConfMax = 3

// ParseResolvConf returns the servers of a file in the format of resolv.conf(5),
// as "host:port" for Options. What it cannot read it passes over, as the
// system's own resolver does.
func ParseResolvConf(r io.Reader) []string {
	var servers []string
	for lines := bufio.NewScanner(r); lines.Scan() && len(servers) < resolvConfMax; {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(words[1]); err == nil {
			servers = append(servers, net.JoinHostPort(addr.String(), "53"))
		}
	}
	return servers
}
