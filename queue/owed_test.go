package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// count is how many attempts there were at a domain.
func (b *bench) count(domain string) int {
	return strings.Count(strings.Join(b.attempts, "\n"), " "+domain+" ")
}

// Mail that was tried once, and whose end came while the machine was off, has its
// attempt, though all of it is due at once and has few slots.
func TestTriedOnceThenOff(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.took = func(*postrider.Delivery) time.Duration { return 2 * time.Second }
		for i := range 20 {
			b.sendAs(func(m *postrider.Message) {
				m.Arrived = time.Now().Add(-testPlan.Expire - 24*time.Hour)
				r := &m.Recipients[0]
				r.Due, r.Tries, r.Reply = m.Arrived.Add(time.Minute), 1, greylist.Reply
			}, fmt.Sprintf("u%d@x.example", i))
		}
		b.until(5 * time.Minute)
		if n := b.count("x.example"); n != 20 || len(b.inbox) != 0 {
			t.Errorf("%d attempts, told %q", n, b.told())
		}
		b.empty()
	})
}

// What has no turn for an hour after such a start is given up.
func TestTriedOnceThenOffAndNoTurn(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				// The looks fall between such attempts: what is under way is not looked at.
				return postrider.Outcome{Untried: true, Scope: postrider.ScopeMessage, Rest: 47 * time.Second}
			}
			return ok
		}
		b.sendAs(func(m *postrider.Message) {
			m.Arrived = time.Now().Add(-testPlan.Expire - 24*time.Hour)
			m.Recipients[0].Tries, m.Recipients[0].Reply = 1, greylist.Reply
		}, "bob@x.example")
		b.until(59 * time.Minute)
		b.wantTold()
		b.until(71 * time.Minute)
		b.wantTold("bob failed 5.4.7")
		b.empty()
	})
}

// What a reload takes off hold is looked at: its sender hears that it is late, and in
// time what became of it.
func TestReleasedByAReload(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return nobody
			}
			return ok
		}
		b.routes["x.example"] = postrider.Route{Dest: postrider.DestHold, Via: postrider.ViaHold}
		b.queue.Rekey()
		for i := range 12 {
			b.send(fmt.Sprintf("DELAY,FAILURE:u%d@x.example", i))
		}
		b.sendAs(func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: 9 * 60, Mode: smtp.ByReturn} }, "bob@x.example")
		b.until(10 * time.Minute)
		b.wantTold()
		b.routes = table{}
		b.queue.Rekey()
		b.until(10*time.Minute + time.Second)
		if !slices.Contains(b.told(), "bob failed 5.4.7") {
			t.Errorf("told %q", b.told())
		}
		b.until(29 * time.Minute)
		if n := strings.Count(fmt.Sprint(b.told()), "delayed"); n != 12 {
			t.Errorf("%d notices of a delay: %q", n, b.told())
		}
		b.until(2 * time.Hour)
		if n := strings.Count(fmt.Sprint(b.told()), "failed 5.4.7"); n != 13 {
			t.Errorf("%d were told of their end: %q", n, b.told())
		}
		b.empty()
	})
}

// What has come to its end on hold, and was tried before, has an attempt when a reload
// releases it, however little of it goes at once.
func TestReleasedAfterItsEnd(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.took = func(*postrider.Delivery) time.Duration { return 2 * time.Minute }
		b.routes["x.example"] = postrider.Route{Dest: postrider.DestHold, Via: postrider.ViaHold}
		b.queue.Rekey()
		for i := range 60 {
			b.sendAs(func(m *postrider.Message) { m.Recipients[0].Tries, m.Recipients[0].Reply = 1, greylist.Reply }, fmt.Sprintf("u%d@x.example", i))
		}
		b.until(26 * time.Hour)
		b.routes = table{}
		b.limit("mx:x.example", postrider.Limits{Connections: 4})
		b.until(28 * time.Hour)
		if n := b.count("x.example"); n != 60 || len(b.inbox) != 0 {
			t.Errorf("%d attempts, told %q", n, b.told())
		}
		b.empty()
	})
}

// The same of what an operator has released.
func TestReleasedAfterItsEndByHand(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" && time.Since(s.start) < time.Hour {
				return greylist
			}
			return ok
		}
		id := s.send("bob@x.example")
		s.until(2 * time.Minute)
		s.amend(id, postrider.AmendHold)
		s.until(30 * time.Hour)
		s.spool.Pause("mx:x.example", time.Now().Add(20*time.Minute)) // no slot for it
		s.amend(id, postrider.AmendRelease)
		s.until(30*time.Hour + time.Hour)
		if got := s.tried("x.example"); got != "0s 1m0s 30h20m0s" || s.tried("home.example") != "" {
			t.Errorf("tried at %s; a report at %q", got, s.tried("home.example"))
		}
	})
}
