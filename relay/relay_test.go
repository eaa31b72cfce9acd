package relay

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

const (
	delivered = "delivered/recipient 250 0.0.0 ok"
	mx1       = "192.0.2.1:25"
	mx2       = "192.0.2.2:25"
)

// A story is one attempt in a world, and what must come of it.
type story struct {
	name  string
	world func(w *world)
	to    []string // b@example.org where there is none
	set   func(d *postrider.Delivery)
	want  []string // an outcome for each recipient
	dials []string
}

// two is a domain with two hosts of different preference.
func two(w *world) {
	w.zone.MX("example.org", 20, "mx2.example").MX("example.org", 10, "mx1.example")
	w.zone.A("mx1.example", "192.0.2.1").A("mx2.example", "192.0.2.2")
}

// answers is a world of two hosts that say something.
func answers(first, second map[string]string) func(w *world) {
	return func(w *world) {
		two(w)
		w.peers[mx1], w.peers[mx2] = &peer{replies: first}, &peer{replies: second}
	}
}

func (s story) run(t *testing.T) {
	w := newWorld()
	s.world(w)
	if s.to == nil {
		s.to = []string{"b@example.org"}
	}
	d := delivery(t, postrider.ViaMX, s.to...)
	if s.set != nil {
		s.set(d)
	}
	r := w.relay(Options{Rand: seeded()})
	defer w.done(t, r)
	var got []string
	for _, o := range r.Deliver(t.Context(), d) {
		got = append(got, describe(o))
	}
	if !slices.Equal(got, s.want) {
		t.Errorf("got  %q\nwant %q", got, s.want)
	}
	if !slices.Equal(w.dials, s.dials) {
		t.Errorf("dialled %q, want %q", w.dials, s.dials)
	}
}

func play(t *testing.T, stories []story) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(t) })
		})
	}
}

// TestHosts: where mail goes, and what the DNS decides alone.
func TestHosts(t *testing.T) {
	play(t, []story{
		{
			name:  "the best preference first",
			world: answers(nil, nil),
			want:  []string{delivered + " (mx1.example)"}, dials: []string{mx1},
		}, {
			name: "RFC 5321 5.1: an implicit MX where there is none",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1")
				w.peers[mx1] = &peer{}
			},
			want: []string{delivered + " (example.org)"}, dials: []string{mx1},
		}, {
			name: "RFC 5321 5.1: no implicit MX where there is one",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1").MX("example.org", 10, "mx.example")
				w.peers[mx1] = &peer{}
			},
			want: []string{"failed/message 550 5.4.4 mail host mx.example has no address"},
		}, {
			name:  "RFC 5321 5.1: a domain that does not exist is an error",
			world: func(w *world) {},
			want:  []string{"failed/message 550 5.1.2 domain example.org does not exist"},
		}, {
			name:  "a domain that exists and has nothing for mail",
			world: func(w *world) { w.zone.TXT("example.org", "x") },
			want:  []string{"failed/message 550 5.4.4 mail host example.org has no address"},
		}, {
			name:  "RFC 7505 4.1: a null MX",
			world: func(w *world) { w.zone.MX("example.org", 0, ".").A("example.org", "192.0.2.1") },
			want:  []string{"failed/message 556 5.1.10 domain example.org does not accept mail (null MX)"},
		}, {
			name: "RFC 7505 3: a null MX beside another is none",
			world: func(w *world) {
				answers(nil, nil)(w)
				w.zone.MX("example.org", 0, ".")
			},
			want: []string{delivered + " (mx1.example)"}, dials: []string{mx1},
		}, {
			name:  "RFC 5321 5.1: a temporary error of the DNS defers",
			world: func(w *world) { w.zone.Fail("example.org", dns.ErrServFail) },
			want:  []string{"deferred/dest 451 4.4.3 MX of example.org: dns: MX example.org from the zone: server failure"},
		}, {
			name:  "no answer in time is not that there is no MX",
			world: func(w *world) { w.zone.FailType("example.org", dns.TypeMX, dns.ErrTimeout) },
			want:  []string{"deferred/dest 451 4.4.3 MX of example.org: dns: MX example.org from the zone: " + dns.ErrTimeout.Error()},
		}, {
			name: "one host whose address nobody knows now, and one without",
			world: func(w *world) {
				two(w)
				w.zone.Fail("mx1.example", dns.ErrTimeout).Remove("mx2.example")
			},
			want: []string{"deferred/dest 451 4.4.3 address of mx1.example: dns: AAAA mx1.example from the zone: no answer in time"},
		}, {
			name: "a host that the DNS cannot find does not stop the next",
			world: func(w *world) {
				answers(nil, nil)(w)
				w.zone.Fail("mx1.example", dns.ErrServFail)
			},
			want: []string{delivered + " (mx2.example)"}, dials: []string{mx2},
		},
	})
}

