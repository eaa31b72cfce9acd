package relay

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
)

// RFC 5321 5.1: the hosts are tried "until a delivery attempt succeeds". Who is put off by
// one host is offered to another, and to no third, which would say the same.
func TestAnotherHost(t *testing.T) {
	later := map[string]string{"RCPT": "450 4.2.1 later"}
	third := func(first, second map[string]string) func(w *world) {
		return func(w *world) {
			answers(first, second)(w)
			w.zone.MX("example.org", 30, "mx3.example").A("mx3.example", "192.0.2.3")
			w.peers["192.0.2.3:25"] = &peer{}
		}
	}
	to, both := []string{"b@example.org", "c@example.org"}, []string{mx1, mx2}
	play(t, []story{
		{
			name: "one of two by the first, both by the second", to: to, dials: both,
			world: third(map[string]string{"RCPT TO:<c@example.org>": "450 4.2.1 later"}, map[string]string{"RCPT": "451 4.3.0 not here"}),
			want:  []string{delivered + " (mx1.example)", "deferred/recipient 451 4.3.0 not here (mx2.example)"},
		}, {
			name: "the content, by both", to: to, dials: both,
			world: third(map[string]string{".": "451 4.3.0 not now"}, map[string]string{"DATA": "451 4.3.2 nor here"}),
			want:  []string{"deferred/message 451 4.3.2 nor here (mx2.example)", "deferred/message 451 4.3.2 nor here (mx2.example)"},
		}, {
			name: "the second refuses him", to: to[:1], dials: both,
			world: answers(later, map[string]string{"RCPT": "554 5.7.1 no relaying here"}),
			want:  []string{"deferred/recipient 450 4.2.1 later (mx1.example)"},
		}, {
			name: "the content by the first, and the second refuses him", to: to[:1], dials: both,
			world: answers(map[string]string{".": "451 4.3.0 not now"}, map[string]string{"RCPT": "554 5.7.1 no relaying here"}),
			want:  []string{"deferred/message 451 4.3.0 not now (mx1.example)"},
		}, {
			name: "the second cannot be reached", to: to[:1], dials: both,
			world: func(w *world) { answers(later, nil)(w); delete(w.peers, mx2) },
			want:  []string{"deferred/recipient 450 4.2.1 later (mx1.example)"},
		}, {
			name: "the second takes no mail now", to: to[:1], dials: both,
			world: answers(later, map[string]string{"MAIL": "451 4.3.2 not now"}),
			want:  []string{"deferred/recipient 450 4.2.1 later (mx1.example)"},
		}, {
			name: "the second refuses the message", to: to[:1], dials: both,
			world: answers(later, map[string]string{"MAIL": "550 5.7.1 not you"}),
			want:  []string{"deferred/recipient 450 4.2.1 later (mx1.example)"},
		}, {
			name: "one may have the message", to: to[:1], dials: []string{mx1},
			world: answers(later, nil),
			set:   func(d *postrider.Delivery) { d.Message.Recipients[0].Uncertain = "mx1.example[192.0.2.1]:25" },
			want:  []string{"deferred/recipient 450 4.2.1 later (mx1.example)"},
		}, {
			name: "the first puts him off, and is gone before it answers DATA", to: to[:1], dials: both,
			world: func(w *world) {
				answers(map[string]string{"RCPT": "450 4.2.1 later", "DATA": "<close>"}, nil)(w)
				w.peers[mx1].exts = []string{"PIPELINING"}
			},
			want: []string{delivered + " (mx2.example)"},
		},
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
		// What it does not bear of the content it will not bear at its other address.
		{name: "gone in the middle of the content", dials: []string{six, mx2}, want: []string{delivered + " (mx2.example)"},
			world: func(w *world) {
				at(map[string]string{"DATA": "354 go ahead<hangs up>"}, nil)(w)
				w.zone.MX("example.org", 20, "mx2.example").A("mx2.example", "192.0.2.2")
				w.peers[mx2] = &peer{}
			}},
		{name: "554, and the other cannot be reached", dials: both,
			world: func(w *world) {
				at(map[string]string{"": "554 5.7.1 not from there"}, nil)(w)
				delete(w.peers, four)
			},
			want: []string{"deferred/dest 451 4.4.1 connect to mx1.example[192.0.2.1]:25: connection refused"}},
	})
}

// A telling is a content that does something when it has been read.
type telling struct {
	*content
	do func()
}

func (c *telling) Reader() io.Reader { return io.MultiReader(c.content.Reader(), c) }

func (c *telling) Read([]byte) (int, error) {
	c.do()
	return 0, io.EOF
}

// How many recipients a host takes in a transaction is known of that host alone: where it
// takes no more before it has the others, the next host gets all that are left at once,
// now and the next time.
func TestAnotherHostTakesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		answers(nil, nil)(w)
		first, second := w.peers[mx1], w.peers[mx2]
		first.rcptMax = 1
		r := w.relay(Options{})
		four := []string{"b@example.org", "c@example.org", "d@example.org", "e@example.org"}
		d := delivery(t, postrider.ViaMX, four...)
		d.Content = &telling{d.Content.(*content), func() { first.replies = map[string]string{"MAIL": "451 4.3.2 not now"} }}
		want := []string{delivered + " (mx1.example)", delivered + " (mx2.example)", delivered + " (mx2.example)", delivered + " (mx2.example)"}
		for i, o := range r.Deliver(t.Context(), d) {
			if got := describe(o); got != want[i] {
				t.Errorf("%s: %s, want %s", four[i], got, want[i])
			}
		}
		deliver(t, r, four...)
		w.done(t, r)
		if n := len(second.contents); n != 2 {
			t.Errorf("the second host got %d contents for three recipients and four, want 2", n)
		}
	})
}

// What was on its way to one host, and then finds too many in line at the next, was tried,
// over a kept connection as over a new one.
func TestTriedBeforeTheCrowd(t *testing.T) {
	for _, kept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			answers(nil, nil)(w)
			first := w.peers[mx1]
			r := w.relay(Options{})
			if kept {
				deliver(t, r, "b@example.org")
			}
			g := r.pool.gate(site{addr: netip.MustParseAddrPort(mx2)})
			g.waiters = make([]*waiter, waitersMax)
			first.replies = map[string]string{"DATA": "354 go ahead<hangs up>"}
			d := delivery(t, postrider.ViaMX, "b@example.org")
			if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDeferred || o.Untried {
				t.Errorf("kept %v: %s, untried %v", kept, describe(o), o.Untried)
			}
			g.waiters = nil
			w.done(t, r)
		})
	}
}
