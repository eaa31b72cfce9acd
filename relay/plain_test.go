package relay

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// TestPlain: a host that offers an extension and refuses MAIL for its parameter hears
// MAIL without what only informs, once, on the same connection. What must not get lost
// stays, and what was refused for other reasons stays refused.
func TestPlain(t *testing.T) {
	const bare = "MAIL FROM:<a@example.net>"
	priority := func(d *postrider.Delivery) { d.Message.Size, d.Message.Priority = 0, 4 }
	by := func(mode smtp.ByMode) func(*postrider.Delivery) {
		return func(d *postrider.Delivery) {
			d.Message.Size, d.Message.Arrived, d.Message.By = 0, time.Now(), smtp.DeliverBy{Seconds: 600, Mode: mode}
		}
	}
	const delivers = "delivered/recipient 250 0.0.0 ok (mx1.example)"
	for _, test := range []struct {
		name    string
		set     func(*postrider.Delivery)
		refusal string
		good    string // the MAIL that the host takes
		said    []string
		rcpt    string
		want    string
	}{
		{"MT-PRIORITY", priority, "500 5.5.4 Unknown MAIL FROM argument", bare, []string{bare + " MT-PRIORITY=4", bare}, "", delivers},
		{"555", priority, "555 5.5.4 what", bare, []string{bare + " MT-PRIORITY=4", bare}, "", delivers},
		{"504 without a status", priority, "504 what", bare, []string{bare + " MT-PRIORITY=4", bare}, "", delivers},
		{"SIZE", func(*postrider.Delivery) {}, "501 what", bare, []string{bare + " SIZE=12", bare}, "", delivers},
		{"AUTH stays", func(d *postrider.Delivery) { d.Message.Size, d.Message.Auth = 0, "u@example.net" }, "501 5.5.4 what", bare,
			[]string{bare + " AUTH=u@example.net"}, "", "failed/message 501 5.5.4 what"},
		{"BY with the mode N", by(smtp.ByNotify), "500 5.5.4 what", bare, []string{bare + " BY=600;N", bare}, " NOTIFY=FAILURE,DELAY", delivers},
		{"BY with the mode R", by(smtp.ByReturn), "500 5.5.4 what", bare, []string{bare + " BY=600;R"}, "", "failed/message 500 5.5.4 what (mx1.example)"},
		{"ENVID stays", func(d *postrider.Delivery) { d.Message.Priority, d.Message.EnvID = 4, "x" }, "501 5.5.4 what", bare + " ENVID=x",
			[]string{bare + " SIZE=12 ENVID=x MT-PRIORITY=4", bare + " ENVID=x"}, "", delivers},
		{"refused again", priority, "500 5.5.4 what", "", []string{bare + " MT-PRIORITY=4", bare}, "", "failed/message 500 5.5.4 what (mx1.example)"},
		{"nothing to leave out", func(d *postrider.Delivery) { d.Message.Size = 0 }, "500 5.5.4 what", "", []string{bare}, "", "failed/message 500 5.5.4 what"},
		{"the sender is at fault", priority, "501 5.1.7 bad sender", bare, []string{bare + " MT-PRIORITY=4"}, "", "failed/message 501 5.1.7 bad sender"},
		{"the message is at fault", priority, "550 5.7.1 no", bare, []string{bare + " MT-PRIORITY=4"}, "", "failed/message 550 5.7.1 no"},
		{"not now", priority, "451 4.5.0 no", bare, []string{bare + " MT-PRIORITY=4"}, "", "deferred/message 451 4.5.0 no"},
	} {
		for _, pipelining := range []bool{false, true} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
					p := &peer{exts: []string{"SIZE", "MT-PRIORITY", "DELIVERBY", "AUTH PLAIN", "DSN"}, replies: map[string]string{"MAIL": test.refusal}}
					if pipelining {
						p.exts = append(p.exts, "PIPELINING")
					}
					if test.good != "" {
						p.replies[test.good] = "250 ok"
					}
					w.peers[mx1] = p
					r := w.relay(Options{})
					defer w.done(t, r)
					d := delivery(t, postrider.ViaMX, "b@example.org")
					d.Route.Port = 25
					test.set(d)
					if got := describe(r.Deliver(t.Context(), d)[0]); !strings.HasPrefix(got, test.want) || strings.HasSuffix(got, " by") {
						t.Errorf("%s, want %s", got, test.want)
					}
					if said := p.said("MAIL"); !slices.Equal(said, test.said) || p.dials != 1 {
						t.Errorf("the host heard %q on %d connections, want %q", said, p.dials, test.said)
					}
					if rcpts := p.said("RCPT"); test.rcpt != "" && !strings.HasSuffix(rcpts[len(rcpts)-1], test.rcpt) {
						t.Errorf("the host heard %q, want %q", rcpts, test.rcpt)
					}
				})
			})
		}
	}
}

// TestPlainOverOneMessageEach: the host is said so on a new connection too, where it takes
// one MAIL on each, and no more than that.
func TestPlainOverOneMessageEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
		p := &peer{exts: []string{"LIMITS MAILMAX=1", "MT-PRIORITY"}, replies: map[string]string{"MAIL": "555 5.5.4 what"}}
		w.peers[mx1] = p
		r := w.relay(Options{})
		defer w.done(t, r)
		d := delivery(t, postrider.ViaMX, "b@example.org")
		d.Message.Priority = 4
		if got := describe(r.Deliver(t.Context(), d)[0]); !strings.HasPrefix(got, "failed/message 555") || len(p.said("MAIL")) != 2 || p.dials != 2 {
			t.Errorf("%s after %d connections", got, p.dials)
		}
	})
}
