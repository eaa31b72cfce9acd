package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// waiting is how many messages the spool has, and whether id is one of them.
func (b *bench) waiting(id postrider.ID) (n int, there bool) {
	b.spool.mu.Lock()
	defer b.spool.mu.Unlock()
	return len(b.spool.msgs), b.spool.msgs[id] != nil
}

// The time of a report begins when it is written. One about mail that has waited for
// longer than a report may is tried again after "not now", and reaches the sender.
//
// RFC 5321 6.1: "If there is a delivery failure after acceptance of a message, the
// receiver-SMTP MUST formulate and mail a notification message."
func TestReportIsYoung(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		back := testPlan.Expire + 5*time.Minute
		b.answer = func(to smtp.Path) postrider.Outcome {
			switch {
			case to.Domain == "dead.example":
				return nobody
			case time.Since(b.start) < back:
				return greylist
			}
			return ok
		}
		id := b.send("bob@dead.example")
		b.until(back)
		if n, there := b.waiting(id); there || n != 1 {
			t.Errorf("%d messages wait, want the report", n)
		}
		b.until(2 * time.Hour)
		var at []string
		for _, a := range b.attempts {
			if when, who, _ := strings.Cut(a, " "); who == "home.example alice" {
				at = append(at, when)
			}
		}
		if got := strings.Join(at, " "); got != "30m0s 31m0s 36m0s" {
			t.Errorf("the report is tried at %s", got)
		}
		if r := b.spool.events[len(b.spool.events)-1]; !strings.HasPrefix(r, "delivered alice@home.example") {
			t.Errorf("the last that happened: %s", r)
		}
		b.empty()
	})
}

// Reports to a domain where nobody answers come to their end as all other mail does,
// and not one by one, each when it is its turn to ask whether somebody is there again.
func TestReportsExpire(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "home.example" {
				return nobody
			}
			return refused
		}
		const n = 20
		for range n {
			b.send("bob@x.example")
		}
		b.until(testPlan.ExpireBounce - time.Minute)
		if got, _ := b.waiting(""); got != n {
			t.Errorf("%d reports wait, want %d", got, n)
		}
		b.until(gatherMax + testPlan.ExpireBounce + lastChance + time.Minute)
		b.empty()
	})
}

// What is under way when the time of BY=R is over is left to its attempt; the others
// fail then, and are told.
//
// RFC 2852 4.1.3: "The server or MTA MUST issue a "failed" DSN with status 5.4.7, "delivery
// time expired", for each recipient address with either no NOTIFY parameter specified or for
// which the NOTIFY parameter includes "FAILURE"."
func TestUnderWayAtTheDeadline(t *testing.T) {
	for _, c := range []struct {
		answer postrider.Outcome // to what is under way
		want   []string
	}{
		{ok, []string{"carol failed 5.4.7"}},
		{refused, []string{"carol failed 5.4.7", "bob failed 5.1.1"}},
	} {
		run(t, Limits{}, func(b *bench) {
			b.answer = func(to smtp.Path) postrider.Outcome {
				switch to.Local {
				case "bob":
					return c.answer
				case "carol":
					return greylist
				}
				return ok
			}
			b.took = func(d *postrider.Delivery) time.Duration {
				if d.Route.Dest == "mx:slow.example" {
					return 9 * time.Minute
				}
				return 0
			}
			b.sendAs(func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: 300, Mode: smtp.ByReturn} },
				"bob@slow.example", "carol@x.example")
			b.until(6 * time.Minute)
			b.mu.Lock()
			b.wantTold(c.want[0])
			b.mu.Unlock()
			b.until(time.Hour)
			b.wantTold(c.want...)
			b.empty()
		})
	}
}
