package relay

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtpc"
)

// single is a world of one host, and the peer there.
func single() (*world, *peer) {
	w, p := newWorld(), &peer{}
	w.zone.A("example.org", "192.0.2.1")
	w.peers[mx1] = p
	return w, p
}

func deliver(t *testing.T, r *Relay, to ...string) []string {
	t.Helper()
	var got []string
	for _, o := range r.Deliver(t.Context(), delivery(t, postrider.ViaMX, to...)) {
		got = append(got, describe(o))
	}
	return got
}

func wantDelivered(t *testing.T, got []string) {
	t.Helper()
	for _, s := range got {
		if s != delivered+" (example.org)" {
			t.Errorf("got %s", s)
		}
	}
}

// TestKept: a connection is kept for the next message, for a while.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		r := w.relay(Options{UseMax: 3})
		for range 3 {
			wantDelivered(t, deliver(t, r, "b@example.org"))
			time.Sleep(9 * time.Second)
		}
		synctest.Wait()
		if p.dials != 1 || len(p.said("QUIT")) != 1 {
			t.Errorf("%d connections and %d QUIT for 3 messages, want 1 and, after the last, 1", p.dials, len(p.said("QUIT")))
		}
		wantDelivered(t, deliver(t, r, "b@example.org"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p.dials != 2 || len(p.said("QUIT")) != 2 {
			t.Errorf("%d connections and %d QUIT, want 2 and 2", p.dials, len(p.said("QUIT")))
		}
		wantDelivered(t, deliver(t, r, "b@example.org"))
		w.done(t, r)
		if p.dials != 3 || len(p.said("QUIT")) != 3 {
			t.Errorf("%d connections and %d QUIT after Close, want 3 and 3", p.dials, len(p.said("QUIT")))
		}
	})
}

// TestKeptAfterRefusal: a refused transaction leaves the connection usable.
func TestKeptAfterRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"RCPT TO:<c@example.org>": "550 5.1.1 nobody"}
		r := w.relay(Options{})
		deliver(t, r, "c@example.org")
		wantDelivered(t, deliver(t, r, "b@example.org"))
		w.done(t, r)
		if p.dials != 1 || len(p.said("RSET")) != 1 {
			t.Errorf("%d connections, %d RSET, want 1 and 1", p.dials, len(p.said("RSET")))
		}
	})
}

// TestKeptDied: that a kept connection has ended meanwhile is no outcome.
func TestKeptDied(t *testing.T) {
	for name, reply := range map[string]string{"closed": "<close>", "421": "421 4.4.2 idle too long"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := single()
				p.worn = reply
				r := w.relay(Options{})
				wantDelivered(t, deliver(t, r, "b@example.org"))
				wantDelivered(t, deliver(t, r, "b@example.org"))
				w.done(t, r)
				if p.dials != 2 || len(p.said("MAIL")) != 3 {
					t.Errorf("%d connections and %d MAIL, want 2 and 3", p.dials, len(p.said("MAIL")))
				}
			})
		})
	}
}

// TestKeptLost: a kept connection that is lost when the peer has said something of this
// message is no connection that had died before: what was said counts, and the message
// is not sent again at once. RFC 1047: after the final dot the peer may have it.
func TestKeptLost(t *testing.T) {
	const uncertain = "; it may have the message, and is tried first from now on uncertain"
	lost := func(stage string) string {
		return "lost connection with example.org[192.0.2.1]:25 while " + stage + ": the peer closed the connection"
	}
	for _, c := range []struct {
		at      string
		exts    []string
		want    string // of the second recipient; the first was refused before
		content int    // messages that the peer has read
	}{
		{at: ".", want: "deferred/message 451 4.4.2 " + lost("waiting for the reply to the final dot") + uncertain, content: 2},
		{at: ".", exts: []string{"PIPELINING"}, want: "deferred/message 451 4.4.2 " + lost("waiting for the reply to the final dot") + uncertain, content: 2},
		{at: "DATA", want: "deferred/dest 451 4.4.2 " + lost("sending DATA"), content: 1},
		{at: "RCPT TO:<d@example.org>", want: "deferred/dest 451 4.4.2 " + lost("sending RCPT"), content: 1},
	} {
		t.Run(fmt.Sprint(c.at, c.exts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := single()
				p.exts = c.exts
				r := w.relay(Options{})
				wantDelivered(t, deliver(t, r, "b@example.org"))
				synctest.Wait()
				p.replies = map[string]string{"RCPT TO:<c@example.org>": "550 5.1.1 nobody", c.at: "<close>"}
				got := deliver(t, r, "c@example.org", "d@example.org")
				if want := []string{"failed/recipient 550 5.1.1 nobody (example.org)", c.want}; !slices.Equal(got, want) {
					t.Errorf("got  %q\nwant %q", got, want)
				}
				w.done(t, r)
				if p.dials != 1 || len(p.said("MAIL")) != 2 || len(p.contents) != c.content {
					t.Errorf("%d connections, %d MAIL, %d messages; want 1, 2 and %d", p.dials, len(p.said("MAIL")), len(p.contents), c.content)
				}
			})
		})
	}
}

