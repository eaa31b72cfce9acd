package sim

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Weather says how likely each kind of fault is to befall a connection that is
// dialed from now on: numbers from 0 to 1. The zero Weather is calm, and ends
// what still hung over older connections.
type Weather struct {
	Refused        float64
	ConnectTimeout float64 // nothing answers
	Cut            float64 // reset at some octet
	HalfOpen       float64 // from some octet on all vanishes, and nobody is told
	ResetBefore    float64 // reset at a command, which the server does not see
	ResetAfter     float64 // reset at a command that the server sees; its reply is lost
	LostReply      float64 // the same at the final dot: the server has the message
	SlowReader     float64 // one direction takes some hundreds of octets in a second
	Spike          float64 // once, octets take seconds to minutes
	Fragments      float64 // octets arrive in small pieces
}

// NetworkFaults are the kinds of faults that a Network tells of. Those of
// connections that are reset at a command name the command.
var NetworkFaults = slices.Concat([]string{"refused", "connect_timeout", "cut", "half_open", "lost_reply",
	"slow_reader", "spike", "fragments", "partition"}, resetNames("reset_before_"), resetNames("reset_after_"))

// resetVerbs are the commands at which a connection may be reset. Content is
// some line of a message, the dot is its end.
var resetVerbs = []string{"ehlo", "mail", "rcpt", "data", "content", "dot"}

func resetNames(prefix string) []string {
	var names []string
	for _, v := range resetVerbs {
		names = append(names, prefix+v)
	}
	return names
}

// SetWeather changes the weather.
func (n *Network) SetWeather(w Weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = w
	if w == (Weather{}) {
		n.calms.Add(1)
	}
}

// Keys of what a connection draws.
const (
	keySyn = iota
	keySynAck
	keyPort
	keyRefused
	keyTimeout
	keyCut
	keyHalf
	keyBefore
	keyAfter
	keyLost
	keySlow
	keySpike
	keyReset
	keyPieces
	keyDiscard
	keyDetail // and above: what a fault draws
)

// struck reports whether a fault befalls the connection of a key.
func struck(key, kind uint64, chance float64) bool { return chance > 0 && unit(key, kind) < chance }

// A luck is what is to befall one connection. Where there is nothing, counts
// are negative, and the others zero.
type luck struct {
	cutAt, halfAt [2]int64 // octet of a direction; of each only one is not negative
	spikeAt       [2]int64 // chunk of a direction
	spike         time.Duration
	rate          [2]int64 // octets in a second
	pieces        uint64   // octets that arrive together at most
	watch         *watch
	lost          bool // of watch: the reply to the final dot, and no other
	silent        bool // of watch: nobody is told
}

// draw decides what is to befall the connection of a key.
func (w Weather) draw(key uint64) luck {
	none := [2]int64{-1, -1}
	l := luck{cutAt: none, halfAt: none, spikeAt: none}
	detail := func(kind, i uint64) uint64 { return mix(key, kind*keyDetail+i+keyDetail) }
	octets := func(kind uint64) int64 { // as often among the first 16 as of the last half of 4,096
		return int64(math.Exp2(4+unit(detail(kind, 1), 0)*8)) - 16
	}
	if struck(key, keyCut, w.Cut) {
		l.cutAt[detail(keyCut, 0)%2] = octets(keyCut)
	}
	if struck(key, keyHalf, w.HalfOpen) {
		l.halfAt[detail(keyHalf, 0)%2] = octets(keyHalf)
	}
	if struck(key, keySpike, w.Spike) {
		l.spikeAt[detail(keySpike, 0)%2] = int64(detail(keySpike, 1) % 6)
		l.spike = time.Duration(math.Exp2(unit(detail(keySpike, 2), 0)*9.2) * float64(time.Second)) // to ten minutes
	}
	if struck(key, keySlow, w.SlowReader) {
		l.rate[detail(keySlow, 0)%2] = int64(100 * math.Exp2(unit(detail(keySlow, 1), 0)*6))
	}
	if struck(key, keyPieces, w.Fragments) {
		l.pieces = 1 + uint64(math.Exp2(unit(detail(keyPieces, 0), 0)*8))
	}
	d := detail(keyReset, 0)
	verb, nth := int(d%uint64(len(resetVerbs))), 1+int(d>>8%3)
	switch {
	case struck(key, keyLost, w.LostReply):
		l.watch, l.lost, l.silent = &watch{verb: resetDot, nth: 1, after: true}, true, d>>16%2 == 0
	case struck(key, keyAfter, w.ResetAfter):
		l.watch = &watch{verb: verb, nth: nth, after: true}
	case struck(key, keyBefore, w.ResetBefore):
		l.watch = &watch{verb: verb, nth: nth}
	}
	if l.watch != nil && verb != resetRcpt && verb != resetContent {
		l.watch.nth = 1 // most connections carry one message
	}
	return l
}

