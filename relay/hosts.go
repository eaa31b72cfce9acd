package relay

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
)

// A host is a machine that takes mail for the destination.
type host struct {
	name  string
	addrs []netip.Addr // of an address literal; else the DNS is asked
}

// A target is one address of a host, or a socket of this machine.
type target struct {
	host   string
	addr   netip.AddrPort
	socket string
}

// site is where the target is dialled.
func (t target) site() site { return site{t.addr, t.socket} }

// String returns the form that mail people know: mx1.example[192.0.2.1]:25, and
// localhost[/run/lmtp].
func (t target) String() string {
	if t.socket != "" {
		return t.host + "[" + t.socket + "]"
	}
	port := t.addr.String()
	return t.host + "[" + t.addr.Addr().String() + "]" + port[strings.LastIndexByte(port, ':'):]
}

// exchangers returns the hosts of the destination, those of one preference
// together, the most preferred first. Where there are none it notes why.
func (a *attempt) exchangers(ctx context.Context) [][]host {
	if a.fixed() {
		return [][]host{{named(a.d.Route.Host)}}
	}
	to := a.m.Recipients[a.d.Rcpts[0]].To
	if addr, ok := to.Literal(); ok {
		return [][]host{{{name: to.Domain, addrs: []netip.Addr{addr}}}}
	}
	domain, err := dns.ToASCII(to.Domain)
	if err != nil {
		a.blocked(rankNone, failed(550, 5, 1, 2, "%q is not a domain name", to.Domain))
		return nil
	}
	answer, err := a.r.o.Resolver.Lookup(a.bounded(ctx), domain, dns.TypeMX)
	// RFC 5321 5.1: "If a non-existent domain error is returned, this situation
	// MUST be reported as an error. If a temporary error is returned, the message
	// MUST be queued and retried later".
	switch {
	case err != nil:
		a.blocked(rankOurs, deferred(4, 3, "MX of %s: %v", domain, err))
		return nil
	case answer.NXDomain:
		a.blocked(rankNone, failed(550, 5, 1, 2, "domain %s does not exist", domain))
		return nil
	case len(answer.MX) == 0:
		// RFC 5321 5.1: "If an empty list of MXs is returned, the address is
		// treated as if it was associated with an implicit MX RR, with a preference
		// of 0, pointing to that host."
		return [][]host{{{name: domain}}}
	}
	groups := byPreference(a.r.sortMX(answer.MX, func(name string) bool { return a.hostMayHave(name) || a.r.isUs(name) }))
	a.more = len(answer.MX) > hostsMax
	if len(groups) == 0 {
		// RFC 7505 4.1: "it SHOULD use a 556 reply code [...] and a 5.1.10 enhanced
		// status code".
		a.blocked(rankNone, failed(556, 5, 1, 10, "domain %s does not accept mail (null MX)", domain))
	}
	return groups
}

// fixed reports whether the route names the host, and not the DNS.
func (a *attempt) fixed() bool { return a.d.Route.Via != postrider.ViaMX }

// named is a host that an operator wrote: a name, or an address with or without
// brackets. RFC 6761 6.3: "localhost" is the loopback, and no server is asked.
func named(s string) host {
	h := host{name: strings.TrimSuffix(s, ".")}
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if addr, err := netip.ParseAddr(bare); err == nil {
		h.addrs = []netip.Addr{addr}
	} else if ascii, err := dns.ToASCII(s); err == nil {
		h.name = ascii
	}
	if h.name == "localhost" {
		h.addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return h
}

// byPreference groups sorted exchangers. The null MX is no host.
func byPreference(sorted []dns.MX) [][]host {
	var groups [][]host
	for i, mx := range sorted {
		if mx.Host == "" {
			continue
		}
		if len(groups) == 0 || mx.Preference != sorted[i-1].Preference {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], host{name: mx.Host})
	}
	return groups
}

// resolve returns the addresses to try of hosts of one preference, a list for
// each host, and whether one of the hosts is ourselves: then none of them counts
// any more, nor does any host of a higher preference number.
//
// RFC 5321 5.1: the list is inspected "for any of the names or addresses by which it
// might be known in mail transactions. If a matching record is found, all records at
// that preference level and higher-numbered ones MUST be discarded from consideration."
func (a *attempt) resolve(ctx context.Context, group []host) (targets [][]target, ours bool) {
	var notes []note
	if !a.fixed() && slices.ContainsFunc(group, func(h host) bool { return a.r.isUs(h.name) }) {
		a.loops() // whatever its address is, and whether or not the DNS has one just now
		return nil, true
	}
	for _, h := range group {
		list, own, n := a.addresses(ctx, h)
		if own {
			a.loops()
			return nil, true
		}
		targets, notes = append(targets, list), append(notes, n...)
	}
	for _, n := range notes {
		a.blocked(n.rank, n.outcome)
	}
	return targets, false
}