// TestNamedHost: the recipient or the operator names the host, and no MX is asked.
func TestNamedHost(t *testing.T) {
	play(t, []story{
		{
			name:  "an address literal",
			world: func(w *world) { w.peers[mx1] = &peer{} },
			to:    []string{"b@[192.0.2.1]"},
			want:  []string{delivered + " ([192.0.2.1])"}, dials: []string{mx1},
		}, {
			name:  "an address literal that is no address",
			world: func(w *world) {},
			to:    []string{"b@[x-tag:y]"},
			want:  []string{`failed/message 550 5.1.2 "[x-tag:y]" is not a domain name`},
		}, {
			name: "a host that the route names, in private space, its MX unasked",
			world: func(w *world) {
				w.zone.A("smart.example", "10.0.0.1").MX("smart.example", 0, "mx1.example").A("mx1.example", "192.0.2.1")
				w.peers["10.0.0.1:587"] = &peer{}
			},
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "smart.example", Port: 587}
			},
			want: []string{delivered + " (smart.example)"}, dials: []string{"10.0.0.1:587"},
		}, {
			name:  "an address that the route names",
			world: func(w *world) { w.peers["[::1]:2526"] = &peer{} },
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "::1", Port: 2526}
			},
			want: []string{delivered + " (::1)"}, dials: []string{"[::1]:2526"},
		}, {
			name:  "the loopback by its name, which no server knows",
			world: func(w *world) { w.peers["[::1]:2526"] = &peer{} },
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "LocalHost", Port: 2526}
			},
			want: []string{delivered + " (localhost)"}, dials: []string{"127.0.0.1:2526", "[::1]:2526"},
		}, {
			name:  "a host of the route that is not there is no reason to fail",
			world: func(w *world) {},
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "smart.example"}
			},
			want: []string{"deferred/dest 451 4.4.4 host smart.example of the route has no usable address"},
		},
	})
}