// TestIdleMax: not more than so many connections are kept in all.
func TestIdleMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.relay(Options{IdleMax: 2})
		for i := range 4 {
			addr := fmt.Sprintf("192.0.2.%d", i)
			w.zone.A(fmt.Sprintf("d%d.example", i), addr)
			w.peers[addr+":25"] = &peer{}
			deliver(t, r, fmt.Sprintf("b@d%d.example", i))
		}
		synctest.Wait()
		for i := range 4 {
			if n := len(w.peers[fmt.Sprintf("192.0.2.%d:25", i)].said("QUIT")); (n == 1) != (i < 2) {
				t.Errorf("connection %d: %d QUIT; the two that lay longest should have gone", i, n)
			}
		}
		w.done(t, r)

		none, p := single()
		r = none.relay(Options{IdleMax: -1})
		deliver(t, r, "b@example.org")
		synctest.Wait()
		if len(p.said("QUIT")) != 1 {
			t.Error("a connection was kept where none should be")
		}
		none.done(t, r)
	})
}

// TestConnMax: more attempts than connections are allowed wait for their turn.
func TestConnMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		r := w.relay(Options{ConnMax: 2})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { wantDelivered(t, deliver(t, r, "b@example.org")) })
		}
		wg.Wait()
		if p.dials > 2 || len(p.contents) != 10 {
			t.Errorf("%d connections for %d messages, want 2 for 10", p.dials, len(p.contents))
		}
		if len(r.pool.gates) != 0 {
			t.Errorf("%d sites are remembered", len(r.pool.gates))
		}
		w.done(t, r)
	})
}

// TestCloseSilent: a peer that does not answer QUIT holds Close up no longer
// than it is told to wait.
func TestCloseSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"QUIT": "<silence>"}
		r := w.relay(Options{Timeouts: smtpc.Timeouts{Quit: time.Hour}})
		deliver(t, r, "b@example.org")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.Close(ctx); err == nil || time.Since(start) != 3*time.Second {
			t.Errorf("Close took %v: %v", time.Since(start), err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		w.wg.Wait()
	})
}

// TestManyRecipients: RFC 5321 4.5.3.1.8 promises room for 100 recipients, so no
// transaction has more; all of them use one connection.
func TestManyRecipients(t *testing.T) {
	var to []string
	for i := range 250 {
		to = append(to, fmt.Sprintf("r%d@example.org", i))
	}
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.exts = []string{"PIPELINING"}
		r := w.relay(Options{})
		wantDelivered(t, deliver(t, r, to...))
		w.done(t, r)
		if len(p.contents) != 3 || p.dials != 1 || len(p.said("RCPT")) != 250 {
			t.Errorf("%d transactions, %d connections, %d RCPT; want 3, 1, 250", len(p.contents), p.dials, len(p.said("RCPT")))
		}
	})
}

// TestTooMany: RFC 5321 4.5.3.1.10: "Each retransmission attempt that is able to
// deliver anything will be able to dispose of at least 100 of these recipients."
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"RCPT TO:<d@example.org>": "452 4.5.3 too many", "RCPT TO:<e@example.org>": "452 4.2.2 full"}
		r := w.relay(Options{})
		got := deliver(t, r, "b@example.org", "c@example.org", "d@example.org", "e@example.org")
		want := []string{delivered + " (example.org)", delivered + " (example.org)",
			"deferred/recipient 452 4.5.3 too many (example.org)", "deferred/recipient 452 4.2.2 full (example.org)"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		w.done(t, r)
		if got := p.said("RCPT TO:<d"); len(got) != 2 || len(p.contents) != 1 {
			t.Errorf("d was tried %d times and %d contents were sent, want 2 and 1", len(got), len(p.contents))
		}
		if got := p.said("RCPT TO:<e"); len(got) != 1 {
			t.Errorf("e, whose mailbox is full, was tried %d times, want 1", len(got))
		}
	})
}

