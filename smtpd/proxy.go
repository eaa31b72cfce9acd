package smtpd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of a header of the PROXY protocol: the specification of HAProxy, 2.1, says
// that a line has 107 octets at the most, and the binary form needs no more than we
// take, whatever a load balancer adds to the addresses.
const (
	proxyLineMax   = 107
	proxyBinaryMax = 4096
)

// proxySignature begins the binary form.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

var errProxy = errors.New("no header of the PROXY protocol")

// A proxied is what a header of the PROXY protocol says: the two ends of the
// connection that the proxy has accepted. The zero proxied says nothing: the proxy
// speaks for itself, or does not know.
type proxied struct {
	from, to netip.AddrPort
	known    bool // there are ends; zero ones for a client on a Unix socket
}

// readProxy reads a header of version 1 or 2, and not an octet more. An io.EOF says
// that nothing came at all.
func readProxy(r io.Reader) (proxied, error) {
	var b [proxyLineMax]byte
	// Both forms have as many octets as this.
	n, err := io.ReadFull(r, b[:len(proxySignature)])
	switch {
	case err != nil && n > 0:
		return proxied{}, errors.Join(errProxy, err)
	case err != nil:
		return proxied{}, err
	case string(b[:n]) == proxySignature:
		return readProxyBinary(r)
	case !bytes.HasPrefix(b[:n], []byte("PROXY ")):
		return proxied{}, errProxy
	}
	for !bytes.HasSuffix(b[:n], []byte("\r\n")) {
		if n == len(b) || bytes.IndexByte(b[:n], '\n') >= 0 {
			return proxied{}, errProxy
		}
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return proxied{}, errors.Join(errProxy, err)
		}
		n++
	}
	return parseProxyLine(string(b[:n-2]))
}

// parseProxyLine reads the line of version 1, without its CRLF: PROXY, TCP4 or TCP6,
// and the source, the destination and their ports, with one space between.
func parseProxyLine(line string) (proxied, error) {
	f := strings.Split(line, " ")
	if len(f) > 1 && f[1] == "UNKNOWN" {
		return proxied{}, nil // "the receiver must ignore anything presented before the CRLF is found"
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return proxied{}, errProxy
	}
	from, err1 := proxyAddr(f[2], f[4], f[1] == "TCP4")
	to, err2 := proxyAddr(f[3], f[5], f[1] == "TCP4")
	if err1 != nil || err2 != nil {
		return proxied{}, errProxy
	}
	return proxied{from, to, true}, nil
}

func proxyAddr(host, port string, v4 bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(host)
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.AddrPort{}, errProxy
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, errProxy
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// readProxyBinary reads what follows the signature of version 2.
func readProxyBinary(r io.Reader) (proxied, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return proxied{}, errors.Join(errProxy, err)
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || size > proxyBinaryMax {
		return proxied{}, errProxy
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return proxied{}, errors.Join(errProxy, err)
	}
	local := head[0]&15 == 0
	if !local && head[0]&15 != 1 {
		return proxied{}, errProxy
	}
	ip := 0
	switch family := head[1]; {
	case local || family == 0x00: // by itself, or of no kind that has addresses
		return proxied{}, nil
	case family == 0x11:
		ip = 4
	case family == 0x21:
		ip = 16
	case family == 0x31 && size >= 216: // a Unix socket
		return proxied{known: true}, nil
	default:
		return proxied{}, errProxy
	}
	if size < 2*ip+4 {
		return proxied{}, errProxy
	}
	from, _ := netip.AddrFromSlice(body[:ip])
	to, _ := netip.AddrFromSlice(body[ip : 2*ip])
	ports := body[2*ip:]
	return proxied{
		from:  netip.AddrPortFrom(from.Unmap(), binary.BigEndian.Uint16(ports)),
		to:    netip.AddrPortFrom(to.Unmap(), binary.BigEndian.Uint16(ports[2:])),
		known: true,
	}, nil
}

// proxy reads the header that a proxy begins with, and reports whether the client
// behind it is to be served.
func (c *conn) proxy() bool {
	_ = c.raw.SetDeadline(time.Now().Add(c.server.proxyTimeout()))
	c.idle.Store(true)
	err := error(errDraining)
	p := proxied{}
	if c.base.Err() == nil && !c.server.draining() {
		p, err = readProxy(c.raw)
	}
	c.idle.Store(false)
	c.disarm()
	if err != nil {
		// A proxy that only looks whether we are there says nothing at all.
		if !errors.Is(err, errDraining) && !(errors.Is(err, io.EOF) && !errors.Is(err, errProxy)) && c.base.Err() == nil && !c.server.draining() {
			c.server.alarm(fmt.Errorf("smtpd: %v, which Server.Proxy trusts: %w", c.client.Peer, err))
		}
		_ = c.die(err)
		return false
	}
	if !p.known {
		return true
	}
	// What comes from now on, XCLIENT too, the client says and not the proxy.
	return c.become(p.from, p.to)
}

// become takes another client for the one that speaks, and reports whether there is
// a place for it.
func (c *conn) become(peer, local netip.AddrPort) bool {
	c.client.Peer, c.client.Local = peer, local
	if r := c.server.move(c); r != nil {
		if !c.server.Implicit || c.client.TLS != nil {
			c.sit()
			c.out = r.AppendTo(c.out)
		}
		c.closing = true
		return false
	}
	return true
}
