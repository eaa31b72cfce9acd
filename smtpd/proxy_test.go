package smtpd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// appendProxy is the header of both versions for two ends.
func appendProxy(version int, from, to netip.AddrPort) []byte {
	family, name := byte(0x11), "TCP4"
	if from.Addr().Is6() {
		family, name = 0x21, "TCP6"
	}
	if version == 1 {
		return fmt.Appendf(nil, "PROXY %s %v %v %d %d\r\n", name, from.Addr(), to.Addr(), from.Port(), to.Port())
	}
	var body []byte
	body = append(append(body, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	body = binary.BigEndian.AppendUint16(body, from.Port())
	body = binary.BigEndian.AppendUint16(body, to.Port())
	head := append([]byte(proxySignature), 0x21, family)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(body))), body...)
}

func TestReadProxy(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, ends := range [][2]netip.AddrPort{
		{ap("203.0.113.7:56324"), ap("198.51.100.1:25")}, {ap("[2001:db8::7]:65535"), ap("[2001:db8::1]:0")}, {ap("255.255.255.255:1"), ap("0.0.0.0:2")},
		{ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
	} {
		for version := 1; version <= 2; version++ {
			header := appendProxy(version, ends[0], ends[1])
			r := strings.NewReader(string(header) + "EHLO x\r\n")
			got, err := readProxy(r)
			if err != nil || got != (proxied{ends[0], ends[1], true}) || r.Len() != len("EHLO x\r\n") {
				t.Errorf("%q: %+v, %v, and %d octets after it", header, got, err, r.Len())
			}
			for n := range header {
				if got, err := readProxy(bytes.NewReader(header[:n])); err == nil || got != (proxied{}) || (n == 0) != errors.Is(err, io.EOF) && n == 0 {
					t.Errorf("%q: %+v, %v", header[:n], got, err)
				}
			}
		}
	}
	for header, want := range map[string]proxied{
		"PROXY UNKNOWN\r\n": {}, "PROXY UNKNOWN anything at all\r\n": {},
		proxySignature + "\x20\x11\x00\x00": {}, proxySignature + "\x21\x00\x00\x03abc": {},
		proxySignature + "\x21\x31\x00\xd8" + strings.Repeat("x", 216): {known: true},
	} {
		if got, err := readProxy(strings.NewReader(header)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", header, got, err, want)
		}
	}
	for _, header := range []string{
		"PROXY TCP4 203.0.113.7 198.51.100.1 56324\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 56324 25 \r\n", "PROXY  TCP4 203.0.113.7 198.51.100.1 1 2\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "PROXY TCP6 203.0.113.7 198.51.100.1 1 2\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 065 2\r\n",
		"PROXY TCP4 203.0.113.7 198.51.100.1 65536 2\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 -1 2\r\n", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
		"PROXY UDP4 203.0.113.7 198.51.100.1 1 2\r\n", "proxy TCP4 203.0.113.7 198.51.100.1 1 2\r\n", "PROXY TCP4 203.0.113.07 198.51.100.1 1 2\r\n",
		"PROXY \r\n\r\n\r\n\r\n", "PROXY TCP4 \n203.0.113.7 198.51.100.1 1 2\r\n", "EHLO example.org\r\n",
		proxySignature + "\x11\x11\x00\x00", proxySignature + "\x22\x11\x00\x00", proxySignature + "\x21\x11\x10\x01" + strings.Repeat("x", 4097),
		proxySignature + "\x21\x31\x00\xd7" + strings.Repeat("x", 215), proxySignature + "\x21\x41\x00\x00",
	} {
		if got, err := readProxy(strings.NewReader(header)); !errors.Is(err, errProxy) {
			t.Errorf("%q: %+v, %v", header, got, err)
		}
	}
}

// FuzzProxy: a header is read to its end and not further, in whatever pieces it
// comes, and what it says is what a header of it says.
func FuzzProxy(f *testing.F) {
	ap := netip.MustParseAddrPort
	for version := 1; version <= 2; version++ {
		f.Add(append(appendProxy(version, ap("203.0.113.7:1"), ap("198.51.100.1:25")), "EHLO x\r\n"...))
		f.Add(appendProxy(version, ap("[2001:db8::7]:1"), ap("[2001:db8::1]:25")))
	}
	f.Add([]byte("PROXY UNKNOWN x\r\n"))
	f.Add([]byte(proxySignature + "\x20\x00\x00\x00x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := bytes.NewReader(in)
		got, err := readProxy(whole)
		pieces := bytes.NewReader(in)
		got2, err2 := readProxy(iotest.OneByteReader(pieces))
		if got != got2 || (err == nil) != (err2 == nil) || whole.Len() != pieces.Len() {
			t.Fatalf("%q: whole %+v %v with %d left, in pieces %+v %v with %d", in, got, err, whole.Len(), got2, err2, pieces.Len())
		}
		if err != nil {
			if got != (proxied{}) || !errors.Is(err, errProxy) && len(in) > 0 {
				t.Fatalf("%q: %+v, %v", in, got, err)
			}
			return
		}
		header := in[:len(in)-whole.Len()]
		again, err := readProxy(bytes.NewReader(header))
		if err != nil || again != got {
			t.Fatalf("%q is not all of the header: %+v, %v", header, again, err)
		}
		if _, err := readProxy(bytes.NewReader(header[:len(header)-1])); err == nil {
			t.Fatalf("%q is more than the header", header)
		}
		if got.known && got.from.IsValid() && got.from.Addr().Is4() == got.to.Addr().Is4() {
			for version := 1; version <= 2; version++ {
				if same, err := readProxy(bytes.NewReader(appendProxy(version, got.from, got.to))); err != nil || same != got {
					t.Fatalf("%+v: %+v, %v", got, same, err)
				}
			}
		}
	})
}

// The clients behind a proxy are counted each by itself, and the proxy is not.
func TestProxyLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var alarms atomic.Int32
		s := &Server{Handler: &recorder{}, MaxConnsPerPeer: 2, Proxy: func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.9") },
			Alarm: func(err error) {
				if !errors.Is(err, errProxy) {
					t.Error(err)
				}
				alarms.Add(1)
			}}
		l := newPipeListener()
		served := make(chan error, 1)
		go func() { served <- s.Serve(context.Background(), l) }()
		come := func(from, behind, want string) io.Closer {
			client := l.dial(from)
			if behind != "" {
				if _, err := client.Write(appendProxy(2, netip.MustParseAddrPort(behind), netip.MustParseAddrPort("192.0.2.1:25"))); err != nil {
					t.Fatal(err)
				}
			}
			var b [3]byte
			if _, err := io.ReadFull(client, b[:]); err != nil || string(b[:]) != want {
				t.Errorf("%s behind %s: %q, %v; want %s", behind, from, b, err, want)
			}
			go io.Copy(io.Discard, client)
			return client
		}
		one := come("192.0.2.9:1", "203.0.113.1:1", "220")
		defer come("192.0.2.9:2", "203.0.113.1:2", "220").Close()
		come("192.0.2.9:3", "203.0.113.1:3", "421").Close()
		defer come("192.0.2.9:4", "203.0.113.2:1", "220").Close()
		come("203.0.113.1:9", "", "421").Close()
		one.Close()
		synctest.Wait()
		come("203.0.113.1:10", "", "220").Close()
		// A look whether we are there is no fault, and another beginning is one.
		l.dial("192.0.2.9:5").Close()
		odd := l.dial("192.0.2.9:6")
		_, _ = io.WriteString(odd, "EHLO example.org\r\n")
		odd.Close()
		synctest.Wait()
		if alarms.Load() != 1 {
			t.Errorf("%d alarms", alarms.Load())
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
