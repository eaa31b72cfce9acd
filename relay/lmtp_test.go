package relay

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

const lmtpAddr = "10.0.0.1:2424"

// delivers is a world of one host that speaks LMTP, in private space.
func delivers(replies map[string]string, exts ...string) func(w *world) {
	return func(w *world) {
		w.zone.A("store.example", "10.0.0.1")
		w.peers[lmtpAddr] = &peer{lmtp: true, replies: replies, exts: exts}
	}
}

func toStore(d *postrider.Delivery) {
	d.Route = postrider.Route{Via: postrider.ViaLMTP, Host: "store.example", Port: 2424}
}

// TestLMTP: each recipient has what the peer said of it, before or after the dot.
func TestLMTP(t *testing.T) {
	three := []string{"b@example.org", "c@example.org", "d@example.org"}
	const good = "delivered/recipient 250 2.0.0 ok (store.example) final"
	play(t, []story{
		{
			name: "RFC 2033 4.2: one reply for each", world: delivers(nil), to: three, set: toStore,
			want: []string{good, good, good}, dials: []string{lmtpAddr},
		}, {
			name: "some full, some gone, after the dot",
			world: delivers(map[string]string{
				".<b@example.org>": "452 4.2.2 over quota", ".<d@example.org>": "550 5.2.1 disabled",
			}),
			to: three, set: toStore, dials: []string{lmtpAddr},
			want: []string{"deferred/recipient 452 4.2.2 over quota (store.example)", good, "failed/recipient 550 5.2.1 disabled (store.example)"},
		}, {
			name: "one refused before it, and replies of several lines",
			world: delivers(map[string]string{
				"RCPT TO:<b@example.org>": "550 5.1.1 nobody", ".<c@example.org>": "250-2.0.0 ok\n250 2.0.0 really",
			}),
			to: three, set: toStore, dials: []string{lmtpAddr},
			want: []string{"failed/recipient 550 5.1.1 nobody (store.example)", "delivered/recipient 250 2.0.0 ok\nreally (store.example) final", good},
		}, {
			name:  "nobody is taken after the dot",
			world: delivers(map[string]string{".<b@example.org>": "452 4.3.1 full", ".<c@example.org>": "452 4.3.1 full", ".<d@example.org>": "452 4.3.1 full"}),
			to:    three, set: toStore, dials: []string{lmtpAddr},
			want: slices.Repeat([]string{"deferred/recipient 452 4.3.1 full (store.example)"}, 3),
		}, {
			name:  "RFC 2033 5: what arrived counts, and the rest is tried again",
			world: delivers(map[string]string{".<c@example.org>": "<hangs up>"}),
			to:    three, set: toStore, dials: []string{lmtpAddr},
			want: []string{
				good,
				"deferred/message 451 4.4.2 lost connection with store.example[10.0.0.1]:2424 while waiting for the reply to the final dot: smtp: the peer's reply is no reply; it may have the message, and is tried first from now on uncertain",
				"deferred/message 451 4.4.2 lost connection with store.example[10.0.0.1]:2424 while waiting for the reply to the final dot: smtp: the peer's reply is no reply; it may have the message, and is tried first from now on uncertain",
			},
		}, {
			name:  "421 in the middle: the rest was not taken",
			world: delivers(map[string]string{".<c@example.org>": "421 4.3.2 going down"}),
			to:    three, set: toStore, dials: []string{lmtpAddr},
			want: []string{good, "deferred/dest 421 4.3.2 going down (store.example)", "deferred/dest 421 4.3.2 going down (store.example)"},
		}, {
			name:  "DATA refused speaks for the message",
			world: delivers(map[string]string{"DATA": "451 4.3.0 later"}),
			to:    three, set: toStore, dials: []string{lmtpAddr},
			want: slices.Repeat([]string{"deferred/message 451 4.3.0 later (store.example)"}, 3),
		}, {
			name:  "a success that the peer will report, and a failure that it will not",
			world: delivers(map[string]string{".<d@example.org>": "550 5.2.1 disabled"}, "DSN"), to: three, dials: []string{lmtpAddr},
			set: func(d *postrider.Delivery) {
				toStore(d)
				d.Message.Recipients[0].Notify, d.Message.Recipients[2].Notify = smtp.NotifySuccess, smtp.NotifySuccess
			},
			want: []string{"delivered/recipient 250 2.0.0 ok (store.example) dsn final", good, "failed/recipient 550 5.2.1 disabled (store.example)"},
		}, {
			// It was not told who wants to hear: that is ours to tell, as RFC 3461 5.2.2 has it of SMTP.
			name:  "a success that a peer without DSN will not report",
			world: delivers(nil), to: three, dials: []string{lmtpAddr},
			set: func(d *postrider.Delivery) {
				toStore(d)
				d.Message.Recipients[0].Notify, d.Message.Recipients[1].Notify = smtp.NotifySuccess, smtp.NotifyNever
			},
			want: []string{good, good, good},
		},
	})
}

