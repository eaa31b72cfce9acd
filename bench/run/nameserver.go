package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"

	wire "github.com/miekg/dns"
)

// Of the dead domains half have a host that refuses connections, and half one that
// answers nothing at all: a black hole.
const (
	deadDomain   = "dead.example"
	holeDomain   = "hole.example"
	refusedNet   = "127.66.0.0"
	blackHoleNet = "127.67.0.0"
)

// hostOf is the nth address of a network of 65,536.
func hostOf(network string, n int) netip.Addr {
	a := netip.MustParseAddr(network).As4()
	a[2], a[3] = byte(n/250), byte(1+n%250)
	return netip.AddrFrom4(a)
}

// deadZone is a zone of dead domains, each with a host of its own.
func deadZone(domains int) *dns.Zone {
	z := dns.NewZone()
	for n := range domains / 2 {
		for name, network := range map[string]string{deadDomain: refusedNet, holeDomain: blackHoleNet} {
			host := fmt.Sprintf("mx.d%d.%s", n, name)
			z.MX(fmt.Sprintf("d%d.%s", n, name), 10, host).A(host, hostOf(network, n).String())
		}
	}
	return z
}

// nameServer serves a zone by UDP and TCP, and returns its address.
func (b *bench) nameServer(addr string, z *dns.Zone) (string, error) {
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(b.ctx)
	h := dnstest.Handler(ctx, z)
	var all sync.WaitGroup
	servers := []*wire.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}}
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		all.Go(func() { _ = s.ActivateAndServe() })
		<-started
	}
	b.stops = append(b.stops, func() {
		cancel()
		for _, s := range servers {
			_ = s.Shutdown()
		}
		all.Wait()
	})
	return pc.LocalAddr().String(), nil
}

// blackHoles makes hosts that take no connection and refuse none: each listens
// with room for one that nobody accepts, and that one is there.
func (b *bench) blackHoles(hosts, port int) error {
	var fds []int
	var full []net.Conn
	b.stops = append(b.stops, func() {
		for _, c := range full {
			_ = c.Close()
		}
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	})
	for n := range hosts {
		addr := hostOf(blackHoleNet, n)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		fds = append(fds, fd)
		syscall.CloseOnExec(fd)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: addr.As4()}); err != nil {
			return os.NewSyscallError("bind", err)
		}
		if err := syscall.Listen(fd, 0); err != nil {
			return os.NewSyscallError("listen", err)
		}
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, uint16(port)).String(), patience)
		if err != nil {
			return err
		}
		full = append(full, c)
	}
	return nil
}
