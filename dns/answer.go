package dns

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
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

// truncatedBit is TC, in the third octet of the header.
const truncatedBit = 0x02

// packets are what packets are read into. A message keeps nothing of them.
var packets = sync.Pool{New: func() any { return new([readSize]byte) }}

// readPacket reads packets until one is the answer to q. One that fills the buffer may
// have been longer, and counts as truncated.
func readPacket(conn net.Conn, q *wire.Msg) (*wire.Msg, error) {
	kept := packets.Get().(*[readSize]byte)
	defer packets.Put(kept)
	buf := kept[:]
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if n == len(buf) {
			buf[2] |= truncatedBit
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
	if packet[2]&truncatedBit != 0 {
		return &wire.Msg{MsgHdr: wire.MsgHdr{Id: q.Id, Response: true, Truncated: true}}, nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(packet); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if m.Rcode == wire.RcodeSuccess || m.Rcode == wire.RcodeNameError {
		if err := whole(m, packet); err != nil {
			return nil, err
		}
	} else if len(m.Question) == 0 {
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
// 4.1.1), or one without all of its data: the library is content with that, and what is
// missing would be taken for what does not exist. Where there is no answer, the reason
// may be in an OPT record, which has the upper bits of the code (RFC 6891 6.1.3).
func whole(m *wire.Msg, packet []byte) error {
	count := func(at int) int { return int(binary.BigEndian.Uint16(packet[at:])) }
	if len(m.Answer) != count(6) || len(m.Ns) != count(8) || len(m.Answer) == 0 && len(m.Extra) != count(10) {
		return fmt.Errorf("%w: records are missing", ErrMalformed)
	}
	for _, section := range [][]wire.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			if h := rr.Header(); h.Rdlength < dataMin(h.Rrtype) {
				return fmt.Errorf("%w: a record without all of its data", ErrMalformed)
			}
		}
	}
	return nil
}

// dataMin is how many octets the data of a record of that type take at least. The
// library leaves fields empty that are not there, and an MX without a name is no null MX.
func dataMin(t uint16) uint16 {
	switch t {
	case wire.TypeMX:
		return 3 // a preference, and the name of the root
	case wire.TypeSOA:
		return 22 // two names, and five numbers
	}
	return 1
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

// saysNothing reports whether an answer without an error has no record of the name, and
// no word that there is none.
//
// A server that only says who else may know does not ask for others. RFC 2308 2.2 tells
// a negative answer from that "by the presence of a SOA record in the authority section
// or the absence of NS records in the authority section". One that neither holds the
// zone (AA) nor asks for others (RA) cannot know that there is no record: the resolvers
// of libc and of Go pass it over too. And what is said of other names, or that one is
// below another that has moved (DNAME) without saying where to, says nothing of this one.
func saysNothing(m *wire.Msg, name string) bool {
	if m.Rcode != wire.RcodeSuccess {
		return false
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Class == wire.ClassINET && canonical(h.Name) == name {
			return false
		}
	}
	ns := false
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *wire.SOA:
			return false
		case *wire.NS:
			ns = true
		}
	}
	return ns || len(m.Answer) > 0 || !m.Authoritative && !m.RecursionAvailable
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
