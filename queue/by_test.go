package queue

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// RFC 2852 4.1: a by-time "does not extend the MTA's normal message retention period".
func TestRetentionBeforeDeadline(t *testing.T) {
	p := Plan{Expire: time.Hour, DelayNotice: -1}.withDefaults()
	m := byMessage(smtp.DeliverBy{Seconds: 7200, Mode: smtp.ByReturn}, 0)
	m.Recipients[0].Tries, m.Recipients[0].Reply = 1, greylist.Reply
	if got := heard(p, m, t0.Add(time.Hour-time.Second)); got != "" {
		t.Errorf("before its end: %q", got)
	}
	if got := heard(p, m, t0.Add(time.Hour+lastChance)); got != "failed 5.4.7" {
		t.Errorf("after it: %q", got)
	}
}

// RFC 2852 4.1.2: what fails for good before its time is told like all else that does.
func TestFailedBeforeDeadline(t *testing.T) {
	for _, mode := range []smtp.ByMode{smtp.ByReturn, smtp.ByNotify} {
		for n, want := range map[smtp.Notify]string{
			0: "failed 5.1.1 mx", smtp.NotifyFailure: "failed 5.1.1 mx", smtp.NotifyDelay: "", smtp.NotifyNever: "",
		} {
			m := byMessage(smtp.DeliverBy{Seconds: 120, Mode: mode}, n)
			if got := told(t, m, toNobody, t0.Add(time.Second)); got != want {
				t.Errorf("%c, NOTIFY=%v: %q, want %q", mode, n, got, want)
			}
		}
	}
}

// RFC 2852 4.1.3: what is delivered late by an attempt that was under way when its time
// was over is told as "delayed", 4.4.7; and what else is owed of it, in its own report.
func TestLateUnderWay(t *testing.T) {
	for _, c := range []struct {
		name string
		to   string
		took time.Duration
		want []string
	}{
		{"in time", "bob@x.example", 4 * time.Minute, []string{"bob relayed 2.0.0"}}, // the peer does not know BY
		{"late", "bob@x.example", 6 * time.Minute, []string{"bob delayed 4.4.7"}},
		{"late, DELAY", "DELAY:bob@x.example", 6 * time.Minute, []string{"bob delayed 4.4.7"}},
		{"late, and the success is to be told", "DELAY,SUCCESS:bob@x.example", 6 * time.Minute, []string{"bob delayed 4.4.7", "bob relayed 2.0.0"}},
		{"late, no DELAY", "FAILURE:bob@x.example", 6 * time.Minute, nil},
		{"late, NEVER", "NEVER:bob@x.example", 6 * time.Minute, nil},
	} {
		run(t, Limits{}, func(b *bench) {
			b.took = func(d *postrider.Delivery) time.Duration {
				if d.Route.Dest == "mx:x.example" {
					return c.took
				}
				return 0
			}
			b.sendAs(func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: 300, Mode: smtp.ByNotify} }, c.to)
			b.until(20 * time.Minute)
			got := b.told()
			slices.Sort(got) // two of one instant come in any order
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: told %q, want %q", c.name, got, c.want)
			}
			for _, n := range b.inbox {
				if r := n.Recipients[0]; r.Action == dsn.Delayed && (r.Diagnostic.Code != 0 || r.RemoteMTA != "") {
					t.Errorf("%s: the delay is told with the words that took it: %v, %s", c.name, r.Diagnostic, r.RemoteMTA)
				}
				if r := n.Recipients[0]; !r.WillRetryUntil.IsZero() || r.Action == dsn.Delayed && !strings.Contains(strings.Join(strings.Fields(n.Text), " "), "later than you had asked") {
					t.Errorf("%s: it is to be tried again: %s", c.name, n.Text)
				}
			}
			b.empty()
		})
	}
}
