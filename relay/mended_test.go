package relay

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// An address that cannot be reached from here is no attempt at a message for which
// there is no room at the next one.
func TestCrowdedBehindUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		w.zone.A("example.org", "2001:db8::1") // comes first, and nobody is there
		p.replies = map[string]string{"MAIL": "<silence>"}
		r := w.relay(Options{ConnMax: 1})
		var wg sync.WaitGroup
		for range 1 + waitersMax {
			wg.Go(func() { deliver(t, r, "b@example.org") })
		}
		synctest.Wait()
		o := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))[0]
		if !o.Untried || o.Result != postrider.ResultDeferred || o.Scope != postrider.ScopeMessage {
			t.Errorf("%+v", o)
		}
		wg.Wait()
		w.done(t, r)
	})
}

// Who answers and puts the message off was an attempt, whatever crowd comes behind.
func TestCrowdedBehindAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		two(w)
		w.zone.MX("example.com", 10, "mx2.example")
		w.peers[mx1] = &peer{replies: map[string]string{"MAIL": "451 4.3.2 not now"}}
		w.peers[mx2] = &peer{replies: map[string]string{"MAIL": "<silence>"}}
		r := w.relay(Options{ConnMax: 1})
		var wg sync.WaitGroup
		for range 1 + waitersMax {
			wg.Go(func() { deliver(t, r, "b@example.com") })
		}
		synctest.Wait()
		if o := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))[0]; o.Untried {
			t.Errorf("%+v", o)
		}
		wg.Wait()
		w.done(t, r)
	})
}

// One full mailbox, the last of a message, says nothing of how many recipients its host
// takes.
func TestFullMailboxIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"RCPT TO:<d@example.org>": "452 full"}
		r := w.relay(Options{})
		deliver(t, r, "b@example.org", "c@example.org", "d@example.org")
		before := len(p.said("MAIL"))
		wantDelivered(t, deliver(t, r, "a@example.org", "b@example.org", "c@example.org"))
		w.done(t, r)
		if got := len(p.said("MAIL")) - before; got != 1 {
			t.Errorf("%d transactions for three recipients, want 1", got)
		}
	})
}

// RFC 5321 5.1: "the SMTP client MUST be able to try (and retry) each of the relevant
// addresses in this list in order, until a delivery attempt succeeds." One of IPv4 may
// think of us otherwise than one of IPv6.
func TestOtherAddressOfTheHost(t *testing.T) {
	const six, four = "[2001:db8::1]:25", "192.0.2.1:25"
	at := func(first, second map[string]string) func(w *world) {
		return func(w *world) {
			w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "2001:db8::1").A("mx1.example", "192.0.2.1")
			w.peers[six], w.peers[four] = &peer{replies: first}, &peer{replies: second}
		}
	}
	both, took := []string{six, four}, []string{delivered + " (mx1.example)"}
	play(t, []story{
		{name: "554 in the greeting", world: at(map[string]string{"": "554 5.7.1 not from there"}, nil), want: took, dials: both},
		{name: "550 to EHLO and HELO", world: at(map[string]string{"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 no"}, nil), want: took, dials: both},
		{name: "451 to MAIL", world: at(map[string]string{"MAIL": "451 4.7.1 who are you"}, nil), want: took, dials: both},
		{name: "521 is of the host", world: at(map[string]string{"": "521 5.3.2 no mail here"}, nil), dials: both[:1],
			want: []string{"failed/message 521 5.3.2 no mail here (mx1.example)"}},
		{name: "554 by both", world: at(map[string]string{"": "554 5.7.1 not from there"}, map[string]string{"": "554 5.7.1 nor from here"}), dials: both,
			want: []string{"failed/message 554 5.7.1 nor from here (mx1.example)"}},
		{name: "554, and the other cannot be reached", dials: both,
			world: func(w *world) {
				at(map[string]string{"": "554 5.7.1 not from there"}, nil)(w)
				delete(w.peers, four)
			},
			want: []string{"deferred/dest 451 4.4.1 connect to mx1.example[192.0.2.1]:25: connection refused"}},
	})
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