// TestUnusable: addresses that no stranger's DNS may send us to, and our own.
func TestUnusable(t *testing.T) {
	private := func(d *postrider.Delivery) { d.Route.Private = true }
	at := func(addrs ...string) func(w *world) {
		return func(w *world) {
			w.zone.A("example.org", addrs...)
			for _, a := range addrs {
				w.peers[a+":25"] = &peer{}
			}
		}
	}
	home := "failed/message 550 5.4.6 mail host example.org has an address that leads back to the sender's own machine"
	hidden := "failed/message 550 5.4.4 mail host example.org has no address in public space"
	play(t, []story{
		{name: "loopback", world: at("127.0.0.1"), want: []string{home}},
		{name: "loopback of IPv6", world: at("::1"), want: []string{home}},
		{name: "loopback in an IPv4-mapped address", world: at("::ffff:127.0.0.1"), want: []string{home}},
		{name: "this network in an IPv4-mapped address", world: at("::ffff:0.1.2.3"), want: []string{hidden}},
		{name: "unspecified", world: at("0.0.0.0"), want: []string{home}},
		{name: "unspecified, where private is allowed", world: at("0.0.0.0"), set: private, want: []string{home}},
		{name: "this network", world: at("0.1.2.3"), want: []string{hidden}},
		{name: "private", world: at("10.1.2.3", "192.168.0.1", "172.16.0.1", "fd00::1"), want: []string{hidden}},
		{name: "link-local", world: at("169.254.0.1", "fe80::1"), want: []string{hidden}},
		{name: "of providers, protocols and benchmarks", world: at("100.64.0.1", "192.0.0.8", "198.19.255.255", "240.0.0.1", "fec0::1"), want: []string{hidden}},
		{name: "private in an address of IPv6", world: at("64:ff9b::10.1.2.3", "2002:c0a8:1::1", "::10.1.2.3"), want: []string{hidden}},
		{name: "multicast in an address of IPv6", world: at("64:ff9b::224.0.0.1"), set: private, want: []string{hidden}},
		{name: "public in an address of IPv6", world: func(w *world) {
			w.zone.A("example.org", "64:ff9b::192.0.2.1")
			w.peers["[64:ff9b::c000:201]:25"] = &peer{}
		}, want: []string{delivered + " (example.org)"}, dials: []string{"[64:ff9b::c000:201]:25"}},
		{name: "multicast and broadcast", world: at("224.0.0.1", "ff02::1", "255.255.255.255"), set: private, want: []string{hidden}},
		{name: "a literal", world: at("10.1.2.3"), to: []string{"b@[127.0.0.1]"},
			want: []string{"failed/message 550 5.4.6 mail host [127.0.0.1] has an address that leads back to the sender's own machine"}},
		{name: "private beside public", world: at("10.1.2.3", "192.0.2.1"),
			want: []string{delivered + " (example.org)"}, dials: []string{mx1}},
		{name: "private, and what else there is cannot be known", world: func(w *world) {
			w.zone.MX("example.org", 10, "mx.example").AAAA("mx.example", "fd00::1").FailType("mx.example", dns.TypeA, dns.ErrServFail)
		}, want: []string{"deferred/dest 451 4.4.3 address of mx.example: dns: A mx.example from the zone: " + dns.ErrServFail.Error()}},
		{name: "loopback, and what else there is cannot be known", world: func(w *world) {
			w.zone.A("example.org", "127.0.0.1").FailType("example.org", dns.TypeAAAA, dns.ErrTimeout)
		}, want: []string{"deferred/dest 451 4.4.3 address of example.org: dns: AAAA example.org from the zone: " + dns.ErrTimeout.Error()}},
		{name: "public, and what else there is cannot be known", world: func(w *world) {
			w.zone.A("example.org", "192.0.2.1").FailType("example.org", dns.TypeAAAA, dns.ErrTimeout)
			w.peers[mx1] = &peer{}
		}, want: []string{delivered + " (example.org)"}, dials: []string{mx1}},
		{name: "public, which says no, and what else there is cannot be known", world: func(w *world) {
			w.zone.A("example.org", "192.0.2.1").FailType("example.org", dns.TypeAAAA, dns.ErrTimeout)
			w.peers[mx1] = &peer{replies: map[string]string{"": "521 5.3.2 no mail"}}
		}, want: []string{"failed/message 521 5.3.2 no mail (example.org)"}, dials: []string{mx1}},
		{name: "private, where it is allowed", world: at("127.0.0.1"), set: private,
			want: []string{delivered + " (example.org)"}, dials: []string{"127.0.0.1:25"}},
	})
}

