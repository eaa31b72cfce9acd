package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// A Table is what a Router is made from.
type Table struct {
	// Hostname is our own name. Where it is one of Domains, that one is our home:
	// the domain of our address literals and of "<postmaster>". Else the first is.
	Hostname   string
	Addrs      []netip.Addr // our own, for address literals
	Postmaster smtp.Path    // where mail to a postmaster without a mailbox goes; null: to a mailbox of that name
	Domains    []Domain     // what we accept mail for
	Rules      []Rule       // how other mail goes; the first that matches wins; none: by MX

	// Files reads alias files. Nil: addresses of domains that have one cannot be
	// resolved, which is an error and no refusal; Route needs none.
	Files Files
	// Account reports whether an address is that of an account, and so a mailbox.
	// Its local part has minimal quotes and no upper case, its domain is in
	// A-labels. It is asked at every Resolve and must not wait. Nil: there are none,
	// or nobody knows.
	Account func(smtp.Path) bool
	Now     func() time.Time // nil: time.Now
	// Alarm is told when an alias file that has changed is not taken: an
	// AliasFaults. Nil: nobody is told.
	Alarm func(error)
}

// A Domain is one that we accept mail for, from anyone.
type Domain struct {
	Name      string   // a domain or an address literal
	Mailboxes []string // local parts without quotes, beside the accounts; "*" is any
	Aliases   string   // the alias file; empty: none. Several domains may share one
	// Deliver is how its mail goes: a Route whose Dest is not set, and whose Dir
	// may hold {user} and {domain}. By ViaMX it makes a backup MX, for the
	// recipients that Mailboxes says exist.
	Deliver postrider.Route
}

// A Rule says how mail to other domains goes.
type Rule struct {
	Pattern string          // a domain, ".domain" for what is under it, or "*"
	To      postrider.Route // as Domain.Deliver
}

// A Fault is a rule that can never match.
type Fault struct {
	Rule   int    // index into Table.Rules
	By     int    // index of the rule that takes its mail, or of the domain that does
	Domain bool   // By is an index into Table.Domains
	Reason string // a sentence for the operator
}

// Check returns the rules that can never match: those whose domain we accept
// mail for ourselves, and those behind a rule that matches all they match. What
// makes New fail it passes over.
func (t *Table) Check() []Fault {
	var faults []Fault
	domains := map[string]int{}
	for i, d := range t.Domains {
		key, err := DomainKey(d.Name)
		if _, twice := domains[key]; err == nil && !twice {
			domains[key] = i
		}
	}
	var before []pattern
	for i, r := range t.Rules {
		p, _ := parsePattern(r.Pattern)
		if d, ours := domains[p.name]; ours && p.kind == exact {
			faults = append(faults, Fault{Rule: i, By: d, Domain: true,
				Reason: fmt.Sprintf("route %q can never match: we accept mail for that domain ourselves", r.Pattern)})
		}
		for j, b := range before {
			if b.covers(p) {
				faults = append(faults, Fault{Rule: i, By: j,
					Reason: fmt.Sprintf("route %q can never match: route %q comes before it", r.Pattern, t.Rules[j].Pattern)})
				break
			}
		}
		before = append(before, p)
	}
	return faults
}

// A pattern is a parsed Rule.Pattern.
type pattern struct {
	kind patternKind
	name string // A-labels; of under with its dot
}

// A patternKind is what a pattern matches.
type patternKind uint8

const (
	noPattern patternKind = iota // matches nothing
	exact                        // one domain
	under                        // the domains below one, and not itself
	all
)

// errPattern is why a pattern is refused.
var errPattern = errors.New(`not a pattern: write a domain, ".domain" for what is under it, or "*" for all`)

func parsePattern(s string) (pattern, error) {
	if s == "*" {
		return pattern{kind: all}, nil
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		name, err := dns.ToASCII(rest)
		if err != nil {
			return pattern{}, fmt.Errorf("%q: %w", s, errPattern)
		}
		return pattern{under, "." + name}, nil
	}
	name, err := DomainKey(s)
	if err != nil {
		return pattern{}, fmt.Errorf("%q: %w", s, errPattern)
	}
	return pattern{exact, name}, nil
}

// matches reports whether p takes the domain with that key.
func (p pattern) matches(key string) bool {
	switch p.kind {
	case exact:
		return key == p.name
	case under:
		return strings.HasSuffix(key, p.name)
	}
	return p.kind == all
}

// covers reports whether p matches all that q matches.
func (p pattern) covers(q pattern) bool {
	switch {
	case q.kind == noPattern:
		return false
	case q.kind == all:
		return p.kind == all
	}
	return p.kind == all || p == q || p.kind == under && strings.HasSuffix(q.name, p.name)
}

// DomainKey returns the form in which domains are compared: A-labels in lower
// case, or an address literal in its one shortest spelling. An error says that
// this is no domain.
func DomainKey(domain string) (string, error) {
	if addr, ok := (smtp.Path{Domain: domain}).Literal(); ok {
		return literalKey(addr), nil
	}
	if smtp.IsLiteral(domain) {
		return strings.ToLower(domain), nil
	}
	return dns.ToASCII(domain)
}

// literalKey is the DomainKey of the address literal of addr.
func literalKey(addr netip.Addr) string { return "[" + addr.Unmap().WithZone("").String() + "]" }
