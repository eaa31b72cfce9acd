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
	NameServFail = "dns_servfail" // the servers fail
	NameTimeout  = "dns_timeout"  // no answer comes
	NameDenied   = "dns_denied"   // NXDOMAIN, though the name exists
	NameMoved    = "dns_moved"    // MX names another host
	NameSelf     = "dns_self"     // MX names the node that asks
	NameLoop     = "dns_loop"     // a CNAME that leads back
	NameCrowd    = "dns_crowd"    // a thousand MX more, most of which do not exist

	// What befalls packets, and not what they say.
	NameTruncated = "dns_truncated" // by UDP comes a part with TC, by TCP all, or a part that breaks off
	NameLost      = "dns_lost"      // packets are lost, or come twice
	NameForged    = "dns_forged"    // before each answer come others, of somebody who guesses
	NameGarbled   = "dns_garbled"   // packets are cut off, or are no messages
	NameLame      = "dns_lame"      // the first server refuses, or knows only who else may know
	NameOld       = "dns_old"       // the servers do not know EDNS
)

// NameFaults are the kinds of faults of name servers that a Network tells of.
var NameFaults = []string{NameServFail, NameTimeout, NameDenied, NameMoved, NameSelf, NameLoop, NameCrowd,
	NameTruncated, NameLost, NameForged, NameGarbled, NameLame, NameOld}

// A NameFault is what befalls the questions for one name in a span of time.
type NameFault struct {
	Kind     string
	Name     string
	From, To time.Time
	Type     dns.Type // the questions that it befalls; zero: all
	Host     string   // where MX points meanwhile: of NameMoved and NameSelf
}

// befalls reports whether the fault is of questions of a type.
func (f NameFault) befalls(t dns.Type) bool {
	switch f.Kind {
	case NameMoved, NameSelf, NameCrowd:
		return t == dns.TypeMX
	}
	return f.Type == 0 || f.Type == t
}

// A Denial is a lie about a name: what fails for good because of it is not the
// fault of who asked.
type Denial struct {
	Name string
	At   time.Time
}

// crowd is how many MX a NameCrowd adds.
const crowd = 1000

// Names is what one node is told about the names of a zone, by the servers nameServers.
// It implements dns.Dialer. How long an answer takes, and what a fault makes of it,
// comes from the node, the server, the question and the instant.
type Names struct {
	net  *Network
	zone *dns.Zone
	node string

	mu     sync.Mutex
	faults []NameFault
	denied []Denial
	told   map[string]time.Time // by fault and question: when it was last told of
}

// NewNames returns the names of a zone as a node sees them.
func NewNames(n *Network, node string, zone *dns.Zone) *Names {
	return &Names{net: n, zone: zone, node: node, told: map[string]time.Time{}}
}

// Client returns the resolver of the node.
func (s *Names) Client() *dns.Client {
	return dns.NewClient(dns.Options{Servers: nameServers, Dialer: s})
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

// faultOf returns the fault that befalls a question.
func (s *Names) faultOf(name string, t dns.Type, now time.Time) (NameFault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Name == name && f.befalls(t) && !now.Before(f.From) && now.Before(f.To) {
			return f, true
		}
	}
	return NameFault{}, false
}

// tell tells of a fault that befalls a question, once for all packets of it.
func (s *Names) tell(f NameFault, name string, t dns.Type, now time.Time) {
	key := f.Kind + " " + name + " " + t.String()
	s.mu.Lock()
	last, told := s.told[key]
	again := told && now.Sub(last) < questionTime
	if !again {
		s.told[key] = now
	}
	s.mu.Unlock()
	if !again {
		s.net.fire(f.Kind, s.node+"?"+name)
	}
}

// said is the zone as a fault makes the servers see it.
func (s *Names) said(ctx context.Context, f NameFault, name string, t dns.Type) *dns.Zone {
	switch z := dns.NewZone(); f.Kind {
	case NameServFail:
		return z.Fail(name, dns.ErrServFail)
	case NameTimeout:
		return z.Fail(name, dns.ErrTimeout)
	case NameLoop:
		return z.CNAME(name, "loop."+name).CNAME("loop."+name, name)
	case NameDenied:
		s.mu.Lock()
		s.denied = append(s.denied, Denial{name, time.Now()})
		s.mu.Unlock()
		return z
	case NameMoved, NameSelf:
		return z.MX(name, 10, f.Host)
	case NameCrowd:
		a, _ := s.zone.Lookup(ctx, name, t) // that of a world never fails
		for _, mx := range a.MX {
			z.MX(name, mx.Preference, mx.Host)
		}
		for i := range crowd {
			preference := uint16(1)
			if i >= 30 { // so many are better than the true ones, and do not exist
				preference = uint16(1000 + i)
			}
			z.MX(name, preference, fmt.Sprintf("mx%d.crowd.%s", i, name))
		}
		return z
	}
	return s.zone
}

func nameOf(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
