package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A host that takes no more than three at a time has about that: 421 to the others
// does not make it dead, everything is delivered, and it is told why it is slow.
func TestHostTakesThree(t *testing.T) {
	busy := postrider.Outcome{Scope: postrider.ScopeDest, Remote: "mx.example", Reply: smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 7}, Text: "too many"}}
	run(t, Limits{}, func(b *bench) {
		b.mu.Lock()
		b.took = func(*postrider.Delivery) time.Duration {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.running["mx:x.example"] > 3 {
				return 0 // 421 is said at once
			}
			return time.Second
		}
		b.mu.Unlock()
		b.answer = func(to smtp.Path) postrider.Outcome {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.running["mx:x.example"] >= 3 {
				return busy
			}
			return ok
		}
		for i := range 60 {
			b.send(fmt.Sprintf("u%d@x.example", i))
		}
		b.until(10 * time.Second)
		slow := b.queue.Slowed()
		if len(slow) != 1 || slow[0].Dest != "mx:x.example" || slow[0].Reason != "too many" || slow[0].Limit > 5 || !slow[0].Probe.IsZero() {
			t.Errorf("%+v", slow)
		}
		b.until(29 * time.Minute)
		b.empty()
		if n := len(b.attempts); n > 140 {
			t.Errorf("%d attempts for 60 messages", n)
		}
	})
}

// What was not tried, as others hold what it needs, is as it was, and its destination
// lets them go first, longer each time.
func TestCrowdedWaits(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if time.Since(b.start) < 10*time.Second {
				return postrider.Outcome{Untried: true, Scope: postrider.ScopeMessage}
			}
			return ok
		}
		b.send("bob@x.example")
		b.until(5 * time.Second)
		for _, e := range b.spool.msgs {
			if r := e.m.Recipients[0]; r.Tries != 0 || r.Reply.Code != 0 {
				t.Errorf("%+v", r)
			}
		}
		b.until(20 * time.Second)
		b.want("0s x.example bob", "1s x.example bob", "3s x.example bob", "7s x.example bob", "15s x.example bob")
		b.empty()
	})
}

// An operator ends the rest of a destination, and so does a clock that was set back.
func TestHurryEndsARest(t *testing.T) {
	d := newDests(20, 200, Plan{}.withDefaults())
	d.take("d", false, t0)
	if ps := d.release("d", false, finding{crowded: true}, t0, 0); pausesText(ps) != "1" {
		t.Errorf("crowded: %s", pausesText(ps))
	}
	if ps := d.hurry(nil, t0.Add(-time.Hour)); pausesText(ps) != "0" {
		t.Errorf("in a hurry: %s", pausesText(ps))
	}
}

// The slot of a destination is free while its message is written down, but not where
// that fails: what cannot be written down is not attempted either.
func TestSlotWhileWriting(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail bool
		most int // attempts in a minute, of 12; where it fails a few may begin before the first has
	}{{"slow", false, 12}, {"failing", true, 4}} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, Limits{PerDest: 1}, func(b *bench) {
				gate := make(chan struct{})
				b.spool.onCommit = func(batch postrider.Batch) error {
					if len(batch.Settle) == 0 || time.Since(b.start) > time.Minute {
						return nil
					}
					if tc.fail {
						return fmt.Errorf("no space left")
					}
					b.spool.mu.Unlock()
					defer b.spool.mu.Lock()
					<-gate
					return nil
				}
				for i := range 12 {
					b.send(fmt.Sprintf("u%d@x.example", i))
				}
				b.until(59 * time.Second)
				b.mu.Lock()
				n := len(b.attempts)
				b.mu.Unlock()
				if n > tc.most || !tc.fail && n < tc.most {
					t.Errorf("%d attempts, want %d", n, tc.most)
				}
				close(gate)
				b.until(25 * time.Minute)
				synctest.Wait()
				b.empty()
			})
		})
	}
}
