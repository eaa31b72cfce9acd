package dns

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// How long an answer is kept at most, whatever it says. RFC 2308 5 finds one to
// three hours good for negative answers, and over a day problematic.
const (
	ttlMax         = 24 * time.Hour
	negativeTTLMax = time.Hour
)

// headerSize is the length of the header of a DNS message, in octets
// (RFC 1035 4.1.1).
const headerSize = 12

// readPacket reads packets until one is the answer to q.
func readPacket(conn net.Conn, q *wire.Msg) (*wire.Msg, error) {
	buf := make([]byte, readSize)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		m, err := parseAnswer(buf[:n], q)
		if m != nil || err != nil {
			return m, err
		}
	}
}

// readStream reads one answer to q from a TCP connection.
func readStream(conn net.Conn, q *wire.Msg) (*wire.Msg, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	m, err := parseAnswer(buf, q)
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, fmt.Errorf("%w: it is not for this query", ErrMalformed)
	case m.Truncated:
		return nil, fmt.Errorf("%w: truncated over TCP", ErrMalformed)
	}
	return m, nil
}

// parseAnswer reads a packet. It returns nil and no error for one that is not
// the answer to q: late, stray or forged.
func parseAnswer(packet []byte, q *wire.Msg) (*wire.Msg, error) {
	if len(packet) < headerSize || binary.BigEndian.Uint16(packet) != q.Id || packet[2]&0x80 == 0 {
		return nil, nil
	}
	if packet[2]&0x02 != 0 {
		return &wire.Msg{MsgHdr: wire.MsgHdr{Id: q.Id, Response: true, Truncated: true}}, nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(packet); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if err := whole(m, packet); err != nil {
		return nil, err
	}
	if len(m.Question) == 0 && m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		return m, nil // a server that could not read the question cannot repeat it
	}
	if len(m.Question) != 1 {
		return nil, nil
	}
	a, b := m.Question[0], q.Question[0]
	if a.Qtype != b.Qtype || a.Qclass != b.Qclass || canonical(a.Name) != canonical(b.Name) {
		return nil, nil
	}
	return m, nil
}

// whole is an error where a message has fewer records than its header says (RFC 1035
// 4.1.1), or one without data: the library is content with that, and what is missing
// would be taken for what does not exist.
func whole(m *wire.Msg, packet []byte) error {
	answers, authority := binary.BigEndian.Uint16(packet[6:]), binary.BigEndian.Uint16(packet[8:])
	if len(m.Answer) != int(answers) || len(m.Ns) != int(authority) {
		return fmt.Errorf("%w: records are missing", ErrMalformed)
	}
	for _, rr := range m.Answer {
		if rr.Header().Rdlength == 0 {
			return fmt.Errorf("%w: a record without data", ErrMalformed)
		}
	}
	return nil
}

// readAnswer takes from a message what it says of name: it follows CNAMEs from
// there and passes over records of other names. More is true when the chain of
// CNAMEs leads out of the message, to Answer.Name, which is to be asked for next.
func readAnswer(m *wire.Msg, name string, t Type) (a Answer, more bool, err error) {
	a = Answer{Name: name, TTL: ttlMax}
	seen := map[string]bool{name: true}
	for t != TypeCNAME {
		target, ttl, found := cnameOf(m, a.Name)
		if !found {
			break
		}
		a.Name, a.TTL = target, min(a.TTL, ttl)
		if seen[target] || len(seen) > cnameMax {
			return Answer{}, false, ErrLoop
		}
		seen[target] = true
	}
	if takeRecords(m, &a, t) {
		return a, false, nil
	}
	soa := soaOf(m, a.Name)
	if m.Rcode == wire.RcodeNameError {
		a.NXDomain = true
	} else if len(seen) > 1 && soa == nil {
		return a, true, nil
	}
	// RFC 2308 3: the TTL of a negative answer is "the minimum of the MINIMUM
	// field of the SOA record and the TTL of the SOA itself". RFC 2308 5: without
	// an SOA record it is not to be kept.
	negative := time.Duration(0)
	if soa != nil {
		negative = min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), negativeTTLMax)
	}
	a.TTL = min(a.TTL, negative)
	return a, false, nil
}

// isReferral reports whether a server only says who else may know: it does not
// ask for others, and says nothing about the name. RFC 2308 2.2 tells a negative
// answer from it "by the presence of a SOA record in the authority section or the
// absence of NS records in the authority section".
func isReferral(m *wire.Msg) bool {
	ns := false
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *wire.SOA:
			return false
		case *wire.NS:
			ns = true
		}
	}
	return ns && m.Rcode == wire.RcodeSuccess && len(m.Answer) == 0
}

// takeRecords fills a with the records of type t that a.Name owns, and reports
// whether there are any.
func takeRecords(m *wire.Msg, a *Answer, t Type) bool {
	found := false
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rrtype != uint16(t) || h.Class != wire.ClassINET || canonical(h.Name) != a.Name {
			continue
		}
		switch rr := rr.(type) {
		case *wire.A:
			addr, ok := netip.AddrFromSlice(rr.A.To4())
			if !ok {
				continue
			}
			a.Addrs = append(a.Addrs, addr)
		case *wire.AAAA:
			addr, ok := netip.AddrFromSlice(rr.AAAA.To16())
			if !ok {
				continue
			}
			a.Addrs = append(a.Addrs, addr.Unmap())
		case *wire.MX:
			a.MX = append(a.MX, MX{Preference: rr.Preference, Host: canonical(rr.Mx)})
		case *wire.TXT:
			a.Text = append(a.Text, strings.Join(rr.Txt, ""))
		case *wire.PTR:
			a.Text = append(a.Text, canonical(rr.Ptr))
		case *wire.CNAME:
			a.Text = append(a.Text, canonical(rr.Target))
		default:
			continue
		}
		found = true
		a.TTL = min(a.TTL, seconds(h.Ttl))
	}
	return found
}

// cnameOf returns where the message says that name leads.
func cnameOf(m *wire.Msg, name string) (target string, ttl time.Duration, found bool) {
	for _, rr := range m.Answer {
		c, ok := rr.(*wire.CNAME)
		if ok && c.Hdr.Class == wire.ClassINET && canonical(c.Hdr.Name) == name {
			return canonical(c.Target), seconds(c.Hdr.Ttl), true
		}
	}
	return "", 0, false
}

// soaOf returns the SOA record that makes an answer negative for name: one of a
// zone that name lies in.
func soaOf(m *wire.Msg, name string) *wire.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*wire.SOA); ok && inZone(name, canonical(soa.Hdr.Name)) {
			return soa
		}
	}
	return nil
}

// inZone reports whether name is zone or below it.
func inZone(name, zone string) bool {
	return zone == "" || name == zone || strings.HasSuffix(name, "."+zone)
}

// seconds returns a TTL of the wire. One with its highest bit set counts as zero
// (RFC 2181 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
