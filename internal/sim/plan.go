package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Times of a world. Mail comes and faults strike while there is trouble; then
// nothing fails any more, for longer than mail lives.
const (
	dawn    = time.Second // all servers are up: what were to come before would come in one instant
	trouble = 60 * time.Hour
	healed  = 64 * time.Hour
	theEnd  = 120 * time.Hour
)

// A Plan is all that will happen in a world, drawn from one seed before it
// begins. What is taken out of it changes nothing of the rest, so that a story
// that fails can be made shorter.
type Plan struct {
	Seed    uint64
	Letters []Letter
	Strikes []Strike
	Weather Weather
}

// A Letter is one message that somebody offers.
type Letter struct {
	N      int
	At     time.Duration
	By     string // host of the sender
	Server string // the machine that it is offered to
	Null   bool   // the reverse-path is null
	To     []string
	Size   int
	Tries  int     // how often it is offered until somebody answers 250
	Dots   bool    // its lines begin with dots
	Hops   int     // Received fields that it comes with
	Port   int     // of the server; zero: 25
	Manner *Manner // of a sender that is no client of ours; nil: it is one
}

// Token names the letter in its header.
func (l *Letter) Token(seed uint64) string { return fmt.Sprintf("token-%d-%d", seed, l.N) }

// A Strike is one thing that befalls a machine, a peer or a name, or what the
// operator does.
type Strike struct {
	N     int
	At    time.Duration
	Kind  string
	Where string
	For   time.Duration // how long it lasts
	Arg   uint64        // whatever the kind makes of it
}

// String returns the strike as a line of a story.
func (s Strike) String() string {
	return fmt.Sprintf("%v %s %s for %v (%d)", s.At, s.Kind, s.Where, s.For, s.Arg)
}

// A user of a world, by what may become of mail to it.
type fate uint8

const (
	fateSure   fate = iota // can only be delivered
	fateDoomed             // can only fail
	fateEither             // may fail
	fateSlow               // may come to its age in bad weather, and else can only be delivered
	fateHeld               // is held by its route
)

// A place is a domain that letters go to.
type place struct {
	domain string
	users  []string
	fate   fate
}

// places are where letters go to.
var places = []place{
	{"a.example", []string{"ann", "anton", "amy"}, fateSure},
	{"b.example", []string{"ben", "bea", "bob", "bill", "ned", "nat", "nina"}, fateSure},
	{"c.example", []string{"cat", "cleo", "carl", "cid"}, fateSure},
	{"p1.example", []string{"u1", "U1", "u2", "u3", "a-long-local-part-one", "a-long-local-part-two"}, fateSure},
	{"p2.example", []string{"u1", "u2", "u3", "u4", "u5", "u6", "no-one"}, fateEither},
	{"p3.example", []string{"u1", "u2", "u3", "u4"}, fateEither},
	{"p4.example", []string{"u1", "u2", "u3", "u4"}, fateEither},
	{"p5.example", []string{"u1", "u2", "u3"}, fateEither},
	{"far.example", []string{"f1", "f2", "f3", "f4"}, fateSure},
	{"dead.example", []string{"x1", "x2"}, fateDoomed},
	{"gone.example", []string{"y1", "y2"}, fateDoomed},
	{"held.example", []string{"z1", "z2"}, fateHeld},
}

// teams are the aliases of a.example, and who stands behind each.
var teams = map[string][]string{
	"team@a.example":  {"ann@a.example", "ben@b.example", "u1@p1.example"},
	"crowd@a.example": {"amy@a.example", "cat@c.example", "cleo@c.example", "no-one@p2.example"},
}

// fateOf is what may become of mail to an address.
func fateOf(to string) fate {
	for _, p := range slices.Concat(places, specials) {
		for _, u := range p.users {
			if to == u+"@"+p.domain {
				return p.fate
			}
		}
	}
	return fateDoomed
}

