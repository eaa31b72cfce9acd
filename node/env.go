package node

import (
	"context"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// Env is everything that a node takes from outside.
type Env struct {
	FS   vfs.FS
	Net  postrider.Network
	DNS  dns.Resolver
	Now  func() time.Time               // the wall clock, for what is written down; waiting uses package time
	Rand func(stream string) *rand.Rand // a stream for each name
	Log  *slog.Logger
	// Lines is what the handler of Log writes to, so that the lines of many events are
	// written at once. Nil: each is written when it comes.
	Lines *Lines
	// Addrs are the addresses of this machine, for listeners that take every one
	// of them. Nil: there are none beside loopback.
	Addrs func() ([]netip.Addr, error)
	// Load reads the configuration anew, for a reload. Its errors are those of the
	// file, with their places. Nil: there is nothing to read.
	Load func() (*config.Config, error)
	// Roots are whom we trust to vouch for the names of peers. Nil: whom the system
	// trusts.
	Roots *x509.CertPool
	// Descriptors is how many files and connections the process may have open. 0:
	// nobody knows.
	Descriptors int
	// Memory is how much of it the process may have; the zero Memory: as much as there is.
	Memory Memory
	// Tune changes the sizes of the spool, which a simulation makes small. Nil: they
	// are as they are.
	Tune func(*spool.Options)
	// Wrap puts something around the spool. Nil: nothing.
	Wrap func(postrider.Spool) postrider.Spool
	// Control makes the listener of the control socket, a file that only its
	// owner may open. Nil: there is none.
	Control func(ctx context.Context, name string) (net.Listener, error)
	// Submit makes the listener of the socket where programs hand mail in, a file
	// that everyone may open who may enter its folder. Nil: there is none.
	Submit func(ctx context.Context, name string) (net.Listener, error)
}

// System is the Env of this machine. The name servers are those of cfg, or of
// the system where it names none.
func System(cfg *config.Config) Env {
	network := systemNetwork{}
	asked := dns.Options{Servers: nameServers(cfg), Dialer: network}
	if len(asked.Servers) == 0 {
		asked.Current = (&resolvConf{file: resolvConfFile}).servers
	}
	return Env{
		FS:      vfs.OS(),
		Net:     network,
		DNS:     dns.NewCache(dns.NewClient(asked), dns.CacheOptions{}),
		Now:     time.Now,
		Rand:    systemRand,
		Log:     slog.Default(),
		Addrs:   systemAddrs,
		Control: listenControl,
		Submit:  listenSubmit,

		Descriptors: descriptors(),
	}
}

// systemNetwork is the network of the machine.
type systemNetwork struct{}

func (systemNetwork) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, network, addr)
}

func (systemNetwork) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// systemRand seeds each stream from the system.
func systemRand(string) *rand.Rand {
	var seed [16]byte
	crand.Read(seed[:]) // never fails
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
}

func systemAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}