// TestOurselves: RFC 5321 5.1: "If a matching record is found, all records at
// that preference level and higher-numbered ones MUST be discarded from
// consideration."
func TestOurselves(t *testing.T) {
	loop := []string{"failed/message 554 5.4.6 mail for example.org loops back to myself"}
	three := func(own string) func(w *world) {
		return func(w *world) {
			answers(nil, nil)(w)
			w.zone.MX("example.org", 20, "mx3.example").A("mx3.example", "192.0.2.3")
			w.peers["192.0.2.3:25"] = &peer{}
			w.own[own] = true
		}
	}
	play(t, []story{
		{name: "we are the best", world: three(mx1), want: loop},
		{name: "we are the second", world: three(mx2), want: []string{delivered + " (mx1.example)"}, dials: []string{mx1}},
		{
			name: "an IPv4-mapped address of ours", want: loop,
			world: func(w *world) {
				three(mx1)(w)
				w.zone.Remove("mx1.example").AAAA("mx1.example", "::ffff:192.0.2.1")
			},
		}, {
			name: "we are the second, and the first is down",
			world: func(w *world) {
				three(mx2)(w)
				delete(w.peers, mx1)
			},
			want:  []string{"deferred/dest 451 4.4.1 connect to mx1.example[192.0.2.1]:25: connection refused"},
			dials: []string{mx1},
		}, {
			name: "we are the second, and the first has no address",
			world: func(w *world) {
				three(mx2)(w)
				w.zone.Remove("mx1.example")
			},
			want: loop,
		}, {
			name: "we and an equal whose address nobody knows",
			world: func(w *world) {
				three(mx2)(w)
				w.zone.Remove("mx1.example").Fail("mx3.example", dns.ErrServFail)
			},
			want: loop,
		}, {
			name: "one of our ports is another server", world: three("192.0.2.1:26"),
			want: []string{delivered + " (mx1.example)"}, dials: []string{mx1},
		}, {
			name:  "the operator sends us to ourselves",
			world: func(w *world) { w.own["127.0.0.1:25"] = true },
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "127.0.0.1"}
			},
			want: []string{"deferred/dest 451 4.3.5 the route to 127.0.0.1 leads back to ourselves"},
		},
	})
}

// TestAlternates: RFC 5321 5.1: the client "MUST be able to try (and retry) each
// of the relevant addresses in this list in order, until a delivery attempt
// succeeds."
func TestAlternates(t *testing.T) {
	second := []string{delivered + " (mx2.example)"}
	both := []string{mx1, mx2}
	say := func(command, reply string) map[string]string { return map[string]string{command: reply} }
	play(t, []story{
		{
			name: "every address of a host",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1", "192.0.2.2").AAAA("example.org", "2001:db8::1")
				w.peers[mx2] = &peer{}
			},
			want: []string{delivered + " (example.org)"}, dials: []string{"[2001:db8::1]:25", mx1, mx2},
		}, {
			name: "refused", world: func(w *world) { answers(nil, nil)(w); delete(w.peers, mx1) },
			want: second, dials: both,
		}, {
			name: "no answer", world: func(w *world) { answers(nil, nil)(w); w.hung[mx1] = true },
			want: second, dials: both,
		},
		{name: "silence", world: answers(say("", "<silence>"), nil), want: second, dials: both},
		{name: "greeting 421", world: answers(say("", "421 4.3.2 busy"), nil), want: second, dials: both},
		{name: "greeting 450", world: answers(say("", "450 4.3.2 busy"), nil), want: second, dials: both},
		{name: "greeting 554", world: answers(say("", "554 5.7.1 not you"), nil), want: second, dials: both},
		{name: "EHLO 421", world: answers(say("EHLO", "421 4.3.2 busy"), nil), want: second, dials: both},
		{name: "lost at MAIL", world: answers(say("MAIL", "<close>"), nil), want: second, dials: both},
		{name: "MAIL 451", world: answers(say("MAIL", "451 4.3.1 full"), nil), want: second, dials: both},
		{name: "421 at RCPT", world: answers(say("RCPT", "421 4.3.2 busy"), nil), want: second, dials: both},
		{name: "lost at DATA", world: answers(say("DATA", "<close>"), nil), want: second, dials: both},
		{name: "421 to the dot", world: answers(say(".", "421 4.3.2 busy"), nil), want: second, dials: both},
		{
			name:  "all refuse",
			world: two,
			want:  []string{"deferred/dest 451 4.4.1 connect to mx2.example[192.0.2.2]:25: connection refused"}, dials: both,
		}, {
			name:  "the words of a peer tell more than ours",
			world: func(w *world) { answers(say("", "421 4.3.2 busy"), nil)(w); w.hung[mx2] = true },
			want:  []string{"deferred/dest 421 4.3.2 busy (mx1.example)"}, dials: both,
		}, {
			name:  "all are silent",
			world: answers(say("", "<silence>"), say("MAIL", "<silence>")),
			want:  []string{"deferred/dest 451 4.4.2 lost connection with mx2.example[192.0.2.2]:25 while sending MAIL: timed out"}, dials: both,
		}, {
			name:  "RFC 7504 3: no host takes mail",
			world: answers(say("", "521 5.3.2 no mail"), say("", "554 5.7.1 not you")),
			want:  []string{"failed/message 554 5.7.1 not you (mx2.example)"}, dials: both,
		}, {
			name:  "one takes no mail, and one cannot be reached",
			world: func(w *world) { answers(say("", "521 5.3.2 no mail"), nil)(w); delete(w.peers, mx2) },
			want:  []string{"deferred/dest 451 4.4.1 connect to mx2.example[192.0.2.2]:25: connection refused"}, dials: both,
		}, {
			name:  "all say 451 to MAIL",
			world: answers(say("MAIL", "451 4.7.1 greylisted"), say("MAIL", "451 4.3.1 full")),
			want:  []string{"deferred/message 451 4.3.1 full (mx2.example)"}, dials: both,
		}, {
			name:  "who lost the dot is not followed by another",
			world: answers(say(".", "<close>"), nil),
			want: []string{"deferred/message 451 4.4.2 lost connection with mx1.example[192.0.2.1]:25 " +
				"while waiting for the reply to the final dot: the peer closed the connection; it may have the message, and is tried first from now on uncertain"},
			dials: []string{mx1},
		},
	})
}

