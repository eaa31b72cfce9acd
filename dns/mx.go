package dns

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// MXMax is how many mail exchangers SortMX returns at most: a domain with more
// of them wants to keep us busy.
const MXMax = 64

// AddrsMax is how many addresses of one family LookupAddrs returns at most. A packet has
// room for thousands, and each is looked at.
const AddrsMax = 64

// NullMX reports whether a domain says that it takes no mail. RFC 7505 3: "a
// single MX RR" with a preference of 0 and "a zero-length label" as host.
func NullMX(mx []MX) bool { return len(mx) == 1 && mx[0].Host == "" }

// SortMX returns mail exchangers in the order to try them, each host once, and
// at most MXMax. RFC 5321 5.1: "MX records contain a preference indication that
// MUST be used in sorting if more than one such record appears", and of equal
// ones the sender "MUST randomize them to spread the load". A nil rng leaves
// equals in their order. A host "" beside others is passed over: RFC 7505 3, "A
// domain that advertises a null MX MUST NOT advertise any other MX RR."
func SortMX(mx []MX, rng *rand.Rand) []MX {
	if NullMX(mx) {
		return slices.Clone(mx)
	}
	sorted := slices.DeleteFunc(slices.Clone(mx), func(m MX) bool { return m.Host == "" })
	if rng != nil {
		rng.Shuffle(len(sorted), func(i, j int) { sorted[i], sorted[j] = sorted[j], sorted[i] })
	}
	slices.SortStableFunc(sorted, func(a, b MX) int { return cmp.Compare(a.Preference, b.Preference) })
	seen := make(map[string]bool, len(sorted))
	sorted = slices.DeleteFunc(sorted, func(m MX) bool {
		again := seen[m.Host]
		seen[m.Host] = true
		return again
	})
	return sorted[:min(len(sorted), MXMax)]
}

// LookupAddrs returns the addresses of a host, IPv6 first, each once, and at most
// AddrsMax of either family. A host without addresses has none and no error. Where one
// of the two lookups fails it returns what the other found with the error: these may be
// used, and where none of them can be, that says nothing of the host yet.
func LookupAddrs(ctx context.Context, r Resolver, host string) (addrs []netip.Addr, err error) {
	for _, t := range [2]Type{TypeAAAA, TypeA} {
		a, failed := r.Lookup(ctx, host, t)
		err = cmp.Or(err, failed)
		for _, addr := range a.Addrs[:min(len(a.Addrs), AddrsMax)] {
			if !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs, err
}