// TestMessage: what is said of the message on the wire.
func TestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.exts = []string{"SIZE", "8BITMIME", "DSN", "SMTPUTF8"}
		r := w.relay(Options{})
		d := delivery(t, postrider.ViaMX, "b@example.org", "c@example.org")
		d.Message.EightBit, d.Message.UTF8, d.Message.EnvID = true, true, "x y"
		d.Message.Recipients[1].Notify, d.Message.Recipients[1].ORcpt = 1, "rfc822;C@example.org"
		d.Rcpts = []int{1}
		r.Deliver(t.Context(), d)
		w.done(t, r)
		want := []string{"EHLO us.example", "MAIL FROM:<a@example.net> SIZE=12 BODY=8BITMIME SMTPUTF8 ENVID=x+20y",
			"RCPT TO:<c@example.org> NOTIFY=NEVER ORCPT=rfc822;C@example.org", "DATA", "QUIT"}
		if !slices.Equal(p.commands, want) || !slices.Equal(p.contents, []string{"Subject: x\r\n"}) {
			t.Errorf("got  %q %q\nwant %q", p.commands, p.contents, want)
		}
	})
}

// TestCancelled: an attempt that we end ourselves says nothing of the peer, and
// keeps what it knew.
func TestCancelled(t *testing.T) {
	for _, test := range []struct{ at, want string }{
		{"DATA", "deferred/message 451 4.3.2 the delivery was interrupted"},
		{"", "deferred/message 451 4.3.2 the delivery was interrupted"},
		{".", "deferred/message 451 4.4.2 lost connection with example.org[192.0.2.1]:25 while waiting for the reply to the final dot: " +
			"io: read/write on closed pipe; it may have the message, and is tried first from now on uncertain"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			p.replies = map[string]string{test.at: "<silence>", "RCPT TO:<c@example.org>": "550 5.1.1 nobody"}
			r := w.relay(Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			out := r.Deliver(ctx, delivery(t, postrider.ViaMX, "b@example.org", "c@example.org"))
			if got := describe(out[0]); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if test.at != "" && out[1].Result != postrider.ResultFailed {
				t.Errorf("the other: %s", describe(out[1]))
			}
			w.done(t, r)
		})
	}
}

// TestSetupEnds: when the process is to end, what has no connection is given back at
// once, as not tried, and a dialogue comes to its end.
func TestSetupEnds(t *testing.T) {
	for _, test := range []struct {
		what string
		set  func(w *world, p *peer)
		busy bool // the host has as many connections as it may
		done bool
	}{
		{what: "a host that does not answer", set: func(w *world, p *peer) { w.hung[mx1] = true }},
		{what: "no greeting", set: func(w *world, p *peer) { p.replies = map[string]string{"": "<silence>"} }},
		{what: "no answer to EHLO", set: func(w *world, p *peer) { p.replies = map[string]string{"EHLO": "<silence>"} }},
		{what: "others first", set: func(w *world, p *peer) { p.wait = time.Minute }, busy: true},
		{what: "a slow dialogue", set: func(w *world, p *peer) { p.wait = 2 * time.Second }, done: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			w.peers[mx2] = &peer{}
			w.zone.MX("example.org", 10, "example.org").MX("example.org", 20, "mx2.example").A("mx2.example", "192.0.2.2")
			test.set(w, p)
			r := w.relay(Options{ConnMax: 1})
			var others sync.WaitGroup
			if test.busy {
				others.Go(func() { r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org")) })
				synctest.Wait()
			}
			setup, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			d := delivery(t, postrider.ViaMX, "b@example.org")
			d.Setup = setup
			began := time.Now()
			o := r.Deliver(t.Context(), d)[0]
			if test.done {
				wantDelivered(t, []string{describe(o)})
			} else if took := time.Since(began); o.Result != postrider.ResultDeferred || !o.Untried || took != 5*time.Second {
				t.Errorf("%s: %s, untried %v, after %v", test.what, describe(o), o.Untried, took)
			}
			others.Wait()
			if g := r.pool.gates[siteA]; g != nil && (g.used > 0 || g.fails > 0 || g.probe) {
				t.Errorf("%s: the gate is left with %+v", test.what, g)
			}
			w.done(t, r)
		})
	}
}

// TestBounds: a domain with hosts without end is tried so often and no more.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 60 {
			name := fmt.Sprintf("mx%d.example", i)
			w.zone.MX("example.org", uint16(i), name)
			for j := range 7 {
				w.zone.A(name, fmt.Sprintf("193.0.%d.%d", i, j))
			}
		}
		r := w.relay(Options{})
		deliver(t, r, "b@example.org")
		w.done(t, r)
		perHost := map[string]int{}
		for _, addr := range w.dials {
			perHost[addr[:strings.LastIndexByte(addr, '.')]]++
		}
		if len(w.dials) != triesMax || perHost["193.0.0"] != addrsMax || len(perHost) != triesMax/addrsMax {
			t.Errorf("%d dials: %v", len(w.dials), perHost)
		}
	})
}

