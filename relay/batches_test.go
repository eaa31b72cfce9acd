package relay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Where one host takes the recipients and puts the content off, each of those that it has
// taken goes once to the next host, and is not named to the first again. Who had his
// answer before keeps it.
func TestContentPutOffGoesOnOnce(t *testing.T) {
	const refused = "failed/recipient 550 5.1.1 nobody (mx1.example)"
	const second = delivered + " (mx2.example)"
	for _, c := range []struct {
		name  string
		first map[string]string // what the first host says
		heard []string          // by the second
		want  []string
	}{
		{"at the final dot", map[string]string{".": "451 4.3.0 not now"},
			[]string{"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>", "RCPT TO:<e@example.org>"},
			[]string{second, second, second, second}},
		{"at DATA", map[string]string{"DATA": "451 4.3.2 not now"},
			[]string{"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>", "RCPT TO:<e@example.org>"},
			[]string{second, second, second, second}},
		{"and the first recipient is refused", map[string]string{".": "451 4.3.0 not now", "RCPT TO:<b@example.org>": "550 5.1.1 nobody"},
			[]string{"RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>", "RCPT TO:<e@example.org>"},
			[]string{refused, second, second, second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				answers(c.first, nil)(w)
				r := w.relay(Options{})
				if got := deliver(t, r, "b@example.org", "c@example.org", "d@example.org", "e@example.org"); !slices.Equal(got, c.want) {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				w.done(t, r)
				if got := w.peers[mx1].said("RCPT"); len(got) != 4 {
					t.Errorf("the first host heard %q, want each of four once", got)
				}
				if got := w.peers[mx2].said("RCPT"); !slices.Equal(got, c.heard) {
					t.Errorf("the second host heard\n%q, want\n%q", got, c.heard)
				}
			})
		})
	}
}

// What a host says of one recipient at RCPT is for that one: neither for those whose
// content is put off or refused, nor for those who are to follow in another transaction.
func TestRefusalIsOfOneRecipient(t *testing.T) {
	const nobody = "failed/recipient 550 5.1.1 nobody (mx1.example)"
	four := []string{"b@example.org", "c@example.org", "d@example.org", "e@example.org"}
	first := func(set func(p *peer), no ...string) func(w *world) {
		return func(w *world) {
			answers(map[string]string{}, nil)(w)
			p := w.peers[mx1]
			for _, to := range no {
				p.replies["RCPT TO:<"+to+">"] = "550 5.1.1 nobody"
			}
			set(p)
		}
	}
	play(t, []story{
		{
			name: "the content of the other is put off", to: four[:2], dials: []string{mx1, mx2},
			world: first(func(p *peer) { p.replies["."] = "451 4.3.0 not now" }, "b@example.org"),
			want:  []string{nobody, delivered + " (mx2.example)"},
		}, {
			name: "the content of the other is put off everywhere", to: four[:2], dials: []string{mx1, mx2},
			world: func(w *world) {
				first(func(p *peer) { p.replies["."] = "451 4.3.0 not now" }, "b@example.org")(w)
				w.peers[mx2].replies = map[string]string{".": "452 4.3.1 nor here"}
			},
			want: []string{nobody, "deferred/message 452 4.3.1 nor here (mx2.example)"},
		}, {
			name: "the content of the other is refused in other words", to: four[:2], dials: []string{mx1},
			world: first(func(p *peer) { p.replies["."] = "554 5.7.1 spam" }, "b@example.org"),
			want:  []string{nobody, "failed/message 554 5.7.1 spam (mx1.example)"},
		}, {
			name: "the last is one too many for the transaction", to: four, dials: []string{mx1},
			world: first(func(p *peer) { p.rcptMax = 2 }, "b@example.org"),
			want:  []string{nobody, taken, taken, taken},
		}, {
			name: "nobody of a transaction is accepted, and others follow", to: four, dials: []string{mx1},
			world: first(func(p *peer) { p.exts = []string{"LIMITS RCPTMAX=2"} }, "b@example.org", "c@example.org"),
			want:  []string{nobody, nobody, taken, taken},
		},
	})
}

// RFC 7293 5.1.1: where the next hop does not know RRVS, the action "R" ends the way, of
// each recipient that has it, and of no other.
func TestValidSinceOfSome(t *testing.T) {
	const gone = "failed/recipient 550 5.7.19 nobody can tell whose mailbox it is (RRVS): mx1.example does not offer to"
	to := []string{"b@example.org", "c@example.org", "d@example.org"}
	for _, c := range []struct {
		name string
		with []int // places of the recipients with RRVS
		want []string
		rcpt []string
	}{
		{"the first two", []int{0, 1}, []string{gone, gone, taken}, []string{"RCPT TO:<d@example.org>"}},
		{"the last two", []int{1, 2}, []string{taken, gone, gone}, []string{"RCPT TO:<b@example.org>"}},
		{"one between others", []int{1}, []string{taken, gone, taken}, []string{"RCPT TO:<b@example.org>", "RCPT TO:<d@example.org>"}},
	} {
		send(t, []sending{{name: c.name, to: to, want: c.want, rcpt: c.rcpt, mail: "MAIL FROM:<a@example.net>",
			set: func(d *postrider.Delivery) {
				for _, i := range c.with {
					d.Message.Recipients[i].RRVS = smtp.RRVS{Since: time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)}
				}
			},
		}})
	}
}

// Mail goes to the hosts of the domain that it is for, whoever the message names before:
// recipients at several domains are as many deliveries.
func TestHostsOfThisDelivery(t *testing.T) {
	play(t, []story{{
		name: "the second domain of a message", to: []string{"a@example.com", "b@example.org"}, dials: []string{mx1},
		world: func(w *world) {
			answers(nil, nil)(w)
			w.zone.MX("example.com", 10, "mx9.example").A("mx9.example", "192.0.2.9")
			w.peers["192.0.2.9:25"] = &peer{}
		},
		set:  func(d *postrider.Delivery) { d.Rcpts = []int{1} },
		want: []string{taken},
	}})
}
