package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
)

// A DestStat is what waits for one destination.
type DestStat struct {
	Dest     postrider.Dest `json:"dest"`
	Queued   int            `json:"queued"` // recipients, as all of these
	Active   int            `json:"active"`
	Deferred int            `json:"deferred"`
	Held     int            `json:"held"`
	Oldest   time.Time      `json:"oldest"` // arrival
	Reasons  []Reason       `json:"reasons"`
	// Domains are those of the recipients, the fullest first, where Dest does not name
	// the only one: a host, a mailbox store or a hold has mail for many.
	Domains []DomainStat `json:"domains,omitempty"`
	// MoreDomains is how many others there are.
	MoreDomains int `json:"more_domains,omitempty"`
	// Pace is set where fewer attempts are made at a time than may be, or none now.
	Pace *Pace `json:"pace,omitempty"`
}

// A Pace is how a destination or a host is treated that wants less of us, or does not
// answer, or whose rate lets nothing go now.
type Pace struct {
	Limit   int       `json:"limit"` // attempts, or connections, at a time
	Most    int       `json:"most"`  // as many as may be
	Running int       `json:"running"`
	Probe   time.Time `json:"probe,omitzero"` // of one that does not answer: the next attempt
	Reason  string    `json:"reason"`         // what a peer said, or what broke; empty: nothing but the rate
	Since   time.Time `json:"since,omitzero"` // of Reason
	Rate    string    `json:"rate,omitempty"` // as the configuration has it
	Next    time.Time `json:"next,omitzero"`  // when Rate lets the next message go
}

// A HostPace is the Pace of a host: an address and port, or the path of a socket.
type HostPace struct {
	Host string `json:"host"`
	Pace
}

// reasonMax is how much of what a peer said is shown, in runes.
const reasonMax = 200

// shown is a Pace fit for a terminal.
func (p Pace) shown() Pace {
	runes := []rune(strings.Map(printable, p.Reason))
	if p.Reason = string(runes); len(runes) > reasonMax {
		p.Reason = string(runes[:reasonMax]) + "..."
	}
	return p
}

// A DomainStat is how many recipients of a domain wait for a destination.
type DomainStat struct {
	Domain     string `json:"domain"`
	Recipients int    `json:"recipients"`
}

// Plain reports whether Dest names the one domain that waits for it.
func (d DestStat) Plain() bool {
	return len(d.Domains) == 1 && d.MoreDomains == 0 && strings.HasSuffix(strings.ToLower(string(d.Dest)), ":"+d.Domains[0].Domain)
}

// Waiting is how many recipients wait in all.
func (d DestStat) Waiting() int { return d.Queued + d.Active + d.Deferred + d.Held }

// A Reason is a last reply, and how many recipients have had it.
type Reason struct {
	Reply      string `json:"reply"`
	Recipients int    `json:"recipients"`
}

// Bounds of a Tally, for each destination.
const (
	reasonsKept  = 100 // different replies; what comes after is not counted
	reasonsShown = 5
	domainsKept  = 1000 // different domains; what comes after is not counted
	domainsShown = 5
)

// A Tally counts what waits, by destination and state. Make it with NewTally.
type Tally struct {
	dests   map[postrider.Dest]*DestStat
	reasons map[postrider.Dest]map[string]int
	domains map[postrider.Dest]map[string]int
}

// NewTally returns a Tally of nothing.
func NewTally() *Tally {
	return &Tally{map[postrider.Dest]*DestStat{}, map[postrider.Dest]map[string]int{}, map[postrider.Dest]map[string]int{}}
}