// NewPlan draws a plan with n letters.
func NewPlan(seed uint64, n int) *Plan {
	p := &Plan{Seed: seed}
	rng := Stream(seed, "letters")
	at := dawn
	for i := range n {
		if rng.IntN(3) == 0 { // else it comes with the one before
			at += time.Duration(rng.Int64N(int64(6 * trouble / time.Duration(n))))
		}
		at += time.Duration(1+rng.IntN(50_000_000)) * time.Nanosecond
		p.Letters = append(p.Letters, drawLetter(rng, i, min(at, trouble-time.Duration(n-i)*time.Millisecond+time.Duration(i)*time.Microsecond)))
	}
	if rng.IntN(4) == 0 {
		p.burst(rng)
	}
	p.weather(Stream(seed, "weather"))
	p.strikes(Stream(seed, "strikes"))
	p.manners(Stream(seed, "manners"))
	p.specials(Stream(seed, "specials"))
	p.moreStrikes(Stream(seed, "more strikes"))
	p.packetStrikes(Stream(seed, "packets"))
	return p
}

func drawLetter(rng *rand.Rand, n int, at time.Duration) Letter {
	l := Letter{N: n, At: at, By: "sender", Server: "a", Null: rng.IntN(12) == 0, Tries: 1 + 3*rng.IntN(2)}
	if rng.IntN(5) == 0 {
		l.Server = "b"
	}
	l.Size = rng.IntN(3000)
	switch rng.IntN(150) {
	case 0, 1:
		l.Size = 2*smallMax + rng.IntN(smallMax) // has a file of its own in the spool
	case 2:
		l.Size = 5 * smallMax
	}
	if rng.IntN(16) == 0 { // who may not relay, and tries
		l.By = "stranger"
		l.Server = []string{"a", "b", "c"}[rng.IntN(3)]
	}
	dests := 1
	if rng.IntN(2) == 0 {
		dests = 2 + rng.IntN(3)
	}
	for _, i := range rng.Perm(len(places))[:dests] {
		users := slices.Clone(places[i].users)
		rng.Shuffle(len(users), func(a, b int) { users[a], users[b] = users[b], users[a] })
		for _, u := range users[:1+rng.IntN(len(users))] {
			l.To = append(l.To, u+"@"+places[i].domain)
		}
	}
	if rng.IntN(10) == 0 {
		l.To = append(l.To, []string{"team@a.example", "crowd@a.example", "nobody@b.example"}[rng.IntN(3)])
	}
	return l
}

// burst lets a fifth of the letters come at once, to one host by two ways.
func (p *Plan) burst(rng *rand.Rand) {
	n := len(p.Letters) / 5
	first := rng.IntN(len(p.Letters) - n)
	for i := range n {
		l := &p.Letters[first+i]
		l.At = p.Letters[first].At + time.Duration(i)*time.Millisecond + time.Duration(rng.IntN(1000))
		l.To = []string{[]string{"u1@p1.example", "u2@p1.example", "f1@far.example"}[rng.IntN(3)]}
		l.By, l.Server = "sender", "b"
	}
	slices.SortStableFunc(p.Letters, func(a, b Letter) int { return int(a.At - b.At) })
}

