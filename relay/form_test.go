package relay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A sending is one message to one host, and what the host has heard of it.
type sending struct {
	name string
	exts []string
	to   []string
	set  func(d *postrider.Delivery)
	text string // of the message; empty: that of delivery
	want []string
	mail string   // the commands and the content that the host has heard
	rcpt []string // nil: not looked at
	got  string   // its content; empty: not looked at
}

func (s sending) run(t *testing.T) {
	w := newWorld()
	w.zone.MX("xn--bcher-kva.example", 10, "mx1.example").MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
	p := &peer{exts: s.exts}
	w.peers[mx1] = p
	if s.to == nil {
		s.to = []string{"b@example.org"}
	}
	d := delivery(t, postrider.ViaMX, s.to...)
	d.Message.Arrived = time.Now()
	if s.text != "" {
		d.Content = &content{m: d.Message, text: s.text}
		d.Message.Size = int64(len(s.text))
	}
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
	if mail := strings.Join(p.said("MAIL"), "\n"); mail != s.mail {
		t.Errorf("got  %q\nwant %q", mail, s.mail)
	}
	if rcpt := p.said("RCPT"); s.rcpt != nil && !slices.Equal(rcpt, s.rcpt) {
		t.Errorf("got  %q\nwant %q", rcpt, s.rcpt)
	}
	if s.got != "" && (len(p.contents) != 1 || p.contents[0] != s.got) {
		t.Errorf("got  %q\nwant %q", p.contents, s.got)
	}
}

func send(t *testing.T, all []sending) {
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.run(t) })
		})
	}
}

const taken = delivered + " (mx1.example)"

// RFC 6152 3: to a server without 8BITMIME a client "may implement a gateway
// transformation to convert the message into valid 7-bit MIME, or second, it may treat
// the barrier to 8-bit as a permanent error". RFC 3030 3 has the same of BINARYMIME.
func TestDowngrade(t *testing.T) {
	const from = "MAIL FROM:<a@example.net>"
	eight := func(d *postrider.Delivery) { d.Message.EightBit = true }
	binary := func(d *postrider.Delivery) { d.Message.Binary = true }
	text := "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc\r\n"
	image := "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n"
	send(t, []sending{
		{name: "as it is", exts: []string{"8BITMIME", "SIZE"}, set: eight, text: text, want: []string{taken},
			mail: fmt.Sprintf("%s SIZE=%d BODY=8BITMIME", from, len(text)), got: text},
		{name: "encoded, and the size is that of what goes", exts: []string{"SIZE"}, set: eight, text: text, want: []string{taken},
			mail: from + " SIZE=" + fmt.Sprint(len(text)+len("quoted-printable=C3=BC")-len("8bit\xc3\xbc")),
			got:  "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC\r\n"},
		{name: "binary, to 8 bit", exts: []string{"8BITMIME", "CHUNKING"}, set: binary, text: image, want: []string{taken},
			mail: from + " BODY=8BITMIME",
			got:  "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n"},
		{name: "binary, to one that cannot chunk", exts: []string{"BINARYMIME"}, set: binary, text: image, want: []string{taken},
			mail: from,
			got:  "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAo=\r\n"},
		{name: "signed", set: eight, text: "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xbc\r\n--b\r\n\r\nsig\r\n--b--\r\n",
			want: []string{"failed/message 554 5.6.2 the message needs 8BITMIME, which mx1.example does not offer: what would have to be encoded is signed"}},
		{name: "a header", set: eight, text: "Subject: \xc3\xbc\r\n\r\n\r\n",
			want: []string{"failed/message 554 5.6.3 the message needs 8BITMIME, which mx1.example does not offer: its header section is not ASCII"}},
		{name: "downgrade = bounce", set: func(d *postrider.Delivery) { d.Message.Binary, d.Route.AsIs = true, true }, exts: []string{"8BITMIME"}, text: image,
			want: []string{`failed/message 554 5.6.3 the message needs BINARYMIME, which mx1.example does not offer, and the route says downgrade = "bounce"`}},
		{name: "it cannot be read", set: func(d *postrider.Delivery) {
			d.Message.EightBit = true
			d.Content = &content{m: d.Message, text: text, err: errors.New("rotten")}
		}, want: []string{"deferred/message 451 4.3.0 the message cannot be sent: relay: look at the message: rotten"}},
		{name: "SMTPUTF8 for nothing", set: func(d *postrider.Delivery) { d.Message.UTF8 = true }, want: []string{taken}, mail: from},
		{name: "SMTPUTF8, and the header of a part needs it", set: func(d *postrider.Delivery) { d.Message.UTF8 = true }, exts: []string{"8BITMIME"},
			text: "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: \xc3\xbc\r\n\r\n--b--\r\n",
			want: []string{"failed/message 554 5.6.9 the header of the message needs SMTPUTF8, which mx1.example does not offer"}},
		{name: "domains have a form in ASCII", to: []string{"b@bücher.example"}, set: func(d *postrider.Delivery) { d.Message.From.Domain = "tür.example" },
			want: []string{taken}, mail: "MAIL FROM:<a@xn--tr-xka.example>", rcpt: []string{"RCPT TO:<b@xn--bcher-kva.example>"}},
		{name: "and stay as they are for who reads UTF-8", exts: []string{"SMTPUTF8", "8BITMIME"}, to: []string{"b@bücher.example"},
			want: []string{taken}, mail: from + " SMTPUTF8", rcpt: []string{"RCPT TO:<b@bücher.example>"}},
		{name: "the sender needs it", set: func(d *postrider.Delivery) { d.Message.From.Local = "ü" },
			want: []string{"failed/message 550 5.6.7 the address of the sender needs SMTPUTF8, which mx1.example does not offer"}},
		{name: "too long", exts: []string{"SIZE 11"}, want: []string{"failed/message 552 5.3.4 the message has 12 octets, and mx1.example takes no more than 11"}},
		{name: "not too long", exts: []string{"SIZE 12"}, want: []string{taken}, mail: from + " SIZE=12"},
	})
}