// Add counts the recipients of m that f chooses and that are not settled.
func (t *Tally) Add(m Message, f Filter, now time.Time) {
	for _, i := range f.Choose(m, now) {
		r := m.Recipients[i]
		if r.State == StateDelivered || r.State == StateFailed {
			continue
		}
		d := t.dests[r.Dest]
		if d == nil {
			d = &DestStat{Dest: r.Dest, Oldest: m.Arrived}
			t.dests[r.Dest], t.reasons[r.Dest], t.domains[r.Dest] = d, map[string]int{}, map[string]int{}
		}
		switch r.State {
		case StateQueued:
			d.Queued++
		case StateActive:
			d.Active++
		case StateDeferred:
			d.Deferred++
		case StateHeld:
			d.Held++
		}
		if m.Arrived.Before(d.Oldest) {
			d.Oldest = m.Arrived
		}
		if r.Reply != "" {
			count(t.reasons[r.Dest], r.Reply, reasonsKept)
		}
		count(t.domains[r.Dest], strings.ToLower(r.To[strings.LastIndexByte(r.To, '@')+1:]), domainsKept)
	}
}

// count adds one to what of at most so many keys has.
func count(of map[string]int, key string, most int) {
	if _, there := of[key]; there || len(of) < most {
		of[key]++
	}
}

// Stats returns the destinations, the fullest first, each with its most frequent
// reasons.
func (t *Tally) Stats() []DestStat {
	all := make([]DestStat, 0, len(t.dests))
	for dest, d := range t.dests {
		out := *d
		out.Reasons = []Reason{}
		for reply, n := range t.reasons[dest] {
			out.Reasons = append(out.Reasons, Reason{reply, n})
		}
		slices.SortFunc(out.Reasons, func(a, b Reason) int {
			return cmp.Or(b.Recipients-a.Recipients, cmp.Compare(a.Reply, b.Reply))
		})
		out.Reasons = out.Reasons[:min(len(out.Reasons), reasonsShown)]
		out.Domains, out.MoreDomains = t.domainsOf(dest)
		all = append(all, out)
	}
	slices.SortFunc(all, func(a, b DestStat) int {
		return cmp.Or(b.Waiting()-a.Waiting(), cmp.Compare(a.Dest, b.Dest))
	})
	return all
}

// domainsOf returns the domains of a destination that does not name its own, and
// how many more there are.
func (t *Tally) domainsOf(dest postrider.Dest) ([]DomainStat, int) {
	var all []DomainStat
	for domain, n := range t.domains[dest] {
		all = append(all, DomainStat{domain, n})
	}
	if (DestStat{Dest: dest, Domains: all}).Plain() {
		return nil, 0
	}
	slices.SortFunc(all, func(a, b DomainStat) int {
		return cmp.Or(b.Recipients-a.Recipients, cmp.Compare(a.Domain, b.Domain))
	})
	shown := min(len(all), domainsShown)
	return all[:shown], len(all) - shown
}

// stats returns what waits for each destination, of the recipients that f chooses.
func (o Options) stats(ctx context.Context, f Filter) ([]DestStat, error) {
	if o.Tally != nil && f == (Filter{}) {
		return o.Tally(), nil
	}
	t, active, now := NewTally(), o.active(), o.Now()
	var bad unread
	for m := range bad.rest(o.scan(ctx, f)) {
		t.Add(View(m, o.Dest, active[m.ID], now), f, now)
	}
	return t.Stats(), bad.err()
}

// stat writes one destination a line.
func (o Options) stat(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, fault{err.Error()})
		return
	}
	all, wrong := o.stats(r.Context(), f)
	if wrong != nil && len(all) == 0 {
		answer(w, http.StatusInternalServerError, fault{wrong.Error()})
		return
	}
	out := newPen(w)
	defer patient(w) // for what is not sent yet
	var paces map[postrider.Dest]Pace
	if o.Paces != nil {
		paces = o.Paces()
	}
	for _, d := range all {
		if p, ok := paces[d.Dest]; ok {
			p = p.shown()
			d.Pace = &p
		}
		if out.line(d) != nil {
			return
		}
	}
	if wrong != nil { // what could not be counted
		out.line(fault{wrong.Error()})
	}
}

// hosts writes one slowed host a line.
func (o Options) hosts(w http.ResponseWriter, _ *http.Request) {
	out := newPen(w)
	if o.Hosts == nil {
		return
	}
	for _, h := range o.Hosts() {
		h.Pace = h.Pace.shown()
		if out.line(h) != nil {
			return
		}
	}
}
