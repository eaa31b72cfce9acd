package sim

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A Habit is how a peer deals with its clients. Chances are from 0 to 1, and the
// zero Habit is an honest server that takes everything.
type Habit struct {
	// Policies. They are the peer's good right, and stay when it is calm.
	Refuse  []string // recipients whose local part begins so are refused with 550
	RcptMax int      // recipients of a message; those beyond get 452
	SizeMax int      // octets of a message; more is refused with 552
	Mixed   bool     // it says different things to the recipients of one batch: verdicts
	LMTP    bool     // it speaks LMTP, on port 24
	Shut    bool     // 554 in place of a greeting

	// Of a connection.
	Garbage    float64 // one of its replies is no SMTP
	CloseFirst float64 // closes right after its greeting
	Busy       float64 // 421 in place of a greeting
	HeloOnly   float64 // EHLO is refused with 502
	Plain      float64 // of each: PIPELINING, SIZE and ENHANCEDSTATUSCODES are not offered
	SevenBit   float64 // 8BITMIME is not offered
	Tarpit     float64 // waits before each reply
	TarpitMax  time.Duration

	// Rates, by the minute: more than that gets 421. Zero: no limit.
	Connections, Messages int

	// Of a sender: 451 or 452 to MAIL.
	MailLater float64

	// Of a recipient.
	Greylist int           // how often 451 comes for a new pair of sender and recipient
	GreyTime time.Duration // when a pair that does not come again is forgotten; zero: never
	Later    float64       // 450

	// Of a message.
	DropEarly   float64 // closes amid the content, and keeps nothing
	DropLate    float64 // keeps it, and closes without a reply
	LieLater    float64 // keeps it, and answers 451
	ResetLate   float64 // keeps it, answers 250, and resets
	RefuseLate  float64 // answers 554, and keeps nothing
	DeferLate   float64 // answers 451, and keeps nothing
	SilenceLate float64 // keeps it, and answers only after an hour, when nobody waits
	DropBetween float64 // over LMTP: keeps it, and closes after some of the replies
}

// PeerFaults are the kinds of faults of peers that a Network tells of.
var PeerFaults = []string{"peer_garbage", "peer_close_first", "peer_busy", "peer_helo_only", "peer_plain", "peer_seven_bit",
	"peer_tarpit", "peer_connection_rate", "peer_message_rate", "peer_greylist", "peer_later", "peer_drop_early",
	"peer_drop_late", "peer_lie_later", "peer_reset_late", "peer_refuse_late", "peer_defer_late", "peer_silence_late",
	"peer_refuse", "peer_rcpt_max", "peer_size_max", "peer_mixed", "peer_mail_later", "peer_drop_between"}

// Honest returns the policies of a habit alone.
func (h Habit) Honest() Habit {
	return Habit{Refuse: h.Refuse, RcptMax: h.RcptMax, SizeMax: h.SizeMax, Mixed: h.Mixed, LMTP: h.LMTP, Shut: h.Shut}
}

// A Taken is a message that a peer has, and never loses.
type Taken struct {
	At      time.Time
	From    string
	Rcpts   []string
	Content []byte // dots unstuffed, CRLF kept
	// SevenBit: the peer had not offered 8BITMIME, so that what it got may be encoded.
	SevenBit bool
	Final    int  // the code that it answered, or meant to
	Sent     bool // the reply was written whole, in a form that can be read
	// Heard: the client's end has read the reply out of the network. A client
	// that heard 250, and did not crash, has no reason to send it again.
	Heard bool

	conn  *conn
	reply int64 // octets that the peer had written when the reply was out
}

// A Refusal is a recipient that a peer has refused for good.
type Refusal struct {
	At       time.Time
	From, To string
	Code     int
}

// A Peer is a scripted SMTP server, written from RFC 5321 and not from ours. All
// it decides by chance comes from its name, what the client says, and the instant.
type Peer struct {
	net        *Network
	seed       uint64
	name, addr string
	host       *Host
	listener   net.Listener
	boots      int
	done       chan struct{} // closed by Stop
	wg         sync.WaitGroup

	mu       sync.Mutex
	habit    Habit
	calm     bool
	live     map[*conn]struct{}
	peak     int
	taken    []*Taken
	refusals []Refusal
	breaches []string
	grey     map[string]*tally
	calls    tally // of the minute
	mails    tally
}

// NewPeer returns a peer that will be at an address.
func NewPeer(n *Network, seed uint64, name, addr string, habit Habit) *Peer {
	return &Peer{net: n, seed: seed, name: name, addr: addr, habit: habit, live: map[*conn]struct{}{}, grey: map[string]*tally{}}
}