// TestShuffle: RFC 5321 5.1: of equal preference "the sender-SMTP MUST randomize
// them to spread the load".
func TestShuffle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 3 {
			name, addr := fmt.Sprintf("mx%d.example", i), fmt.Sprintf("192.0.2.%d", i)
			w.zone.MX("example.org", 10, name).A(name, addr)
			w.peers[addr+":25"] = &peer{}
		}
		w.zone.MX("example.org", 5, "best.example").A("best.example", "192.0.2.9")
		r := w.relay(Options{Rand: seeded(), IdleMax: -1})
		for range 60 {
			deliver(t, r, "b@example.org")
		}
		w.done(t, r)
		for i := range 3 {
			if n := len(w.peers[fmt.Sprintf("192.0.2.%d:25", i)].contents); n < 8 {
				t.Errorf("mx%d had %d of 60 messages", i, n)
			}
		}
		if n := len(w.dials); n != 120 {
			t.Errorf("%d dials, want the best and another for each message", n)
		}
	})
}

func TestLimit(t *testing.T) {
	list := func(v6, v4 int) []target {
		var l []target
		for i := range v6 {
			l = append(l, target{addr: netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), 25)})
		}
		for i := range v4 {
			l = append(l, target{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 25)})
		}
		return l
	}
	for _, test := range []struct{ v6, v4, want6, want4 int }{
		{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 3, 2, 3}, {9, 0, 5, 0}, {0, 9, 0, 5}, {9, 9, 3, 2}, {9, 1, 4, 1}, {1, 9, 1, 4},
	} {
		if got := limit(list(test.v6, test.v4)); !slices.Equal(got, list(test.want6, test.want4)) {
			t.Errorf("of %d and %d: %v", test.v6, test.v4, got)
		}
	}
}

// A session that has lasted for too long says so at MAIL in one way or another, and a
// new one takes the message.
func TestSessionHasEnough(t *testing.T) {
	for _, worn := range []string{"452 4.3.2 enough for one session", "450 enough", "550 5.7.0 enough", "421 4.7.0 enough", "<close>"} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			p.worn, p.rcptMax = worn, 2
			r := w.relay(Options{})
			wantDelivered(t, deliver(t, r, "b@example.org")) // a kept connection
			wantDelivered(t, deliver(t, r, "b@example.org"))
			five := []string{"a@example.org", "b@example.org", "c@example.org", "d@example.org", "e@example.org"}
			wantDelivered(t, deliver(t, r, five...)) // and one of this attempt
			if n := p.dials; n != 5 {
				t.Errorf("%q: %d connections, want 5", worn, n)
			}
			w.done(t, r)
			if g := r.pool.gates; len(g) != 0 {
				t.Errorf("%q: the host has to be spared: %+v", worn, g)
			}
		})
	}
}

// A connection that comes to lie in the pool beside others ends in its time.
func TestReaperKnowsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		w.zone.A("example.com", "192.0.2.2")
		other := &peer{}
		w.peers[mx2] = other
		r := w.relay(Options{})
		ends := func(p *peer) bool { return len(p.said("QUIT")) == 1 }
		want := func(when string, one, two bool) {
			t.Helper()
			synctest.Wait()
			if got := []bool{ends(p), ends(other)}; !slices.Equal(got, []bool{one, two}) {
				t.Errorf("%s: ended %v, want %v", when, got, []bool{one, two})
			}
		}
		deliver(t, r, "b@example.org")
		time.Sleep(6 * time.Second)
		deliver(t, r, "b@example.com")
		want("at once", false, false)
		time.Sleep(5 * time.Second)
		want("after 11 and 5 s", true, false)
		time.Sleep(6 * time.Second)
		want("after 17 and 11 s", true, true)
		time.Sleep(time.Minute)
		p.mu.Lock()
		p.commands = nil
		p.mu.Unlock()
		deliver(t, r, "b@example.org")
		time.Sleep(11 * time.Second)
		want("again, from nothing", true, true)
		w.done(t, r)
	})
}

// What is learned of one host more forgets the others only where it is new: a full table
// holds what it has.
func TestLearnedStays(t *testing.T) {
	p := newPool(Options{}.orDefaults())
	defer p.close(t.Context())
	for i := range learnedMax {
		p.learn(site{socket: fmt.Sprint(i)}, 50)
	}
	p.learn(site{socket: "7"}, 20)
	if a, b := p.learned(site{socket: "7"}), p.learned(site{socket: "8"}); a != 20 || b != 50 {
		t.Errorf("two that are known take %d and %d, want 20 and 50", a, b)
	}
	p.learn(site{socket: "another"}, 30)
	if a, n := p.learned(site{socket: "another"}), len(p.rcpts); a != 30 || n > learnedMax {
		t.Errorf("one more takes %d, want 30; %d are known", a, n)
	}
}