// RFC 2852 4.1.4: what is left of the time goes on, and mail with the mode R goes to no
// server that does not know it.
func TestDeliverBy(t *testing.T) {
	const from = "MAIL FROM:<a@example.net>"
	by := func(b smtp.DeliverBy, age time.Duration, n smtp.Notify) func(*postrider.Delivery) {
		return func(d *postrider.Delivery) {
			d.Message.By, d.Message.Arrived = b, time.Now().Add(-age)
			d.Message.Recipients[0].Notify = n
		}
	}
	ret, notify := smtp.DeliverBy{Seconds: 120, Mode: smtp.ByReturn}, smtp.DeliverBy{Seconds: 120, Mode: smtp.ByNotify, Trace: true}
	const rcpt = "RCPT TO:<b@example.org>"
	send(t, []sending{
		{name: "R", exts: []string{"DELIVERBY"}, set: by(ret, 22*time.Second, 0), want: []string{taken + " by"}, mail: from + " BY=98;R"},
		{name: "R, and enough is left", exts: []string{"DELIVERBY 98"}, set: by(ret, 22*time.Second, 0), want: []string{taken + " by"}, mail: from + " BY=98;R"},
		{name: "R, and less is left than the host takes", exts: []string{"DELIVERBY 99"}, set: by(ret, 22*time.Second, 0),
			want: []string{"failed/message 554 5.4.7 98 seconds are left to deliver the message, and mx1.example takes none with less than 99"}},
		{name: "R to one that does not know it", set: by(ret, 22*time.Second, 0),
			want: []string{"failed/message 554 5.3.3 the message is to be delivered in time or returned (BY), which mx1.example does not offer"}},
		{name: "R, and nothing is left", exts: []string{"DELIVERBY"}, set: by(ret, 2*time.Minute, 0),
			want: []string{"failed/message 554 5.4.7 Delivery time expired"}},
		{name: "N, over", exts: []string{"DELIVERBY 60"}, set: by(notify, 3*time.Minute, 0), want: []string{taken + " by"}, mail: from + " BY=-60;NT"},
		// RFC 2852 4.1.4.2: "if no NOTIFY parameter was supplied, "NOTIFY=FAILURE,DELAY"
		// SHOULD be requested".
		{name: "N to one that does not know it", exts: []string{"DSN"}, set: by(notify, 0, 0), want: []string{taken}, mail: from, rcpt: []string{rcpt + " NOTIFY=FAILURE,DELAY"}},
		{name: "N to one that does not know it, with NOTIFY", exts: []string{"DSN"}, set: by(notify, 0, smtp.NotifySuccess), want: []string{taken + " dsn"}, mail: from, rcpt: []string{rcpt + " NOTIFY=SUCCESS,DELAY"}},
		{name: "N to one that does not know it, NEVER", exts: []string{"DSN"}, set: by(notify, 0, smtp.NotifyNever), want: []string{taken + " dsn"}, mail: from, rcpt: []string{rcpt + " NOTIFY=NEVER"}},
		{name: "N, over, to one that does not know it", exts: []string{"DSN"}, set: by(notify, time.Hour, 0), want: []string{taken}, mail: from, rcpt: []string{rcpt}},
		{name: "N to one that knows it", exts: []string{"DSN", "DELIVERBY"}, set: by(notify, 0, 0), want: []string{taken + " by"}, mail: from + " BY=120;NT", rcpt: []string{rcpt}},
		{name: "the other parameters", exts: []string{"MT-PRIORITY", "NO-SOLICITING", "AUTH PLAIN"}, want: []string{taken},
			set: func(d *postrider.Delivery) {
				d.Message.Priority, d.Message.Solicit, d.Message.Auth = -3, "org.example:ADV", "x@example.net"
			},
			mail: from + " AUTH=x@example.net MT-PRIORITY=-3 SOLICIT=org.example:ADV"},
	})
}