// TestPoison: a connection that is lost amid the content may be lost for this message.
// Another host is tried, and where it does the same that says nothing of the destination,
// which other mail may reach.
func TestPoison(t *testing.T) {
	hangsUp, both := map[string]string{"DATA": "354 go on <hangs up>"}, []string{mx1, mx2}
	play(t, []story{
		{name: "one", world: answers(hangsUp, nil), want: []string{delivered + " (mx2.example)"}, dials: both},
		{name: "all", world: answers(hangsUp, hangsUp), dials: both, want: []string{"deferred/message 451 4.4.2 lost connection with " +
			"mx2.example[192.0.2.2]:25 while sending the content: io: read/write on closed pipe"}},
	})
}

// TestAnswers: what the peer says is the outcome, for whom it speaks of.
func TestAnswers(t *testing.T) {
	three := []string{"b@example.org", "c@example.org", "d@example.org"}
	one := func(replies map[string]string, exts ...string) func(w *world) {
		return func(w *world) {
			answers(nil, nil)(w)
			w.peers[mx1].replies, w.peers[mx1].exts = replies, exts
		}
	}
	first := []string{mx1}
	notify := func(d *postrider.Delivery) {
		d.Message.Recipients[0].Notify = smtp.NotifySuccess
		d.Message.Recipients[1].Notify = smtp.NotifyNever
	}
	play(t, []story{
		{
			name: "each recipient by itself", to: three, dials: []string{mx1, mx2},
			world: one(map[string]string{"RCPT TO:<c@example.org>": "550 5.1.1 nobody", "RCPT TO:<d@example.org>": "450 4.2.1 later"}),
			want:  []string{delivered + " (mx1.example)", "failed/recipient 550 5.1.1 nobody (mx1.example)", delivered + " (mx2.example)"},
		}, {
			name: "all recipients refused, with PIPELINING and a 354", to: three[:2], dials: first,
			world: one(map[string]string{"RCPT": "550 5.1.1 nobody"}, "PIPELINING"),
			want:  []string{"failed/recipient 550 5.1.1 nobody (mx1.example)", "failed/recipient 550 5.1.1 nobody (mx1.example)"},
		}, {
			name: "MAIL refused", to: three[:2], dials: first,
			world: one(map[string]string{"MAIL": "550 5.7.1 not you"}, "PIPELINING"),
			want:  []string{"failed/message 550 5.7.1 not you (mx1.example)", "failed/message 550 5.7.1 not you (mx1.example)"},
		}, {
			name: "DATA refused for one, and the other was refused before", to: three[:2], dials: []string{mx1, mx2},
			world: one(map[string]string{"RCPT TO:<c@example.org>": "450 4.2.1 later", "DATA": "554 5.6.0 no"}, "PIPELINING"),
			want:  []string{"failed/message 554 5.6.0 no (mx1.example)", delivered + " (mx2.example)"},
		}, {
			name: "the content refused for now", to: three[:1], dials: []string{mx1, mx2},
			world: one(map[string]string{".": "451 4.3.0 not now"}),
			want:  []string{delivered + " (mx2.example)"},
		}, {
			name: "RFC 5321 4.5.3.1.10: 552 to RCPT is 452", to: three[:1], dials: []string{mx1, mx2},
			world: answers(map[string]string{"RCPT": "450 4.2.1 later"}, map[string]string{"RCPT": "552 5.2.2 full"}),
			want:  []string{"deferred/recipient 452 4.2.2 full (mx2.example)"},
		}, {
			name: "a recipient refused before the connection was lost keeps that", to: three[:2], dials: []string{mx1, mx2},
			world: one(map[string]string{"RCPT TO:<b@example.org>": "550 5.1.1 nobody", "DATA": "<close>"}),
			want:  []string{"failed/recipient 550 5.1.1 nobody (mx1.example)", delivered + " (mx2.example)"},
		}, {
			name: "RFC 3461 5.2.2: who was given NOTIFY answers for it", to: three, set: notify, dials: first,
			world: one(nil, "DSN"),
			want:  []string{delivered + " (mx1.example) dsn", delivered + " (mx1.example) dsn", delivered + " (mx1.example)"},
		}, {
			name: "and who was not does not", to: three, set: notify, dials: first,
			world: one(nil),
			want:  []string{delivered + " (mx1.example)", delivered + " (mx1.example)", delivered + " (mx1.example)"},
		}, {
			name: "a content that cannot be read", dials: first,
			world: one(nil),
			set: func(d *postrider.Delivery) {
				d.Content = &content{m: d.Message, text: "x\r\n", err: errors.New("a block is damaged")}
			},
			want: []string{"deferred/message 451 4.3.0 the message cannot be sent: smtpc: read content: a block is damaged"},
		},
	})
}