// Start listens on port 25, or 24 for LMTP. A peer may be started again after Stop.
func (p *Peer) Start(ctx context.Context) error {
	p.boots++
	p.host = p.net.Host(p.addr, p.name+" "+strconv.Itoa(p.boots))
	port := ":25"
	if p.habit.LMTP {
		port = ":24"
	}
	l, err := p.host.Listen(ctx, "tcp", p.addr+port)
	if err != nil {
		return err
	}
	p.listener, p.done = l, make(chan struct{})
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c.(*conn)) })
		}
	})
	return nil
}

// Stop resets all connections. What was taken stays.
func (p *Peer) Stop() {
	close(p.done)
	p.listener.Close()
	p.host.Crash()
	p.wg.Wait()
}

// Calm makes the peer honest from now on.
func (p *Peer) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.habit, p.calm = p.habit.Honest(), true
}

// Taken returns what the peer has, in the order in which it came.
func (p *Peer) Taken() []Taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Taken, len(p.taken))
	for i, t := range p.taken {
		all[i] = *t
		all[i].Heard = t.Sent && t.conn.heard(t.reply)
		all[i].conn = nil
	}
	slices.SortStableFunc(all, func(a, b Taken) int { return a.At.Compare(b.At) })
	return all
}

// Refusals returns which recipients were refused for good.
func (p *Peer) Refusals() []Refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refusals)
}

// Breaches returns what clients did that RFC 5321 and its extensions forbid.
func (p *Peer) Breaches() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.breaches)
}

// Peak returns the largest number of connections that one client had here at a
// time, by its own count: those that it has closed are not among them.
func (p *Peer) Peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak
}

// come notes a new connection. It returns the habit that it meets.
func (p *Peer) come(c *conn) (h Habit, tooMany bool) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[c] = struct{}{}
	open := 0
	for o := range p.live { // counted only
		if o.remote.Addr() == c.remote.Addr() && !o.left() {
			open++
		}
	}
	p.peak = max(p.peak, open)
	before := p.calls.minute(now)
	return p.habit, p.habit.Connections > 0 && before >= p.habit.Connections
}

// calmed reports whether the peer is honest now.
func (p *Peer) calmed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calm
}

func (p *Peer) gone(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, c)
}

// nap waits, but not beyond the end of the peer.
func (p *Peer) nap(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.done:
	}
}

// take keeps a message.
func (p *Peer) take(t *Taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = append(p.taken, t)
}

// answered notes that the reply to a message is out.
func (p *Peer) answered(t *Taken, reply int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Sent, t.reply = true, reply
}

func (p *Peer) refuse(from, to string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals = append(p.refusals, Refusal{time.Now(), from, to, code})
}

func (p *Peer) breach(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.breaches) < 100 {
		p.breaches = append(p.breaches, what)
	}
}

// mailed counts a message, and reports whether the minute has had enough.
func (p *Peer) mailed(limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.mails.minute(time.Now())
	return limit > 0 && before >= limit
}

// greyed reports whether a pair of sender and recipient is to be put off.
func (p *Peer) greyed(h Habit, from, to string) bool {
	if h.Greylist == 0 {
		return false
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	pair := from + " " + to
	t := p.grey[pair]
	if t == nil || h.GreyTime > 0 && now.Sub(t.at) > h.GreyTime {
		t = &tally{}
		p.grey[pair] = t
	}
	return t.before(now) < h.Greylist
}

// A tally counts events. What comes in one instant does not count against each
// other: which of it was first has no meaning.
type tally struct {
	earlier, same int
	at            time.Time
}

// before counts an event, and returns how many there were before this instant.
func (t *tally) before(now time.Time) int {
	if !t.at.Equal(now) {
		t.earlier, t.same, t.at = t.earlier+t.same, 0, now
	}
	t.same++
	return t.earlier
}

// minute is before for the events of the running minute alone.
func (t *tally) minute(now time.Time) int {
	if t.at.Truncate(time.Minute) != now.Truncate(time.Minute) {
		*t = tally{}
	}
	return t.before(now)
}

// left reports whether the other end of a connection is closed or gone.
func (c *conn) left() bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	far := &c.link.ends[1-c.end]
	return far.closed || far.dead
}

// written returns how many octets this end has written.
func (c *conn) written() int64 {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.pipes[c.end].written
}

// heard reports whether the other end has read that many octets.
func (c *conn) heard(n int64) bool {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.pipes[c.end].taken >= n
}
