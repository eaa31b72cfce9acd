package spool

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A Tally is what waits for one destination: recipients, in each state, and in all
// of them.
type Tally struct {
	Dest                           postrider.Dest
	Queued, Active, Deferred, Held int
	Oldest                         time.Time // arrival
	Replies                        []Heard   // what was heard last, the most frequent first
	Domains                        []Domain  // of the recipients, the fullest first
	MoreDomains                    int       // that are not in Domains
	Ordered                        int       // that wait by order of their sender, and of whom nobody has asked yet
}

// Heard is a reply, as far as the index keeps it, and who has had it.
type Heard struct {
	Reply smtp.Reply
	Count int
}

// A Domain is one in lower case, and how many of it wait.
type Domain struct {
	Name  string
	Count int
}

// Bounds of what a tally remembers of each destination, and of what it tells.
const (
	tallyReplies = 64   // different ones; what comes after is not counted
	tallyDomains = 1000 // the same
	tallyShown   = 5
)

// A tallied has what a tally counts of a destination while it looks. Most have few
// replies and one domain, which cost no table.
type tallied struct {
	stand   [stands]int
	ordered int
	oldest  int64
	whys    []numbered
	last    int // of whys: the one that was counted last
	domain  numbered
	domains map[uint32]int // others than domain
}

// A numbered is how often there was what has a number.
type numbered struct {
	num   uint32
	count int
}

func (t *tallied) heard(why uint32) {
	if t.last < len(t.whys) && t.whys[t.last].num == why {
		t.whys[t.last].count++
		return
	}
	t.last = slices.IndexFunc(t.whys, func(n numbered) bool { return n.num == why })
	switch {
	case t.last >= 0:
		t.whys[t.last].count++
	case len(t.whys) < tallyReplies:
		t.last, t.whys = len(t.whys), append(t.whys, numbered{why, 1})
	default:
		t.last = 0
	}
}

func (t *tallied) of(domain uint32) {
	if t.domain.count == 0 || t.domain.num == domain {
		t.domain.num = domain
		t.domain.count++
		return
	}
	if t.domains == nil {
		t.domains = map[uint32]int{}
	}
	if n, there := t.domains[domain]; there || len(t.domains) < tallyDomains {
		t.domains[domain] = n + 1
	}
}

// Tally counts what waits, by destination, the fullest first. It reads nothing from
// the disk, and looks at the queue page by page.
func (s *Spool) Tally() []Tally {
	now := s.now().UnixNano()
	var dests []*tallied // by number
	s.walk(func(e *entry) {
		rcpts, release := s.rcpts(e), int64(0)
		if e.future {
			release = s.futures[s.futureOf[e.self]][e.self]
		}
		for i := range rcpts {
			r := &rcpts[i]
			if r.state != postrider.Waiting {
				continue
			}
			if int(r.dest) >= len(dests) {
				dests = append(dests, make([]*tallied, max(len(s.queues), int(r.dest)+1)-len(dests))...)
			}
			d := dests[r.dest]
			if d == nil {
				d = &tallied{oldest: e.arrived}
				dests[r.dest] = d
			}
			where := s.standOf(r)
			d.stand[where]++
			d.oldest = min(d.oldest, e.arrived)
			if r.why != 0 {
				d.heard(r.why)
			} else if where == standQueued && r.due == release && release > now {
				d.ordered++
			}
			d.of(r.domain)
		}
	})
	return s.tallies(dests)
}

// tallies names what was counted by number. A number may have come to be that of
// another meanwhile: what is told is of people, and of a moment.
func (s *Spool) tallies(dests []*tallied) []Tally {
	var out []Tally
	s.mu.Lock()
	for num, c := range dests {
		if c == nil {
			continue
		}
		t := Tally{Queued: c.stand[standQueued], Active: c.stand[standActive], Deferred: c.stand[standDeferred], Held: c.stand[standHeld],
			Oldest: fromNanos(c.oldest), Ordered: c.ordered}
		if num < len(s.queues) && s.queues[num] != nil {
			t.Dest = s.queues[num].key
		}
		for _, w := range c.whys {
			if int(w.num) < len(s.replies.all) {
				d := decoder{b: []byte(s.replies.text(w.num))}
				t.Replies = append(t.Replies, Heard{d.reply(), w.count})
			}
		}
		name := func(domain uint32, n int) {
			if int(domain) < len(s.domains.all) {
				t.Domains = append(t.Domains, Domain{s.domains.text(domain), n})
			}
		}
		name(c.domain.num, c.domain.count)
		for domain, n := range c.domains {
			name(domain, n)
		}
		out = append(out, t)
	}
	s.mu.Unlock()
	for i := range out {
		t := &out[i]
		slices.SortFunc(t.Replies, func(a, b Heard) int {
			return cmp.Or(b.Count-a.Count, cmp.Compare(a.Reply.Code, b.Reply.Code), cmp.Compare(a.Reply.Text, b.Reply.Text))
		})
		slices.SortFunc(t.Domains, func(a, b Domain) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Name, b.Name)) })
		t.Replies = t.Replies[:min(len(t.Replies), tallyShown)]
		t.MoreDomains = max(0, len(t.Domains)-tallyShown)
		t.Domains = t.Domains[:min(len(t.Domains), tallyShown)]
	}
	slices.SortFunc(out, func(a, b Tally) int {
		return cmp.Or(b.waiting()-a.waiting(), cmp.Compare(a.Dest, b.Dest))
	})
	return out
}

func (t *Tally) waiting() int { return t.Queued + t.Active + t.Deferred + t.Held }
