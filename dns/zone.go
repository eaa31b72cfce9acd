package dns

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// zoneTTL is the TTL of the answers of a Zone.
const zoneTTL = time.Minute

// A Zone is a Resolver over records held in memory, for tests and simulations.
// It follows CNAMEs as a Client does, and fails, waits or says nothing for the
// names it is told to. Its methods may be called while it is asked; those that
// add return the Zone, to be chained.
type Zone struct {
	mu    sync.Mutex
	names map[string]*zoneName
	asked map[string]int
}

// A zoneName is what a Zone knows of one name.
type zoneName struct {
	addrs []netip.Addr
	mx    []MX
	text  []string
	ptr   []string
	cname string
	fail  error
	fails map[Type]error
	delay time.Duration
	hang  bool
}

// NewZone returns an empty Zone: no name exists.
func NewZone() *Zone {
	return &Zone{names: map[string]*zoneName{}, asked: map[string]int{}}
}

// A adds IPv4 addresses to a name. It panics if one is not an address.
func (z *Zone) A(name string, addrs ...string) *Zone { return z.addrs(name, addrs) }

// AAAA adds IPv6 addresses to a name. It panics if one is not an address.
func (z *Zone) AAAA(name string, addrs ...string) *Zone { return z.addrs(name, addrs) }

// MX adds a mail exchanger to a name. The host "." or "" is the null MX.
func (z *Zone) MX(name string, preference uint16, host string) *Zone {
	return z.edit(name, func(n *zoneName) { n.mx = append(n.mx, MX{preference, canonical(host)}) })
}

// TXT adds texts to a name, one record each.
func (z *Zone) TXT(name string, texts ...string) *Zone {
	return z.edit(name, func(n *zoneName) { n.text = append(n.text, texts...) })
}

// PTR adds names to a name, such as "1.2.0.192.in-addr.arpa".
func (z *Zone) PTR(name string, targets ...string) *Zone {
	return z.edit(name, func(n *zoneName) {
		for _, t := range targets {
			n.ptr = append(n.ptr, canonical(t))
		}
	})
}

// CNAME makes a name an alias of target.
func (z *Zone) CNAME(name, target string) *Zone {
	return z.edit(name, func(n *zoneName) { n.cname = canonical(target) })
}

// Fail makes every question for a name end in err, such as ErrServFail; nil ends
// that, and Hang.
func (z *Zone) Fail(name string, err error) *Zone {
	return z.edit(name, func(n *zoneName) { n.fail, n.hang = err, false })
}

// FailType makes the questions for one type of record of a name end in err; nil
// ends that.
func (z *Zone) FailType(name string, t Type, err error) *Zone {
	return z.edit(name, func(n *zoneName) {
		if n.fails == nil {
			n.fails = map[Type]error{}
		}
		n.fails[t] = err
	})
}

// Hang makes every question for a name wait until its context ends.
func (z *Zone) Hang(name string) *Zone {
	return z.edit(name, func(n *zoneName) { n.hang = true })
}

// Delay makes every answer for a name take that long.
func (z *Zone) Delay(name string, d time.Duration) *Zone {
	return z.edit(name, func(n *zoneName) { n.delay = d })
}

// Remove takes a name out of the Zone, with all that was said of it.
func (z *Zone) Remove(name string) *Zone {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.names, canonical(name))
	return z
}

// Asked returns how many questions there were for a name.
func (z *Zone) Asked(name string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[canonical(name)]
}

// Lookup implements Resolver.
func (z *Zone) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	name = canonical(name)
	at := name
	for range cnameMax + 1 {
		n, exists, below := z.get(at)
		if err := n.wait(ctx, t); err != nil {
			return Answer{}, fmt.Errorf("dns: %v %s from the zone: %w", t, name, err)
		}
		if n.cname == "" || t == TypeCNAME {
			a := n.answer(at, t)
			a.NXDomain = !exists && !below
			return a, nil
		}
		at = n.cname
	}
	return Answer{}, fmt.Errorf("dns: %v %s from the zone: %w", t, name, ErrLoop)
}

// get returns a copy of what is known of a name, whether that is anything, and
// whether there are names below it, which make it exist without records.
func (z *Zone) get(name string) (n zoneName, exists, below bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked[name]++
	if p := z.names[name]; p != nil {
		return p.clone(), true, false
	}
	for other := range z.names {
		if strings.HasSuffix(other, "."+name) {
			return zoneName{}, false, true
		}
	}
	return zoneName{}, false, false
}

// edit changes what is known of a name.
func (z *Zone) edit(name string, fn func(*zoneName)) *Zone {
	z.mu.Lock()
	defer z.mu.Unlock()
	name = canonical(name)
	n := z.names[name]
	if n == nil {
		n = new(zoneName)
		z.names[name] = n
	}
	fn(n)
	return z
}

func (z *Zone) addrs(name string, addrs []string) *Zone {
	return z.edit(name, func(n *zoneName) {
		for _, a := range addrs {
			n.addrs = append(n.addrs, netip.MustParseAddr(a))
		}
	})
}

func (n *zoneName) clone() zoneName {
	c := *n
	c.addrs, c.mx, c.text, c.ptr, c.fails = slices.Clone(n.addrs), slices.Clone(n.mx), slices.Clone(n.text), slices.Clone(n.ptr), maps.Clone(n.fails)
	return c
}

// wait takes the time that a name takes to answer, and returns its failure.
func (n *zoneName) wait(ctx context.Context, t Type) error {
	if n.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if n.delay > 0 {
		timer := time.NewTimer(n.delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
	return cmp.Or(n.fail, n.fails[t])
}

// answer returns the records of type t.
func (n *zoneName) answer(name string, t Type) Answer {
	a := Answer{Name: name, TTL: zoneTTL}
	switch t {
	case TypeA, TypeAAAA:
		for _, addr := range n.addrs {
			if addr.Is4() == (t == TypeA) {
				a.Addrs = append(a.Addrs, addr)
			}
		}
	case TypeMX:
		a.MX = n.mx
	case TypeTXT:
		a.Text = n.text
	case TypePTR:
		a.Text = n.ptr
	case TypeCNAME:
		if n.cname != "" {
			a.Text = []string{n.cname}
		}
	}
	return a
}
