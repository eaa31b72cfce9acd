// Package dns asks the Domain Name System what mail needs to know: a resolver
// of one method, a client with a cache that asks real servers, the order of MX
// records, and a zone held in memory for tests.
package dns

import (
	"context"
	"net/netip"
	"time"
)

// A Resolver answers one question.
//
// That a name does not exist, or has no record of the type, is an answer and
// not an error. An error means that nobody could tell: SERVFAIL, REFUSED,
// timeout, a broken packet. Mail waits then (RFC 5321 5.1).
type Resolver interface {
	Lookup(ctx context.Context, name string, t Type) (Answer, error)
}

// A Type is a type of record.
type Type uint16

// The types that are asked for.
const (
	TypeA     Type = 1
	TypeCNAME Type = 5
	TypePTR   Type = 12
	TypeMX    Type = 15
	TypeTXT   Type = 16
	TypeAAAA  Type = 28
)

// An Answer is what the DNS says. CNAMEs are followed: Name is where they led.
type Answer struct {
	Name     string        // canonical, lower case, without the final dot
	NXDomain bool          // the name does not exist at all
	Addrs    []netip.Addr  // of A and AAAA
	MX       []MX          // of MX, in the order of the packet
	Text     []string      // of TXT, one string a record; of PTR, names
	TTL      time.Duration // how long the answer may be kept
}

// An MX is one mail exchanger. Host "" is the null MX "." (RFC 7505).
type MX struct {
	Preference uint16
	Host       string // lower case, without the final dot
}