// RFC 7293 5.1.1: without the extension at the next hop the action "R" ends the way,
// and "C" goes on without.
func TestValidSince(t *testing.T) {
	since := time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)
	set := func(d *postrider.Delivery) {
		d.Message.Recipients[0].RRVS = smtp.RRVS{Since: since}
		d.Message.Recipients[1].RRVS = smtp.RRVS{Since: since, Continue: true}
	}
	to := []string{"b@example.org", "c@example.org", "d@example.org"}
	refused := "failed/recipient 550 5.7.19 nobody can tell whose mailbox it is (RRVS): mx1.example does not offer to"
	const from = "MAIL FROM:<a@example.net>"
	send(t, []sending{
		{name: "offered", exts: []string{"RRVS"}, to: to, set: set, want: []string{taken, taken, taken}, mail: from,
			rcpt: []string{"RCPT TO:<b@example.org> RRVS=2014-04-03T23:01:00Z", "RCPT TO:<c@example.org> RRVS=2014-04-03T23:01:00Z;C", "RCPT TO:<d@example.org>"}},
		{name: "not offered", to: to, set: set, want: []string{refused, taken, taken}, mail: from,
			rcpt: []string{"RCPT TO:<c@example.org>", "RCPT TO:<d@example.org>"}},
		{name: "not offered, and nobody else", to: to[:1], set: func(d *postrider.Delivery) { d.Message.Recipients[0].RRVS.Since = since }, want: []string{refused}},
	})
}

