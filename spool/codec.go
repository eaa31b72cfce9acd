package spool

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What the meta of each kind of record holds. A field is only ever added at the
// end, with a new recordVersion.

// An accepted is the meta of kindAccept and kindMove.
type accepted struct {
	msg  *postrider.Message
	head []byte
	wake int64
	big  bool     // the body is in its own file
	size int64    // of the body, without head
	sums []uint32 // one for each block of the body
}

// A state is the meta of kindState.
type state struct {
	id      postrider.ID
	at      int64
	from    smtp.Path
	arrived int64
	wake    int64 // when to look at the message next; 0: as it was
	woke    bool  // ends a Wake lease: what wake was is over
	last    bool  // every recipient is now settled and reported
	report  postrider.ID
	dests   []postrider.Dest // of each change, for the feed
	tos     []smtp.Path
	changes []postrider.Change
	news    []bool // of each change: it is more than that the sender was told
	done    []fulfilled
}

// A fulfilled is a recipient that an operator had bounced or dropped while it was
// under way, and that still waits at the end of the lease: now it is done.
type fulfilled struct {
	rcpt  int32
	to    smtp.Path
	do    postrider.Amend
	reply smtp.Reply
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func flags(bits ...bool) uint64 {
	var v uint64
	for i, b := range bits {
		if b {
			v |= 1 << i
		}
	}
	return v
}

func (e *encoder) path(p smtp.Path) { e.str(p.Local); e.str(p.Domain) }
func (d *decoder) path() smtp.Path  { return smtp.Path{Local: d.str(), Domain: d.str()} }

func (e *encoder) reply(r smtp.Reply) {
	e.uint(uint64(r.Code))
	e.uint(uint64(r.Status.Class))
	e.uint(uint64(r.Status.Subject))
	e.uint(uint64(r.Status.Detail))
	e.str(r.Text)
}

func (d *decoder) reply() smtp.Reply {
	return smtp.Reply{
		Code:   int(d.uint()),
		Status: smtp.Status{Class: uint8(d.uint()), Subject: uint16(d.uint()), Detail: uint16(d.uint())},
		Text:   d.str(),
	}
}

// appendTos appends the addresses of the recipients.
func appendTos(tos []smtp.Path, m *postrider.Message) []smtp.Path {
	for i := range m.Recipients {
		tos = append(tos, m.Recipients[i].To)
	}
	return tos
}

// named returns the addresses by which people may look for a message: those of
// its recipients, and what they were before an alias (ORCPT, RFC 3461 4.2).
func (a *accepted) named() []smtp.Path {
	all := appendTos(make([]smtp.Path, 0, len(a.msg.Recipients)), a.msg)
	var seen map[smtp.Path]bool // there may be a hundred thousand
	for i := range a.msg.Recipients {
		p, ok := before(&a.msg.Recipients[i])
		if !ok {
			continue
		}
		if seen == nil {
			seen = make(map[smtp.Path]bool, len(all))
			for _, to := range all {
				seen[to] = true
			}
		}
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

// before is the ORCPT of a recipient, if that is an address.
func before(r *postrider.Recipient) (smtp.Path, bool) {
	kind, text, _ := strings.Cut(r.ORcpt, ";")
	given, ok := smtp.DecodeXtext(text)
	if !ok || !strings.EqualFold(kind, "rfc822") {
		return smtp.Path{}, false
	}
	p, err := smtp.ParsePath(given)
	return p, err == nil
}

// has is how many recipients a message has, without aliases that stood for several.
func (a *accepted) has() int {
	n := 0
	for i := range a.msg.Recipients {
		if !a.msg.Recipients[i].Expanded {
			n++
		}
	}
	return n
}

// given is how many recipients a message was for: those that have the same ORCPT, and
// another address, were one.
func (a *accepted) given() int {
	n := 0
	var seen map[smtp.Path]bool
	for i := range a.msg.Recipients {
		r := &a.msg.Recipients[i]
		p, ok := before(r)
		switch {
		case r.Expanded:
		case !ok || p == r.To:
			n++
		case !seen[p]:
			if seen == nil {
				seen = map[smtp.Path]bool{}
			}
			seen[p] = true
			n++
		}
	}
	return n
}

// What the meta of most messages, and of most recipients, has room in.
const (
	metaMost = 384
	rcptMost = 80
)

func (a *accepted) encode() []byte {
	m := a.msg
	e := encoder{b: make([]byte, 0, metaMost+len(a.head)+rcptMost*len(m.Recipients))}
	e.str(string(m.ID))
	e.path(m.From)
	e.str(m.EnvID)
	e.uint(uint64(m.Ret))
	e.uint(flags(m.UTF8, m.EightBit, a.big, m.Automatic))
	e.int(nanos(m.Arrived))
	e.int(m.Size)
	e.str(m.Source.Listener)
	var few [32]byte
	peer, _ := m.Source.Peer.AppendBinary(few[:0])
	e.bytes(peer)
	e.str(m.Source.Hello)
	e.str(m.Source.Protocol)
	e.str(m.Source.Account)
	e.str(m.Source.TLS)
	e.str(m.HeaderID)
	e.int(a.wake)
	e.bytes(a.head)
	e.int(a.size)
	e.uint(uint64(len(a.sums)))
	for _, s := range a.sums {
		e.uint(uint64(s))
	}
	e.uint(uint64(len(m.Recipients)))
	for i := range m.Recipients {
		r := &m.Recipients[i]
		e.path(r.To)
		e.uint(uint64(r.Notify))
		e.str(r.ORcpt)
		e.uint(flags(r.Held, r.Passed, r.Expanded))
		c := changeOf(i, r)
		e.change(&c)
	}
	e.asked(m)
	return e.b
}

// asked appends what few messages ask for. Where nothing is, nothing stands; so
// it is with records of a time before there was any of it.
func (e *encoder) asked(m *postrider.Message) {
	rrvs := slices.ContainsFunc(m.Recipients, func(r postrider.Recipient) bool { return r.RRVS != smtp.RRVS{} })
	if !m.Binary && m.By == (smtp.DeliverBy{}) && m.Release.IsZero() && m.Priority == 0 && m.Auth == "" && m.Solicit == "" && !rrvs {
		return
	}
	e.uint(flags(m.Binary, m.By.Trace, rrvs))
	e.int(int64(m.HoldFor))
	e.int(int64(m.By.Seconds))
	e.uint(uint64(m.By.Mode))
	e.int(nanos(m.Release))
	e.int(int64(m.Priority))
	e.str(m.Auth)
	e.str(m.Solicit)
	for i := range m.Recipients {
		if r := m.Recipients[i].RRVS; rrvs {
			e.int(r.Since.Unix()) // whole seconds, of years that nanoseconds do not reach
			e.uint(flags(r.Continue))
		}
	}
}

func (d *decoder) asked(m *postrider.Message) {
	if len(d.b) == 0 {
		return
	}
	f := d.uint()
	m.Binary, m.By.Trace = f&1 != 0, f&2 != 0
	m.HoldFor = time.Duration(d.int())
	m.By.Seconds, m.By.Mode = int32(d.int()), smtp.ByMode(d.uint())
	m.Release = fromNanos(d.int())
	m.Priority = int8(d.int())
	m.Auth, m.Solicit = d.str(), d.str()
	for i := range m.Recipients {
		if f&4 != 0 {
			m.Recipients[i].RRVS = smtp.RRVS{Since: time.Unix(d.int(), 0).UTC(), Continue: d.uint() != 0}
		}
	}
}

func decodeAccepted(meta []byte) (*accepted, error) {
	d := decoder{b: meta}
	m := &postrider.Message{ID: postrider.ID(d.str()), From: d.path(), EnvID: d.str(), Ret: smtp.Ret(d.uint())}
	f := d.uint()
	m.UTF8, m.EightBit, m.Automatic = f&1 != 0, f&2 != 0, f&8 != 0
	m.Arrived = fromNanos(d.int())
	m.Size = d.int()
	m.Source.Listener = d.str()
	var peer netip.AddrPort
	if p := d.bytes(); len(p) > 0 && peer.UnmarshalBinary(p) == nil {
		m.Source.Peer = peer
	}
	m.Source.Hello = d.str()
	m.Source.Protocol, m.Source.Account, m.Source.TLS = d.str(), d.str(), d.str()
	m.HeaderID = d.str()
	a := &accepted{msg: m, big: f&4 != 0, wake: d.int(), head: d.bytes(), size: d.int()}
	a.sums = make([]uint32, d.count())
	for i := range a.sums {
		a.sums[i] = uint32(d.uint())
	}
	m.Recipients = make([]postrider.Recipient, d.count())
	for i := range m.Recipients {
		r := &m.Recipients[i]
		r.To, r.Notify, r.ORcpt = d.path(), smtp.Notify(d.uint()), d.str()
		f := d.uint()
		r.Held, r.Passed, r.Expanded = f&1 != 0, f&2 != 0, f&4 != 0
		c := d.change()
		apply(r, &c)
	}
	d.asked(m)
	if _, ok := packID(m.ID); d.bad || len(d.b) != 0 || !ok {
		return nil, fmt.Errorf("message record does not decode")
	}
	return a, nil
}

// changeOf returns the change that makes a recipient what r is.
func changeOf(i int, r *postrider.Recipient) postrider.Change {
	return postrider.Change{
		Rcpt: i, State: r.State, Reported: r.Reported, Delayed: r.Delayed, Due: r.Due, Tries: r.Tries,
		Settled: r.Settled, Reply: r.Reply, Remote: r.Remote, Final: r.Final, RelayedTo: r.RelayedTo, Uncertain: r.Uncertain,
	}
}

// apply makes r what c says.
func apply(r *postrider.Recipient, c *postrider.Change) {
	r.State, r.Reported, r.Delayed, r.Due, r.Tries = c.State, c.Reported, c.Delayed, c.Due, c.Tries
	r.Settled, r.Reply, r.Remote, r.Final, r.RelayedTo = c.Settled, c.Reply, c.Remote, c.Final, c.RelayedTo
	r.Uncertain = c.Uncertain
}

func (e *encoder) change(c *postrider.Change) {
	e.uint(uint64(c.Rcpt))
	e.uint(uint64(c.State))
	e.uint(flags(c.Reported, c.Delayed, c.RelayedTo, c.Final, c.Uncertain != ""))
	e.int(nanos(c.Due))
	e.uint(uint64(c.Tries))
	e.int(nanos(c.Settled))
	e.reply(c.Reply)
	e.str(c.Remote)
	if c.Uncertain != "" {
		e.str(c.Uncertain)
	}
}

func (d *decoder) change() postrider.Change {
	c := postrider.Change{Rcpt: int(d.uint()), State: postrider.State(d.uint())}
	f := d.uint()
	c.Reported, c.Delayed, c.RelayedTo, c.Final = f&1 != 0, f&2 != 0, f&4 != 0, f&8 != 0
	c.Due = fromNanos(d.int())
	c.Tries = int(d.uint())
	c.Settled = fromNanos(d.int())
	c.Reply = d.reply()
	c.Remote = d.str()
	if f&16 != 0 {
		c.Uncertain = d.str()
	}
	return c
}

func (s *state) encode() []byte {
	e := encoder{b: make([]byte, 0, 256)}
	e.str(string(s.id))
	e.int(s.at)
	e.path(s.from)
	e.int(s.arrived)
	e.int(s.wake)
	e.uint(flags(s.last, s.woke))
	e.str(string(s.report))
	e.uint(uint64(len(s.changes)))
	for i := range s.changes {
		e.path(s.tos[i])
		e.str(string(s.dests[i]))
		e.uint(flags(s.news[i]))
		e.change(&s.changes[i])
	}
	for _, f := range s.done { // to the end of the meta, for the feed alone
		e.uint(uint64(f.rcpt))
		e.path(f.to)
		e.uint(uint64(f.do))
		e.reply(f.reply)
	}
	return e.b
}

func decodeState(meta []byte) (*state, error) {
	d := decoder{b: meta}
	s := &state{id: postrider.ID(d.str()), at: d.int(), from: d.path(), arrived: d.int(), wake: d.int()}
	f := d.uint()
	s.last, s.woke = f&1 != 0, f&2 != 0
	s.report = postrider.ID(d.str())
	n := d.count()
	s.tos, s.dests = make([]smtp.Path, n), make([]postrider.Dest, n)
	s.changes, s.news = make([]postrider.Change, n), make([]bool, n)
	for i := range n {
		s.tos[i], s.dests[i], s.news[i], s.changes[i] = d.path(), postrider.Dest(d.str()), d.uint() != 0, d.change()
	}
	for !d.bad && len(d.b) > 0 {
		s.done = append(s.done, fulfilled{int32(d.uint()), d.path(), postrider.Amend(d.uint()), d.reply()})
	}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("state record does not decode")
	}
	return s, nil
}

// An amendment is the meta of kindAmend.
type amendment struct {
	id      postrider.ID
	at      int64 // when it was asked for
	from    smtp.Path
	arrived int64
	do      postrider.Amend
	due     int64
	reply   smtp.Reply
	rcpts   []int32 // those that waited then, ascending
	tos     []smtp.Path
	leased  []bool // of each: it was under way
	last    bool   // every recipient is now settled and reported
}

func (a *amendment) encode() []byte {
	var e encoder
	e.str(string(a.id))
	e.int(a.at)
	e.path(a.from)
	e.int(a.arrived)
	e.uint(uint64(a.do))
	e.int(a.due)
	e.reply(a.reply)
	e.uint(flags(a.last))
	e.uint(uint64(len(a.rcpts)))
	for i, n := range a.rcpts {
		e.uint(uint64(n))
		e.path(a.tos[i])
		e.uint(flags(a.leased[i]))
	}
	return e.b
}

func decodeAmendment(meta []byte) (*amendment, error) {
	d := decoder{b: meta}
	a := &amendment{id: postrider.ID(d.str()), at: d.int(), from: d.path(), arrived: d.int(),
		do: postrider.Amend(d.uint()), due: d.int(), reply: d.reply(), last: d.uint() != 0}
	a.rcpts = make([]int32, d.count())
	a.tos, a.leased = make([]smtp.Path, len(a.rcpts)), make([]bool, len(a.rcpts))
	for i := range a.rcpts {
		a.rcpts[i], a.tos[i], a.leased[i] = int32(d.uint()), d.path(), d.uint() != 0
	}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("amendment record does not decode")
	}
	return a, nil
}

// A commit is the meta of kindCommit.
type commit struct {
	first  uint64 // LSN of the first record of the group
	synced uint64 // what was known to be durable when the group was written
}

func (c *commit) encode() []byte {
	var e encoder
	e.uint(c.first)
	e.uint(c.synced)
	return e.b
}

func decodeCommit(meta []byte) (*commit, error) {
	d := decoder{b: meta}
	c := &commit{first: d.uint(), synced: d.uint()}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("commit record does not decode")
	}
	return c, nil
}

// A cursor is the meta of kindCursor: everything up to lsn was read.
type cursor struct {
	reader string
	lsn    uint64
}

func (c *cursor) encode() []byte {
	var e encoder
	e.str(c.reader)
	e.uint(c.lsn)
	return e.b
}

func decodeCursor(meta []byte) (*cursor, error) {
	d := decoder{b: meta}
	c := &cursor{reader: d.str(), lsn: d.uint()}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("cursor record does not decode")
	}
	return c, nil
}

// A damage is the meta of kindDamaged.
type damage struct {
	at   int64
	what string
}

func (r *damage) encode() []byte {
	var e encoder
	e.int(r.at)
	e.str(r.what)
	return e.b
}

func decodeDamage(meta []byte) (*damage, error) {
	d := decoder{b: meta}
	r := &damage{at: d.int(), what: d.str()}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("damage record does not decode")
	}
	return r, nil
}