// TestLMTPHost: which host it is, or which socket.
func TestLMTPHost(t *testing.T) {
	play(t, []story{
		{
			name:  "a host that speaks SMTP is a mistake of the operator",
			world: delivers(map[string]string{"LHLO": "500 5.5.1 what"}), set: toStore, dials: []string{lmtpAddr},
			want: []string{"deferred/dest 451 4.3.5 store.example[10.0.0.1]:2424 of the route refused to talk to us: 500 5.5.1 what"},
		}, {
			name: "and so is one that speaks LMTP where SMTP is expected",
			world: func(w *world) {
				delivers(map[string]string{"HELO": "500 5.5.1 what"})(w)
				w.zone.A("store.example", "10.0.0.1", "10.0.0.2")
			},
			set: func(d *postrider.Delivery) {
				toStore(d)
				d.Route.Via = postrider.ViaSMTP
			},
			want: []string{"deferred/dest 451 4.3.5 store.example[10.0.0.1]:2424 of the route refused to talk to us: 500 5.5.1 what"}, dials: []string{lmtpAddr},
		}, {
			name:  "one of our own listeners",
			world: func(w *world) { delivers(nil)(w); w.own[lmtpAddr] = true }, set: toStore,
			want: []string{"deferred/dest 451 4.3.5 the route to store.example leads back to ourselves"},
		}, {
			name:  "a socket",
			world: func(w *world) { w.peers["/run/lmtp"] = &peer{lmtp: true, exts: []string{"STARTTLS"}} },
			set:   func(d *postrider.Delivery) { d.Route = postrider.Route{Via: postrider.ViaLMTP, Socket: "/run/lmtp"} },
			want:  []string{"delivered/recipient 250 2.0.0 ok (localhost) final"}, dials: []string{"/run/lmtp"},
		}, {
			name:  "a socket where nobody is",
			world: func(w *world) {},
			set:   func(d *postrider.Delivery) { d.Route = postrider.Route{Via: postrider.ViaLMTP, Socket: "/run/lmtp"} },
			want:  []string{"deferred/dest 451 4.4.1 connect to localhost[/run/lmtp]: connection refused"}, dials: []string{"/run/lmtp"},
		},
	})
}

// TestLMTPTooMany: who is too many for one transaction goes in the next, also
// where those before were refused after the dot.
func TestLMTPTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		delivers(map[string]string{".<b@example.org>": "550 5.2.1 disabled"})(w)
		p := w.peers[lmtpAddr]
		p.rcptMax = 1
		r := w.relay(Options{})
		defer w.done(t, r)
		d := delivery(t, postrider.ViaLMTP, "b@example.org", "c@example.org")
		toStore(d)
		out := r.Deliver(t.Context(), d)
		if out[0].Result != postrider.ResultFailed || out[1].Result != postrider.ResultDelivered || p.dials != 1 || len(p.contents) != 2 {
			t.Errorf("%s, %s; %d messages over %d connections", describe(out[0]), describe(out[1]), len(p.contents), p.dials)
		}
	})
}

// TestPorts: where the route names none.
func TestPorts(t *testing.T) {
	for want, r := range map[uint16]postrider.Route{
		25: {Via: postrider.ViaMX}, 465: {Via: postrider.ViaSMTP, Implicit: true}, 24: {Via: postrider.ViaLMTP},
		587: {Via: postrider.ViaSMTP, Port: 587, Implicit: true},
	} {
		if got := port(r); got != want {
			t.Errorf("port of %v is %d, want %d", r, got, want)
		}
	}
}