// TestLacks: RFC 6531 3.5 and RFC 6152 3: what a peer does not offer cannot be
// sent to it; another may.
func TestLacks(t *testing.T) {
	eightBit := func(d *postrider.Delivery) { d.Message.EightBit, d.Route.AsIs = true, true }
	utf8 := func(d *postrider.Delivery) {
		d.Message.UTF8 = true
		d.Content = &content{m: d.Message, text: "Subject: \xc3\xbc\r\n"}
	}
	second := func(ext string) func(w *world) {
		return func(w *world) {
			answers(nil, nil)(w)
			w.peers[mx2].exts = []string{ext}
		}
	}
	both := []string{mx1, mx2}
	play(t, []story{
		{
			name: "nobody has 8BITMIME", world: answers(nil, nil), set: eightBit, dials: both,
			want: []string{"failed/message 554 5.6.3 the message needs 8BITMIME, which mx2.example does not offer, and the route says downgrade = \"bounce\""},
		}, {
			name: "the second has 8BITMIME", world: second("8BITMIME"), set: eightBit, dials: both,
			want: []string{delivered + " (mx2.example)"},
		}, {
			name: "nobody has SMTPUTF8", world: answers(nil, nil), set: utf8, dials: both,
			want: []string{"failed/message 554 5.6.9 the header of the message needs SMTPUTF8, which mx2.example does not offer"},
		}, {
			name: "the second has SMTPUTF8", world: second("SMTPUTF8"), set: utf8, dials: both,
			want: []string{delivered + " (mx2.example)"},
		}, {
			name: "an address that needs SMTPUTF8", world: answers(nil, nil), to: []string{"ü@example.org"}, dials: both,
			want: []string{"failed/message 553 5.6.7 an address of the recipients needs SMTPUTF8, which mx2.example does not offer"},
		}, {
			name: "the first lacks it, and the second cannot be reached", set: utf8, dials: both,
			world: func(w *world) { answers(nil, nil)(w); delete(w.peers, mx2) },
			want:  []string{"deferred/dest 451 4.4.1 connect to mx2.example[192.0.2.2]:25: connection refused"},
		},
	})
}
