package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/dns"
)

// Kinds of faults of name servers.
const (
	NameServFail = "dns_servfail" // the server fails
	NameTimeout  = "dns_timeout"  // no answer comes, or not in time
	NameDenied   = "dns_denied"   // NXDOMAIN, though the name exists
	NameMoved    = "dns_moved"    // MX names another host
	NameSelf     = "dns_self"     // MX names the node that asks
	NameLoop     = "dns_loop"     // a CNAME that leads back
	NameCrowd    = "dns_crowd"    // a thousand MX more, most of which do not exist
)

// NameFaults are the kinds of faults of name servers that a Network tells of.
var NameFaults = []string{NameServFail, NameTimeout, NameDenied, NameMoved, NameSelf, NameLoop, NameCrowd}

// A NameFault is what befalls the questions for one name in a span of time.
type NameFault struct {
	Kind     string
	Name     string
	From, To time.Time
	Type     dns.Type // the questions that it befalls; zero: all
	Host     string   // where MX points meanwhile: of NameMoved and NameSelf
}

// A Denial is a lie about a name: what fails for good because of it is not the
// fault of who asked.
type Denial struct {
	Name string
	At   time.Time
}

// nameTimeout is how long a resolver waits for an answer before it gives up.
const nameTimeout = 20 * time.Second

// crowd is how many MX a NameCrowd adds.
const crowd = 1000

// Names is what one node is told about the names of a zone. It implements
// dns.Resolver. How long an answer takes comes from the node, the question and
// the instant.
type Names struct {
	net  *Network
	zone *dns.Zone
	node string

	mu     sync.Mutex
	faults []NameFault
	denied []Denial
}

// NewNames returns the names of a zone as a node sees them.
func NewNames(n *Network, node string, zone *dns.Zone) *Names {
	return &Names{net: n, zone: zone, node: node}
}

// Fault adds a fault. Where two befall a name, the one that was added first counts.
func (s *Names) Fault(f NameFault) {
	f.Name = nameOf(f.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// Calm ends all faults, and those that are still to come.
func (s *Names) Calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Denied reports whether a name was denied to the node in a span of time.
func (s *Names) Denied(name string, from, to time.Time) bool {
	name = nameOf(name)
	return slices.ContainsFunc(s.Denials(), func(d Denial) bool {
		return d.Name == name && !d.At.Before(from) && !d.At.After(to)
	})
}

// Denials returns which names were denied to the node, and when.
func (s *Names) Denials() []Denial {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.denied)
}

// Lookup implements dns.Resolver.
func (s *Names) Lookup(ctx context.Context, name string, t dns.Type) (dns.Answer, error) {
	name = nameOf(name)
	now := time.Now()
	key := mix(s.net.seed^nameKey(s.node+"?"+name+" "+t.String()), uint64(now.UnixNano()))
	f, faulty := s.faultOf(name, t, now)
	wait := latency(key)
	if faulty && f.Kind == NameTimeout {
		wait = nameTimeout
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if faulty && f.Kind == NameTimeout {
			s.net.fire(f.Kind, s.node+"?"+name)
		}
		return dns.Answer{}, wrapName(context.Cause(ctx), name, t)
	}
	if faulty {
		if a, err, struck := s.strike(ctx, f, name, t); struck {
			s.net.fire(f.Kind, s.node+"?"+name)
			return a, wrapName(err, name, t)
		}
	}
	return s.zone.Lookup(ctx, name, t)
}

func wrapName(err error, name string, t dns.Type) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dns: %v %s: %w", t, name, err)
}

// faultOf returns the fault that befalls a question.
func (s *Names) faultOf(name string, t dns.Type, now time.Time) (NameFault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Name == name && (f.Type == 0 || f.Type == t) && !now.Before(f.From) && now.Before(f.To) {
			return f, true
		}
	}
	return NameFault{}, false
}

// strike returns what a fault has to say to a question, or that it leaves it alone.
func (s *Names) strike(ctx context.Context, f NameFault, name string, t dns.Type) (a dns.Answer, err error, struck bool) {
	a = dns.Answer{Name: name, TTL: time.Minute}
	switch f.Kind {
	case NameServFail:
		return dns.Answer{}, dns.ErrServFail, true
	case NameTimeout:
		return dns.Answer{}, dns.ErrTimeout, true
	case NameLoop:
		return dns.Answer{}, dns.ErrLoop, true
	case NameDenied:
		s.mu.Lock()
		s.denied = append(s.denied, Denial{name, time.Now()})
		s.mu.Unlock()
		a.NXDomain = true
		return a, nil, true
	case NameMoved, NameSelf:
		if t != dns.TypeMX {
			return a, nil, false
		}
		a.MX = []dns.MX{{Preference: 10, Host: f.Host}}
		return a, nil, true
	case NameCrowd:
		if t != dns.TypeMX {
			return a, nil, false
		}
		a, err = s.zone.Lookup(ctx, name, t)
		for i := range crowd {
			preference := uint16(1)
			if i >= 30 { // so many are better than the true ones, and do not exist
				preference = uint16(1000 + i)
			}
			a.MX = append(a.MX, dns.MX{Preference: preference, Host: fmt.Sprintf("mx%d.crowd.%s", i, name)})
		}
		return a, err, true
	}
	return a, nil, false
}

func nameOf(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
