package load

import (
	"context"
	"fmt"
	"net"
)

// Loopback returns an error unless every address of a host:port is of this
// machine alone: load that goes to strangers by mistake is an attack.
func Loopback(ctx context.Context, hostport string) error {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return fmt.Errorf("%q is no address: write HOST:PORT, such as 127.0.0.1:2525", hostport)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("%s: %w", hostport, err)
	}
	for _, a := range addrs {
		if a = a.Unmap(); !a.IsLoopback() {
			return fmt.Errorf("%s is %s, which is not this machine", hostport, a)
		}
	}
	return nil
}