// RFC 9422 4: RCPTMAX bounds the RCPT commands of a transaction, RCPTDOMAINMAX the
// domains of a session, MAILMAX its MAIL commands.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		ext                 string
		mails, dials, first int
	}{
		{"PIPELINING", 1, 1, 5},
		{"LIMITS RCPTMAX=2", 3, 1, 2},
		{"LIMITS RCPTMAX=2 MAILMAX=1", 3, 3, 2},
		{"LIMITS MAILMAX=2 RCPTMAX=1", 5, 3, 1},
		{"LIMITS RCPTDOMAINMAX=1", 3, 3, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			p := &peer{exts: []string{c.ext}}
			w.peers["127.0.0.1:25"] = p
			d := delivery(t, postrider.ViaSMTP, "a@x.example", "b@x.example", "c@y.example", "d@Y.example", "e@z.example")
			d.Route.Host = "127.0.0.1"
			r := w.relay(Options{})
			defer w.done(t, r)
			for _, o := range r.Deliver(t.Context(), d) {
				if o.Result != postrider.ResultDelivered {
					t.Errorf("%s: %s", c.ext, describe(o))
				}
			}
			synctest.Wait()
			if quits := len(p.said("QUIT")); strings.Contains(c.ext, "MAILMAX=1") && quits != c.dials {
				t.Errorf("%s: %d of %d connections that can take no more are ended", c.ext, quits, c.dials)
			}
			mails, rcpts := len(p.said("MAIL")), len(p.said("RCPT"))
			if mails != c.mails || rcpts != 5 || len(w.dials) != c.dials {
				t.Errorf("%s: %d transactions with %d recipients over %d connections", c.ext, mails, rcpts, len(w.dials))
			}
		})
	}
}

// A limit that a server announces by 452 alone is found once, and kept to from then
// on. RFC 5321 4.5.3.1.10
func TestLimitIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		two(w)
		p := &peer{rcptMax: 2}
		w.peers[mx1] = p
		r := w.relay(Options{})
		defer w.done(t, r)
		to := []string{"a@example.org", "b@example.org", "c@example.org", "d@example.org"}
		for n, rcpts := range []int{4 + 2, 4, 4 + 2} {
			if n == 2 {
				time.Sleep(learnedTime + 1) // and then forgotten
			}
			before := len(p.said("RCPT"))
			for _, o := range r.Deliver(t.Context(), delivery(t, postrider.ViaMX, to...)) {
				if o.Result != postrider.ResultDelivered {
					t.Error(describe(o))
				}
			}
			if got := len(p.said("RCPT")) - before; got != rcpts {
				t.Errorf("message %d took %d RCPT commands, want %d", n, got, rcpts)
			}
		}
	})
}

// RFC 1047: who may have the message is tried first, before hosts that are preferred
// to it, and whoever else only when it cannot be reached.
func TestUncertainFirst(t *testing.T) {
	again := func(d *postrider.Delivery) { d.Message.Recipients[0].Uncertain = "mx2.example[192.0.2.2]:25" }
	play(t, []story{
		{name: "the same host", world: answers(nil, nil), set: again, want: []string{delivered + " (mx2.example)"}, dials: []string{mx2}},
		{name: "then the others", world: func(w *world) { answers(nil, nil)(w); delete(w.peers, mx2) }, set: again,
			want: []string{delivered + " (mx1.example)"}, dials: []string{mx2, mx1}},
		{name: "of two, what one says is not of the other", world: answers(map[string]string{"MAIL": "451 4.3.0 not now"}, nil),
			to: []string{"b@example.org", "c@example.org"}, want: []string{delivered + " (mx2.example)", delivered + " (mx2.example)"}, dials: []string{mx1, mx2},
			set: func(d *postrider.Delivery) {
				d.Message.Recipients[0].Uncertain, d.Message.Recipients[1].Uncertain = "mx1.example[192.0.2.1]:25", "mx2.example[192.0.2.2]:25"
			}},
		{name: "it is none of the hosts any more", world: answers(nil, nil), want: []string{delivered + " (mx1.example)"}, dials: []string{mx1},
			set: func(d *postrider.Delivery) { d.Message.Recipients[0].Uncertain = "mx9.example[192.0.2.9]:25" }},
	})
}

