package queue

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What a reload has put on hold, and the spool does not know of yet, is not claimed
// again and again at one moment; other mail goes on, and it goes when the hold ends.
func TestHoldThatTheSpoolHasNotHeardOf(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.routes = table{"x.example": {Dest: postrider.DestHold, Via: postrider.ViaHold}} // the spool has the keys of the one before
		opens := 0
		b.spool.onOpen = func(postrider.ID) error {
			if opens++; opens > 1000 {
				return errors.New("enough") // or it would not end
			}
			return nil
		}
		b.send("bob@x.example", "cid@x.example")
		b.send("eve@y.example")
		b.until(10 * time.Minute)
		b.want("0s y.example eve")
		// It rests for 1, 2, 4, … 60 s, and then each minute.
		if opens < 10 || opens > 25 {
			t.Errorf("opened %d times in 10 minutes", opens)
		}
		if n := len(b.spool.leases); n != 0 {
			t.Errorf("%d leases are held meanwhile", n)
		}
		for _, e := range b.spool.msgs {
			if r := e.m.Recipients[0]; r.Tries != 0 || r.State != postrider.Waiting {
				t.Errorf("%+v", r)
			}
		}
		b.routes = table{}
		b.limit("mx:x.example", postrider.Limits{}) // a reload, after which all are tried that rest
		synctest.Wait()
		b.want("0s y.example eve", "10m0s x.example bob,cid")
		b.empty()
	})
}

// Of a lease that is in part on hold the rest goes at once, and once.
func TestHoldOfSome(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.queue.opt.Router = func() postrider.Router { return holding{b.routes, "bob"} }
		opens := 0
		b.spool.onOpen = func(postrider.ID) error {
			if opens++; opens > 1000 {
				return errors.New("enough")
			}
			return nil
		}
		b.send("bob@x.example", "cid@x.example")
		b.until(5 * time.Minute)
		b.want("0s x.example cid")
		if opens > 20 {
			t.Errorf("opened %d times in 5 minutes", opens)
		}
	})
}

// holding holds who has one local part, and says nothing of it to the spool.
type holding struct {
	table
	local string
}

func (h holding) Route(to smtp.Path) postrider.Route {
	r := h.table.Route(to)
	if to.Local == h.local {
		r.Via = postrider.ViaHold
	}
	return r
}

// Mail that has no turn for days, as the others of its destination leave it none, is
// given up a day after its end, and its sender hears of it: in time that it is late,
// and in the end that it failed.
func TestNoTurn(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				// The looks fall between such attempts: what is under way is not looked at.
				return postrider.Outcome{Untried: true, Scope: postrider.ScopeMessage, Rest: 47 * time.Second}
			}
			return ok
		}
		const day = 24 * time.Hour
		b.send("FAILURE,DELAY:bob@x.example") // nothing has had its turn yet, for all that we know: nobody is told
		b.until(day + 29*time.Minute)
		b.wantTold()
		b.until(day + 41*time.Minute)
		b.wantTold("bob failed 5.4.7")
		b.empty()
		b.inbox = nil

		// In a queue that has run for so long.
		start := day + time.Hour
		b.until(start)
		b.send("FAILURE,DELAY:cid@x.example")
		b.until(start + 10*time.Minute)
		b.wantTold("cid delayed 4.0.0")
		b.until(start + day + 29*time.Minute)
		b.wantTold("cid delayed 4.0.0")
		b.until(start + day + 41*time.Minute)
		b.wantTold("cid delayed 4.0.0", "cid failed 5.4.7")
		b.empty()
		b.inbox = nil

		// What was on hold for weeks has a day for its turn, too.
		start = 3 * day
		b.until(start)
		b.sendAs(func(m *postrider.Message) { m.Arrived = m.Arrived.Add(-20 * day) }, "eve@x.example")
		b.until(start + day - time.Minute)
		b.wantTold()
		b.until(start + day + 11*time.Minute)
		b.wantTold("eve failed 5.4.7")
		b.empty()
	})
}

// While the spool takes nothing for hours a lease is not forgotten: what was to be
// given back or put off is, when it can be, and its mail goes on.
func TestSpoolIsFullForHours(t *testing.T) {
	const full = 2 * time.Hour
	for _, c := range []struct {
		name string
		set  func(b *bench)
		late time.Duration // at most, after it takes anything again
	}{
		{"give back", func(b *bench) { b.limit("mx:x.example", rateOf(1, 10*time.Minute)) }, time.Minute},
		{"put off", func(b *bench) {
			n := 0
			b.spool.onOpen = func(postrider.ID) error {
				if n++; n == 1 {
					panic("a bug")
				}
				return nil
			}
		}, damageWait},
		{"put off what cannot be read", func(b *bench) {
			n := 0
			b.spool.onOpen = func(postrider.ID) error {
				if n++; n == 1 {
					return errors.New("damaged")
				}
				return nil
			}
		}, damageWait},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, Limits{}, func(b *bench) {
				b.queue.Change(Plan{Retry: testPlan.Retry}, smtp.Path{})
				refusals := 0
				b.spool.onCommit = func(batch postrider.Batch) error {
					if len(batch.Settle) == 0 || time.Since(b.start) >= full {
						return nil
					}
					refusals++
					return errors.New("no space")
				}
				c.set(b)
				b.send("bob@x.example")
				b.until(full - time.Second)
				b.spool.mu.Lock() // the race detector knows locks, and not the clock of a bubble
				if n := len(b.spool.leases); n != 1 || refusals < 100 || len(b.attempts) != 0 {
					t.Errorf("%d leases, %d refusals, attempts %q", n, refusals, b.attempts)
				}
				b.spool.mu.Unlock()
				b.until(full + time.Minute + c.late)
				if len(b.attempts) != 1 || len(b.spool.leases) != 0 || strings.Contains(strings.Join(b.alarms, "\n"), "given up") {
					t.Errorf("attempts %q, %d leases, alarms %q", b.attempts, len(b.spool.leases), b.alarms)
				}
				b.empty()
			})
		})
	}
}
