package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// smtpPort is where servers listen for mail.
const smtpPort = 25

// Ports beside that: a listener of A without relay_from, and LMTP at B.
const (
	doorPort = 26
	lmtpPort = 24
)

// specials are places that only some letters go to, to all of a place together.
var specials = []place{
	{"p6.example", []string{"u1", "u2", "u3"}, fateSure},
	{"p6.example", []string{"wait-1", "busy-1", "late-1"}, fateSlow},
	{"p6.example", []string{"many-1"}, fateSure},
	{"p6.example", []string{"no-1", "no-2", "full-1", "big-1"}, fateDoomed},
	{"l.example", []string{"l1", "l2", "l3", "wait-1", "busy-1", "late-1", "soon-1"}, fateSlow},
	{"l.example", []string{"no-1", "full-1", "out-1", "out-2"}, fateDoomed},
	{"two.example", []string{"t1", "t2"}, fateSure},    // its first host is shut, and its second is not
	{"shut.example", []string{"s1", "s2"}, fateDoomed}, // it has but the first
	{"shut.example", many("m", 14), fateDoomed},
	{"loop.example", []string{"r1", "r2"}, fateDoomed}, // goes round between A and B
	{"none.example", []string{"n1", "n2"}, fateDoomed}, // of the last acts
}

// many are so many users.
func many(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i+1)
	}
	return all
}

// usersAt are all users of a domain.
func usersAt(domain string) []string {
	var all []string
	for _, p := range slices.Concat(places, specials) {
		for _, u := range p.users {
			if p.domain == domain {
				all = append(all, u+"@"+domain)
			}
		}
	}
	return all
}

// hopsLimit is how many Received fields are a loop to our servers. RFC 5321 6.3:
// "normally at least 100 Received entries".
const hopsLimit = 100

// specials adds the letters to special places, and by other doors.
func (p *Plan) specials(rng *rand.Rand) {
	some := func(least int, of ...string) []string {
		var all []string
		for _, domain := range of {
			all = append(all, usersAt(domain)...)
		}
		rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		return all[:min(len(all), least+rng.IntN(len(all)))]
	}
	for range 4 {
		p.add(rng, Letter{To: some(4, "p6.example"), Size: rng.IntN(2000), Tries: 4})
		p.add(rng, Letter{To: some(4, "l.example"), Server: []string{"a", "c"}[rng.IntN(2)], Size: rng.IntN(2000), Tries: 4})
	}
	for range 2 {
		p.add(rng, Letter{To: some(2, "two.example", "shut.example"), Size: rng.IntN(2000), Tries: 4})
		p.add(rng, Letter{To: some(1, "loop.example"), Hops: hopsLimit - 1 - rng.IntN(9), Size: rng.IntN(1000), Tries: 4})
	}
	for range 3 {
		for _, by := range []string{"sender", "stranger"} {
			p.add(rng, Letter{By: by, Server: "a", Port: doorPort, To: some(2, "p1.example", "b.example", "a.example"), Tries: 2})
		}
	}
	for _, by := range []string{"sender", "stranger"} {
		p.add(rng, Letter{By: by, Server: "b", Port: lmtpPort, Manner: &Manner{LMTP: true}, To: some(2, "p1.example", "b.example", "c.example"), Tries: 2})
	}
	p.add(rng, Letter{To: usersAt("shut.example"), Size: rng.IntN(2000), Tries: 4}) // all are told of at once
	p.add(rng, Letter{By: "stranger", Server: "b", To: some(2, "p1.example", "b.example", "loop.example"), Tries: 2})
}

// atDoor reports whether another listener than that of port 25 has to take a
// recipient: from everybody the same.
func atDoor(l *Letter, to string) bool {
	if l.Port == doorPort {
		return strings.HasSuffix(to, "@a.example")
	}
	return strings.HasSuffix(to, "@b.example") || strings.HasSuffix(to, "@c.example")
}

// rounds count how often servers of ours have taken a letter.
type rounds struct{ times map[string]int }

// roundsMax is more often than a letter is taken that does not go in a circle for
// ever.
const roundsMax = 3 * hopsLimit

// passed counts a letter that a server of ours or another has taken. One that does
// not come to rest is stopped, so that the world comes to its end.
func (s *Site) passed(token string, taken bool) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	if !taken {
		return
	}
	if s.rounds.times[token]++; s.rounds.times[token] == roundsMax {
		s.wrong("drains: %s goes round and round: it was taken %d times", token, roundsMax)
		s.Net.Partition([]string{addrA}, []string{addrB}, theEnd)
	}
}