// RFC 1047: what is written down of the peer that may have the message is what the next
// attempt knows it by: that address of that host, though others are preferred to it.
func TestUncertainIsKnownAgain(t *testing.T) {
	const mx2b, mx6 = "192.0.2.22:25", "[2001:db8::2]:25"
	for _, c := range []struct {
		name string
		lost string // the address that does not answer the final dot
		down []string
		set  func(d *postrider.Delivery)
	}{
		{name: "the first", lost: mx1},
		{name: "a worse one", lost: mx2, down: []string{mx1}},
		{name: "another address of it", lost: mx2b, down: []string{mx1, mx2}},
		{name: "IPv6", lost: mx6, down: []string{mx1, mx2, mx2b}},
		{name: "a host of the route, and a port", lost: "192.0.2.22:2525", down: []string{"192.0.2.2:2525"},
			set: func(d *postrider.Delivery) {
				d.Route = postrider.Route{Via: postrider.ViaSMTP, Host: "mx2.example", Port: 2525}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				two(w)
				w.zone.A("mx2.example", "192.0.2.22").MX("example.org", 30, "mx3.example").AAAA("mx3.example", "2001:db8::2")
				for _, addr := range []string{mx1, mx2, mx2b, mx6, "192.0.2.2:2525", "192.0.2.22:2525"} {
					w.peers[addr] = &peer{}
				}
				up := maps.Clone(w.peers)
				for _, addr := range c.down {
					delete(w.peers, addr)
				}
				w.peers[c.lost].replies = map[string]string{".": "<close>"}
				r := w.relay(Options{Rand: seeded()})
				defer w.done(t, r)
				d := delivery(t, postrider.ViaMX, "b@example.org", "c@example.org")
				if c.set != nil {
					c.set(d)
				}
				for i, o := range r.Deliver(t.Context(), d) {
					if o.Uncertain == "" {
						t.Errorf("the first attempt: %s", describe(o))
					}
					d.Message.Recipients[i].Uncertain = o.Uncertain
				}
				synctest.Wait()
				w.peers, w.dials = up, nil // all are back
				w.peers[c.lost].replies = nil
				for _, o := range r.Deliver(t.Context(), d) {
					if o.Result != postrider.ResultDelivered {
						t.Errorf("the second attempt: %s", describe(o))
					}
				}
				if !slices.Equal(w.dials, []string{c.lost}) {
					t.Errorf("the second attempt has dialled %q, want %s", w.dials, c.lost)
				}
			})
		})
	}
}

// A 5yz to MAIL is of that message: the next one is sent to the same host.
func TestRefusedSenderIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		two(w)
		p := &peer{replies: map[string]string{"MAIL FROM:<a@example.net>": "550 5.7.1 not you"}}
		w.peers[mx1] = p
		r := w.relay(Options{})
		defer w.done(t, r)
		d := delivery(t, postrider.ViaMX, "b@example.org")
		if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultFailed {
			t.Error(describe(o))
		}
		d.Message.From.Local = "other"
		if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDelivered {
			t.Error(describe(o))
		}
		if len(p.said("RSET")) != 1 || len(w.dials) != 1 {
			t.Errorf("%d RSET over %d connections", len(p.said("RSET")), len(w.dials))
		}
	})
}