// The kinds of strikes, and how often each comes.
var strikeKinds = []struct {
	kind   string
	weight int
	where  []string
	max    time.Duration
}{
	{"power", 8, machineNames, 10 * time.Minute},
	{"power-in-op", 10, machineNames, 5 * time.Minute},
	{"power-twice", 4, machineNames, 5 * time.Minute},
	{"kill", 5, machineNames, 5 * time.Minute},
	{"restart", 3, machineNames, time.Minute},
	{"reload", 3, machineNames, 0},
	{"eio-write", 2, machineNames, time.Minute},
	{"eio-sync", 3, machineNames, time.Minute},
	{"eio-rename", 1, machineNames, 10 * time.Minute},
	{"eio-syncdir", 1, machineNames, 10 * time.Minute},
	{"short-write", 2, machineNames, time.Minute},
	{"disk-full", 2, machineNames, 30 * time.Minute},
	{"no-inodes", 1, machineNames, 30 * time.Minute},
	{"slow-disk", 2, machineNames, 20 * time.Minute},
	{"clock", 2, machineNames, 6 * time.Hour},
	{"partition", 3, machineNames, 90 * time.Minute},
	{"dns-fail", 3, names, 40 * time.Minute},
	{"dns-timeout", 2, names, 40 * time.Minute},
	{"dns-denied", 1, []string{"p3.example", "p4.example"}, 30 * time.Minute},
	{"dns-moved", 1, []string{"p4.example", "p5.example"}, 30 * time.Minute},
	{"dns-loop", 1, []string{"p5.example"}, 30 * time.Minute},
	{"dns-self", 1, []string{"p3.example", "p5.example"}, 30 * time.Minute},
	{"dns-crowd", 1, []string{"p2.example", "p4.example"}, 30 * time.Minute},
	{"peer-down", 2, []string{"p1.example", "p2.example", "p3.example"}, 5 * time.Hour},
	{"reader", 3, []string{"a", "b"}, 0},
	{"hold", 3, machineNames, 8 * time.Hour},
	{"long-hold", 2, machineNames, 10 * time.Hour},
	{"retry", 2, machineNames, 0},
	{"bounce", 2, machineNames, 0},
	{"drop", 2, machineNames, 0},
}

// machineNames are the machines that run our server, and names whose servers
// fail now and then.
var (
	machineNames = []string{"a", "b", "c"}
	names        = []string{"a.example", "b.example", "mx2.b.example", "c.example", "p1.example", "p2.example", "p3.example", "dead.example",
		"mx.c.example", "mx.p1.example"}
)

// strikes draws what befalls. Most of it comes within some tenths of a second
// after a letter, while its message is on its way.
func (p *Plan) strikes(rng *rand.Rand) {
	total := 0
	for _, k := range strikeKinds {
		total += k.weight
	}
	n := 30 + rng.IntN(20)
	for i := range n {
		w := rng.IntN(total)
		k := strikeKinds[0]
		for _, k = range strikeKinds {
			if w -= k.weight; w < 0 {
				break
			}
		}
		s := Strike{N: i, Kind: k.kind, Where: k.where[rng.IntN(len(k.where))], Arg: rng.Uint64()}
		if k.max > 0 {
			s.For = time.Duration(1 + rng.Int64N(int64(k.max)))
		}
		s.At = p.Letters[rng.IntN(len(p.Letters))].At + time.Duration(rng.Int64N(int64(500*time.Millisecond)))
		p.Strikes = append(p.Strikes, s)
	}
	if rng.IntN(3) == 0 { // before a Maildir is made
		p.Strikes = append(p.Strikes, Strike{N: n + 1, Kind: "kill-in-making", Where: machineNames[rng.IntN(3)], Arg: rng.Uint64()})
	}
	if rng.IntN(10) == 0 {
		p.Strikes = append(p.Strikes, Strike{N: n, Kind: "bit-flip", Where: machineNames[rng.IntN(3)], Arg: rng.Uint64(),
			For: time.Minute, At: p.Letters[rng.IntN(len(p.Letters))].At + time.Duration(rng.Int64N(int64(time.Second)))})
	}
	slices.SortStableFunc(p.Strikes, func(a, b Strike) int { return int(a.At - b.At) })
}

// weather draws how the network is while there is trouble.
func (p *Plan) weather(rng *rand.Rand) {
	chance := func(most float64) float64 { return rng.Float64() * most }
	p.Weather = Weather{
		Refused: chance(0.1), ConnectTimeout: chance(0.05), Cut: chance(0.1), HalfOpen: chance(0.05), ResetBefore: chance(0.08),
		ResetAfter: chance(0.08), LostReply: chance(0.1), SlowReader: chance(0.05), Spike: chance(0.1),
		Fragments: chance(0.05),
	}
}
