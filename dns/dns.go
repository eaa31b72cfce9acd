// Package dns asks the Domain Name System what mail needs to know: a resolver
// of one method, a client with a cache that asks real servers, the order of MX
// records, and a zone held in memory for tests.
package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Resolver answers one question.
//
// That a name does not exist, or has no record of the type, is an answer and
// not an error. An error means that nobody could tell: SERVFAIL, REFUSED,
// timeout, a broken packet. Mail waits then (RFC 5321 5.1).
type Resolver interface {
	// Lookup asks for the records of one type. The name is in A-label form (see
	// ToASCII); its case, and a final dot, do not matter.
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

// String returns the name of the type, such as "MX".
func (t Type) String() string {
	switch t {
	case TypeA:
		return "A"
	case TypeCNAME:
		return "CNAME"
	case TypePTR:
		return "PTR"
	case TypeMX:
		return "MX"
	case TypeTXT:
		return "TXT"
	case TypeAAAA:
		return "AAAA"
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// An Answer is what the DNS says. CNAMEs are followed: Name is where they led.
type Answer struct {
	Name     string        // canonical, lower case, without the final dot
	NXDomain bool          // the name does not exist at all
	Addrs    []netip.Addr  // of A and AAAA
	MX       []MX          // of MX, in the order of the packet
	Text     []string      // of TXT, one string a record; of PTR and CNAME, names
	TTL      time.Duration // how long the answer may be kept
}

// An MX is one mail exchanger. Host "" is the null MX "." (RFC 7505).
type MX struct {
	Preference uint16
	Host       string // lower case, without the final dot
}

// Errors of a Resolver, wrapped with the question and the server that was asked.
// In each case nobody knows the answer, and it may be known later.
var (
	ErrServFail  = errors.New("server failure")       // SERVFAIL
	ErrRefused   = errors.New("query refused")        // REFUSED
	ErrTimeout   = errors.New("no answer in time")    // no server answered
	ErrMalformed = errors.New("malformed answer")     // not a DNS message, or not an answer to the question
	ErrLoop      = errors.New("CNAME loop")           // or a chain of more than cnameMax
	ErrNoServer  = errors.New("no server configured") // a Client without servers
)

// cnameMax is how many CNAMEs are followed for one question.
const cnameMax = 10

// clone returns a copy of a that shares no memory with it.
func (a Answer) clone() Answer {
	a.Addrs, a.MX, a.Text = slices.Clone(a.Addrs), slices.Clone(a.MX), slices.Clone(a.Text)
	return a
}

// canonical returns a name in lower case without its final dot.
func canonical(name string) string {
	if strings.HasSuffix(name, `\.`) { // the dot is part of a label
		return strings.ToLower(name)
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