// RFC 6531 3.2: to one without SMTPUTF8 a client "MUST NOT transmit an
// internationalized email address". The others of the message have theirs.
func TestSomeNeedUTF8(t *testing.T) {
	const from = "MAIL FROM:<a@example.net>"
	to := []string{"b@example.org", "ü@example.org", "c@example.org"}
	lacks := "failed/message 553 5.6.7 an address of the recipients needs SMTPUTF8, which mx1.example does not offer"
	header := "failed/message 554 5.6.9 the header of the message needs SMTPUTF8, which mx1.example does not offer"
	utf8 := func(d *postrider.Delivery) { d.Message.UTF8 = true }
	send(t, []sending{
		{name: "one of three", to: to, set: utf8, want: []string{taken, lacks, taken}, mail: from, rcpt: []string{"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>"}},
		{name: "and nobody said SMTPUTF8", to: to, want: []string{taken, lacks, taken}, mail: from, rcpt: []string{"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>"}},
		{name: "the first of them", to: []string{"ü@example.org", "b@example.org"}, set: utf8, want: []string{lacks, taken}, mail: from, rcpt: []string{"RCPT TO:<b@example.org>"}},
		{name: "the domain of another has A-labels", to: []string{"b@bücher.example", "ü@bücher.example"}, set: utf8, want: []string{taken, lacks},
			mail: from, rcpt: []string{"RCPT TO:<b@xn--bcher-kva.example>"}},
		{name: "all of them", to: []string{"ü@example.org", "ö@example.org"}, set: utf8, want: []string{lacks, lacks}},
		{name: "the header needs it too", to: to, set: func(d *postrider.Delivery) {
			utf8(d)
			d.Content = &content{m: d.Message, text: "Subject: \xc3\xbc\r\n"}
		}, want: []string{header, header, header}},
		{name: "the sender needs it too", to: to[:2], set: func(d *postrider.Delivery) { d.Message.From.Local = "ü" }, want: []string{
			"failed/message 550 5.6.7 the address of the sender needs SMTPUTF8, which mx1.example does not offer",
			"failed/message 550 5.6.7 the address of the sender needs SMTPUTF8, which mx1.example does not offer"}},
		{name: "one at a time", exts: []string{"LIMITS RCPTMAX=1"}, to: to, set: utf8, want: []string{taken, lacks, taken}, mail: from + "\n" + from,
			rcpt: []string{"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>"}},
		{name: "one domain at a time", exts: []string{"LIMITS RCPTDOMAINMAX=1"}, to: []string{"ü@bücher.example", "b@example.org", "ö@example.org"}, set: utf8,
			want: []string{lacks, taken, lacks}, mail: from, rcpt: []string{"RCPT TO:<b@example.org>"}},
		{name: "to one that has it all go at once", exts: []string{"SMTPUTF8", "8BITMIME"}, to: to, set: utf8, want: []string{taken, taken, taken},
			mail: from + " SMTPUTF8", rcpt: []string{"RCPT TO:<b@example.org>", "RCPT TO:<ü@example.org>", "RCPT TO:<c@example.org>"}},
	})
}

// Who cannot be named to the first host goes to the next that has SMTPUTF8, and alone;
// where that says nothing for now, he waits.
func TestSomeGoToTheNext(t *testing.T) {
	need := []string{"SMTPUTF8", "8BITMIME"}
	for _, c := range []struct {
		name   string
		second *peer
		want   string
		rcpts  []string // at the second host
	}{
		{"it has it", &peer{exts: need}, delivered + " (mx2.example)", []string{"RCPT TO:<ü@example.org>"}},
		{"it has it, and is busy", &peer{exts: need, replies: map[string]string{"MAIL": "451 4.3.0 not now"}}, "deferred/message 451 4.3.0 not now (mx2.example)", nil},
		{"it does not answer", nil, "deferred/dest 451 4.4.1 connect to mx2.example[192.0.2.2]:25: connection refused", nil},
		{"it lacks it", &peer{}, "failed/message 553 5.6.7 an address of the recipients needs SMTPUTF8, which mx2.example does not offer", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				two(w)
				first := &peer{}
				w.peers[mx1] = first
				if c.second != nil {
					w.peers[mx2] = c.second
				}
				r := w.relay(Options{})
				defer w.done(t, r)
				out := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org", "ü@example.org"))
				if b, u := describe(out[0]), describe(out[1]); b != delivered+" (mx1.example)" || u != c.want {
					t.Errorf("b: %s\nü: %s", b, u)
				}
				if got := first.said("RCPT"); !slices.Equal(got, []string{"RCPT TO:<b@example.org>"}) {
					t.Errorf("the first has %q", got)
				}
				if c.second != nil && len(c.second.contents) != len(c.rcpts) || c.rcpts != nil && !slices.Equal(c.second.said("RCPT"), c.rcpts) {
					t.Errorf("the second has %q", c.second.said("RCPT"))
				}
			})
		})
	}
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