// addresses returns what to try of one host, or that it is ourselves, or a note
// why there is nothing to try.
func (a *attempt) addresses(ctx context.Context, h host) (list []target, ours bool, notes []note) {
	addrs, unknown := h.addrs, error(nil)
	if addrs == nil {
		addrs, unknown = dns.LookupAddrs(a.bounded(ctx), a.r.o.Resolver, h.name)
	}
	home := false // an address of this machine, whoever asks
	for _, addr := range addrs {
		addr = addr.Unmap()
		t := target{host: h.name, addr: netip.AddrPortFrom(addr, a.port)}
		switch {
		case a.r.o.Local != nil && a.r.o.Local(t.addr):
			return nil, true, nil
		case a.usable(addr):
			list = append(list, t)
		default:
			home = home || addr.IsLoopback() || addr.IsUnspecified()
		}
	}
	switch {
	case len(list) > 0:
	case unknown != nil: // the other family may have one that serves
		notes = []note{{rankOurs, deferred(4, 3, "address of %s: %v", h.name, unknown)}}
	default:
		notes = []note{{rankNone, a.noAddress(h.name, len(addrs) > 0, home)}}
	}
	return limit(a.uncertainFirst(list)), false, notes
}

// uncertainFirst puts those first that may have the message, so that they are among the
// few that are tried.
func (a *attempt) uncertainFirst(list []target) []target {
	if len(a.maybe) > 0 {
		slices.SortStableFunc(list, func(s, t target) int {
			switch first := a.mayHave(s); {
			case first == a.mayHave(t):
				return 0
			case first:
				return -1
			}
			return 1
		})
	}
	return list
}

// mayHave reports whether a target may have the message for somebody.
func (a *attempt) mayHave(t target) bool { return slices.Contains(a.maybe, t.String()) }

// hostMayHave reports the same of a host, by any of its addresses.
func (a *attempt) hostMayHave(name string) bool {
	return slices.ContainsFunc(a.maybe, func(peer string) bool { return strings.HasPrefix(peer, name+"[") })
}

// noAddress is the outcome of a host that cannot be reached by any address.
//
// RFC 5321 5.1: "If MX records are present, but none of them are usable, or the
// implicit MX is unusable, this situation MUST be reported as an error." A host
// that the operator names is another thing: his mistake is no reason to fail.
func (a *attempt) noAddress(name string, some, home bool) postrider.Outcome {
	switch {
	case a.fixed():
		return deferred(4, 4, "host %s of the route has no usable address", name)
	case home:
		return failed(550, 5, 4, 6, "mail host %s has an address that leads back to the sender's own machine", name)
	case some:
		return failed(550, 5, 4, 4, "mail host %s has no address in public space", name)
	}
	return failed(550, 5, 4, 4, "mail host %s has no address", name)
}

// isUs reports whether a host has our own name.
func (r *Relay) isUs(name string) bool {
	return r.ours != "" && strings.EqualFold(strings.TrimSuffix(name, "."), r.ours)
}

// loops notes that the way leads back to us.
//
// RFC 5321 5.1: "If there are no records left at that point, it is an error
// condition, and the message MUST be returned as undeliverable."
func (a *attempt) loops() {
	if a.fixed() {
		a.blocked(rankOurs, deferred(3, 5, "the route to %s leads back to ourselves", a.d.Route.Host))
		return
	}
	domain := a.m.Recipients[a.d.Rcpts[0]].To.Domain
	a.blocked(rankLoop, failed(554, 5, 4, 6, "mail for %s loops back to myself", domain))
}

// usable reports whether mail may go to an address. Where names come from a
// stranger's DNS, they must not lead into our own networks.
func (a *attempt) usable(addr netip.Addr) bool {
	if v4, ok := translated(addr); ok {
		addr = v4
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	if a.d.Route.Private || a.fixed() {
		return true
	}
	return !addr.IsLoopback() && !addr.IsPrivate() && !addr.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// notPublic are networks that nobody's mail host is in, beside those that package netip
// has a word for (RFC 6890 2.2, and RFC 1122 3.2.1.3 of the first).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),     // "this network"
	netip.MustParsePrefix("100.64.0.0/10"), // between a provider and its customers, and in many an overlay (RFC 6598)
	netip.MustParsePrefix("192.0.0.0/24"),  // of protocols
	netip.MustParsePrefix("198.18.0.0/15"), // of benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),   // reserved
	netip.MustParsePrefix("::/96"),         // IPv4 in IPv6, as it once was (RFC 4291 2.5.5.1)
	netip.MustParsePrefix("fec0::/10"),     // site-local, as it once was (RFC 3879)
}

// Networks of IPv6 whose addresses lead to one of IPv4.
var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

// translated is the IPv4 address that an address of IPv6 leads to: through a gateway
// (NAT64, RFC 6052 2.1) or a tunnel (6to4, RFC 3056 2).
func translated(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	switch {
	case addr.Is4():
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixTo4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// limit keeps at most addrsMax addresses in their order, and of either family
// some, as we may have only one.
func limit(list []target) []target {
	if len(list) <= addrsMax {
		return list
	}
	count := map[bool]int{}
	for _, t := range list {
		count[t.addr.Addr().Is4()]++
	}
	keep := map[bool]int{true: max(addrsMax-count[false], addrsMax/2), false: max(addrsMax-count[true], addrsMax-addrsMax/2)}
	var kept []target
	for _, t := range list {
		if is4 := t.addr.Addr().Is4(); keep[is4] > 0 {
			keep[is4]--
			kept = append(kept, t)
		}
	}
	return kept
}
