package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/postrider/postrider/dns"
)

// peersMax is how many other people's servers there are: p1.example and so on.
const peersMax = 8

// habits are how the peers of a world behave. The first takes everything in the end.
func habits(seed uint64) []Habit {
	rng := Stream(seed, "habits")
	chance := func(most float64) float64 { return rng.Float64() * most }
	grey := func() int { return rng.IntN(3) }
	all := []Habit{
		{Greylist: grey(), GreyTime: 12 * time.Hour, Busy: chance(0.1), Later: chance(0.1), DeferLate: chance(0.1)}, // in the end it takes all
		{Refuse: []string{"no-"}, RcptMax: 2 + rng.IntN(5), Greylist: grey(), Later: chance(0.2), Plain: chance(0.3), SevenBit: chance(0.3)},
		{Garbage: chance(0.3), CloseFirst: chance(0.1), Busy: chance(0.1), HeloOnly: chance(0.2), Tarpit: chance(0.3), TarpitMax: 2 * time.Minute},
		{DropEarly: chance(0.1), DropLate: chance(0.1), LieLater: chance(0.1), ResetLate: chance(0.1), SilenceLate: chance(0.1), DeferLate: chance(0.1)},
		{RefuseLate: chance(0.2), Connections: 2 + rng.IntN(3), Messages: 2 + rng.IntN(3), SizeMax: 20_000, Plain: chance(0.5)},
		{Mixed: true, MailLater: chance(0.2), DeferLate: chance(0.1)},
		{Mixed: true, LMTP: true, MailLater: chance(0.1), DropBetween: chance(0.2)},
		{Shut: true},
	}
	all[0].MailLater = chance(0.2)
	all[2].MailLater = chance(0.2)
	return all
}

// nameFaults are the strikes at names, by what a resolver calls them.
var nameFaults = map[string]string{
	"dns-fail": NameServFail, "dns-timeout": NameTimeout, "dns-denied": NameDenied, "dns-moved": NameMoved, "dns-self": NameSelf,
	"dns-loop": NameLoop, "dns-crowd": NameCrowd,
	"dns-truncated": NameTruncated, "dns-lost": NameLost, "dns-forged": NameForged, "dns-garbled": NameGarbled, "dns-lame": NameLame,
	"dns-old": NameOld,
}

// packetKinds are the strikes at what goes to and from name servers.
var packetKinds = []string{"dns-truncated", "dns-lost", "dns-forged", "dns-garbled", "dns-lame", "dns-old"}

// packetStrikes draws some of them.
func (p *Plan) packetStrikes(rng *rand.Rand) {
	for i := range 5 {
		at := p.Letters[rng.IntN(len(p.Letters))].At - time.Duration(rng.Int64N(int64(20*time.Millisecond)))
		p.Strikes = append(p.Strikes, Strike{N: 2000 + i, At: max(at, dawn), Kind: packetKinds[rng.IntN(len(packetKinds))], Where: names[rng.IntN(len(names))],
			For: time.Minute + time.Duration(rng.Int64N(int64(2*time.Hour))), Arg: rng.Uint64()})
	}
	slices.SortStableFunc(p.Strikes, func(a, b Strike) int { return int(a.At - b.At) })
}

// misname lets some of the machines hear something else about a name for a while.
func (s *Site) misname(k Strike) {
	for i, node := range machineNames {
		if k.Arg>>i&1 == 0 && i != int(k.Arg>>8%3) {
			continue
		}
		f := NameFault{Kind: nameFaults[k.Kind], Name: k.Where, From: time.Now(), To: time.Now().Add(k.For), Host: "mx.p1.example"}
		if f.Kind == NameServFail && k.Arg>>16&3 == 0 {
			f.Type = dns.TypeA
		}
		if f.Kind == NameSelf {
			f.Host = []string{"mx.a.example", "mx2.b.example", "mx.c.example"}[slices.Index(machineNames, node)]
		}
		s.names[node].Fault(f)
	}
}