// Places of verbs in resetVerbs.
const (
	resetRcpt    = 2
	resetContent = 4
	resetDot     = 5
)

// A watch reads what a client says, and finds the command at which its
// connection is to be reset. It sees nothing under TLS.
type watch struct {
	verb  int // of resetVerbs
	nth   int // how many of it are still to come
	after bool

	line    []byte // of a line that is not whole, its first octets
	asked   bool   // DATA was said
	content bool   // the server has said 354
}

// lineKeep is how much of a line tells what it is.
const lineKeep = 64

// replied looks at what the server says: whether the content comes next.
func (w *watch) replied(b []byte) {
	if w.asked && (bytes.HasPrefix(b, []byte("354")) || bytes.Contains(b, []byte("\n354"))) {
		w.asked, w.content = false, true
	}
}

// said looks at what the client says. It returns after how many octets the fault
// strikes, or -1.
func (w *watch) said(b []byte) int {
	for i := 0; i < len(b); {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			w.keep(b[i:])
			return -1
		}
		start := i - len(w.line)
		w.keep(b[i : i+end])
		i += end + 1
		hit := w.whole(strings.TrimRight(string(w.line), "\r"))
		w.line = w.line[:0]
		switch {
		case hit && w.after:
			return i
		case hit:
			return max(start, 0)
		}
	}
	return -1
}

func (w *watch) keep(b []byte) { w.line = append(w.line, b[:min(len(b), lineKeep-len(w.line))]...) }

// whole takes one line, and reports whether it is the one.
func (w *watch) whole(line string) bool {
	verb := -1
	switch {
	case w.content && line == ".":
		w.content, verb = false, resetDot
	case w.content:
		verb = resetContent
	default:
		word, _, _ := strings.Cut(line, " ")
		word = strings.ToLower(word)
		if word == "helo" || word == "lhlo" {
			word = "ehlo"
		}
		verb = slices.Index(resetVerbs[:resetContent], word)
		w.asked = w.asked || word == "data"
	}
	if verb != w.verb {
		return false
	}
	w.nth--
	return w.nth == 0
}

// A partition keeps what two sets of hosts say to each other until it ends.
type partition struct {
	a, b  []netip.Addr
	until time.Time
}

// Partition separates the hosts of a from those of b for a while. What they say
// to each other waits, as it does under TCP; who dials waits too, or gives up.
func (n *Network) Partition(a, b []string, d time.Duration) {
	now := time.Now()
	p := partition{a: addrs(a), b: addrs(b), until: now.Add(d)}
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []partition{p}
	if old := n.parts.Load(); old != nil {
		for _, o := range *old {
			if o.until.After(now) {
				all = append(all, o)
			}
		}
	}
	n.parts.Store(&all)
}

func addrs(names []string) []netip.Addr {
	var all []netip.Addr
	for _, s := range names {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// parted returns when the partition between two hosts ends, or zero.
func (n *Network) parted(x, y netip.Addr, now time.Time) (until time.Time) {
	all := n.parts.Load()
	if all == nil {
		return until
	}
	for _, p := range *all {
		between := slices.Contains(p.a, x) && slices.Contains(p.b, y) || slices.Contains(p.a, y) && slices.Contains(p.b, x)
		if between && p.until.After(now) && p.until.After(until) {
			until = p.until
		}
	}
	return until
}
