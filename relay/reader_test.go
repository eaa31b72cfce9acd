package relay

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
)

// Faults that were found by reading, each played out.

// RFC 5321 5.1: who is among the exchangers by name is so whatever his address is, as
// behind NAT, and whether or not the DNS has one; and he knows himself by how he is greeted.
func TestOurOwnName(t *testing.T) {
	ours := map[string]string{"EHLO": "250-us.example\r\n250 8BITMIME"}
	play(t, []story{{
		name: "second to one that is down",
		world: func(w *world) {
			w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
			w.zone.MX("example.org", 20, "US.example").A("us.example", "192.0.2.2")
			w.peers[mx2] = &peer{}
		},
		want:  []string{"deferred/dest 451 4.4.1 connect to mx1.example[192.0.2.1]:25: connection refused"},
		dials: []string{mx1},
	}, {
		name: "without an address just now, before another",
		world: func(w *world) {
			w.zone.MX("example.org", 10, "us.example").MX("example.org", 20, "mx2.example").A("mx2.example", "192.0.2.2")
			w.zone.Fail("us.example", dns.ErrServFail)
			w.peers[mx2] = &peer{}
		},
		want: []string{"failed/message 554 5.4.6 mail for example.org loops back to myself"},
	}, {
		name: "by another name, and greeted by our own",
		world: func(w *world) {
			w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
			w.zone.MX("example.org", 20, "mx2.example").A("mx2.example", "192.0.2.2")
			w.peers[mx2] = &peer{replies: ours}
		},
		want:  []string{"deferred/dest 451 4.4.1 connect to mx1.example[192.0.2.1]:25: connection refused"},
		dials: []string{mx1, mx2},
	}, {
		name: "a host of the route may have our name",
		world: func(w *world) {
			w.zone.A("smart.example", "192.0.2.9")
			w.peers[smartAddr] = &peer{replies: ours}
		},
		set:   func(d *postrider.Delivery) { d.Route = smart(postrider.TLSNone) },
		want:  []string{"delivered/recipient 250 0.0.0 ok (smart.example)"},
		dials: []string{smartAddr},
	}})
}

// MAIL that is refused on a connection that has brought a message before may be about
// the session: a new one says whether it is.
func TestMailRefusedInAWornSession(t *testing.T) {
	for _, worn := range []string{"503 5.5.1 nested MAIL command", "554 5.7.0 too many messages in this session"} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			p.worn = worn
			r := w.relay(Options{})
			wantDelivered(t, deliver(t, r, "b@example.org"))
			wantDelivered(t, deliver(t, r, "b@example.org"))
			p.worn, p.replies = "", map[string]string{"MAIL": "550 5.7.1 not from you"}
			if got := deliver(t, r, "b@example.org"); fmt.Sprint(got) != "[failed/message 550 5.7.1 not from you (example.org)]" {
				t.Errorf("what a new session says as well: %q", got)
			}
			w.done(t, r)
			if p.dials != 3 {
				t.Errorf("%d connections, want 3", p.dials)
			}
		})
	}
}

// Who may have the message is among those that are tried, however many there are.
func TestUncertainAmongMany(t *testing.T) {
	many := func(w *world) {
		for host := range 30 {
			name := fmt.Sprintf("mx%02d.example", host)
			w.zone.MX("example.org", uint16(host), name)
			for i := range 8 {
				addr := fmt.Sprintf("193.0.%d.%d", host, i+1)
				w.zone.A(name, addr)
				w.peers[addr+":25"] = &peer{}
			}
		}
	}
	var stories []story
	for _, at := range []struct{ name, addr string }{{"mx00.example", "193.0.0.1:25"}, {"mx00.example", "193.0.0.8:25"}, {"mx29.example", "193.0.29.7:25"}} {
		stories = append(stories, story{
			name: at.addr, world: many,
			set: func(d *postrider.Delivery) {
				d.Message.Recipients[0].Uncertain = at.name + "[" + at.addr[:len(at.addr)-3] + "]:25"
			},
			want: []string{delivered + " (" + at.name + ")"}, dials: []string{at.addr},
		})
	}
	play(t, stories)
}

// A host that wants TLS, which we had from him and did not use, or of which he was not
// asked, refuses our way to send and not the message.
func TestWantsTLSThatWasNotTried(t *testing.T) {
	wants := map[string]string{"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}
	waits := []string{"deferred/dest 451 4.7.0 example.org[192.0.2.1]:25 wants TLS or authentication before mail " +
		"(530 5.7.0 Must issue a STARTTLS command first): check tls, username and password_file of the route"}
	play(t, []story{{
		name: "the route says none",
		world: func(w *world) {
			w.zone.A("example.org", "192.0.2.1")
			w.peers[mx1] = &peer{exts: []string{"STARTTLS"}, replies: wants}
		},
		set:  func(d *postrider.Delivery) { d.Route.TLS = postrider.TLSNone },
		want: waits, dials: []string{mx1},
	}, {
		name: "EHLO was refused",
		world: func(w *world) {
			w.zone.A("example.org", "192.0.2.1")
			w.peers[mx1] = &peer{exts: []string{"STARTTLS"}, replies: map[string]string{"EHLO": "502 not now", "MAIL": wants["MAIL"]}}
		},
		want: waits, dials: []string{mx1},
	}})
}

// One mailbox that is full says nothing of how many recipients a host takes, if it
// takes one behind it.
func TestOneFullMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"RCPT TO:<full@example.org>": "552 mailbox full"}
		r := w.relay(Options{})
		defer w.done(t, r)
		got := deliver(t, r, "full@example.org", "b@example.org", "c@example.org")
		if fmt.Sprint(got) != "[deferred/recipient 452 0.0.0 mailbox full (example.org) "+delivered+" (example.org) "+delivered+" (example.org)]" {
			t.Errorf("%q", got)
		}
		wantDelivered(t, deliver(t, r, "d@example.org", "e@example.org", "f@example.org", "g@example.org", "h@example.org"))
		if n := len(p.said("DATA")); n != 2 {
			t.Errorf("%d transactions with content, want 2", n)
		}
		if n := len(p.said("RCPT TO:<full")); n != 1 {
			t.Errorf("the full one was asked for %d times, want once", n)
		}
	})
}
