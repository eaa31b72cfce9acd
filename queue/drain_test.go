package queue

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// At the end of ctx nothing new begins, what runs comes to its end, and what is
// too slow is cut and counts as not tried.
func TestDrain(t *testing.T) {
	run(t, Limits{PerDest: 1}, func(b *bench) {
		b.took = func(d *postrider.Delivery) time.Duration {
			if d.Route.Dest == "mx:slow.example" {
				return time.Hour
			}
			return 10 * time.Second
		}
		b.send("bob@x.example")
		b.send("eve@x.example")
		b.send("cid@slow.example")
		b.until(time.Second)
		b.stop()
		b.until(20 * time.Second)
		if len(b.attempts) != 2 || !slices.Equal(b.spool.events, []string{"delivered bob@x.example 250"}) {
			t.Errorf("attempts %q, events %q", b.attempts, b.spool.events)
		}
		b.until(40 * time.Second)
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		b.ended <- nil
		if len(b.spool.msgs) != 2 || len(b.spool.leases) != 0 {
			t.Errorf("%d messages, %d leases are left", len(b.spool.msgs), len(b.spool.leases))
		}
		for _, e := range b.spool.msgs {
			if r := e.m.Recipients[0]; r.Tries != 0 || r.State != postrider.Waiting {
				t.Errorf("%v: %+v", r.To, r)
			}
		}
	})
}

// What has no connection at the end of ctx is told so at once, and given back as it
// was; Cut ends that too.
func TestSetupEndsFirst(t *testing.T) {
	for _, cut := range []bool{false, true} {
		run(t, Limits{}, func(b *bench) {
			var ended []time.Duration
			b.took = func(d *postrider.Delivery) time.Duration {
				<-d.Setup.Done()
				ended = append(ended, time.Since(b.start))
				return 0
			}
			b.answer = func(smtp.Path) postrider.Outcome { return postrider.Outcome{Untried: true, Scope: postrider.ScopeDest} }
			b.send("bob@x.example")
			b.until(time.Second)
			if cut {
				b.queue.Cut()
			}
			b.stop()
			synctest.Wait()
			// Between Cut and the stop more attempts may begin, and end at once.
			if ended = slices.Compact(ended); !slices.Equal(ended, []time.Duration{time.Second}) || len(b.spool.leases) != 0 {
				t.Errorf("cut %v: setup ended at %v, %d leases are left", cut, ended, len(b.spool.leases))
			}
			for _, e := range b.spool.msgs {
				if r := e.m.Recipients[0]; r.Tries != 0 || r.State != postrider.Waiting {
					t.Errorf("%v: %+v", r.To, r)
				}
			}
		})
	}
}

// An attempt that was cut when a peer may have the message is written down, so that
// this peer is tried first after the start, too. One that was cut before is none.
func TestCutInDoubt(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.took = func(d *postrider.Delivery) time.Duration {
			<-d.Setup.Done()
			time.Sleep(31 * time.Second) // a dialogue that goes on until it is cut
			return 0
		}
		b.answer = func(to smtp.Path) postrider.Outcome {
			o := postrider.Outcome{Reply: smtp.Reply{Code: 451, Text: "no answer came"}, Scope: postrider.ScopeMessage}
			if to.Local == "bob" {
				o.Uncertain = "mx.x.example[192.0.2.1]:25"
			}
			return o
		}
		b.send("bob@x.example", "cid@x.example")
		b.until(time.Second)
		b.stop()
		b.until(40 * time.Second)
		for _, e := range b.spool.msgs {
			bob, cid := e.m.Recipients[0], e.m.Recipients[1]
			if bob.Uncertain == "" || bob.Tries != 1 || !bob.Due.After(time.Now()) || cid.Tries != 0 {
				t.Errorf("bob: %+v\ncid: %+v", bob, cid)
			}
		}
		if len(b.spool.msgs) != 1 || len(b.spool.leases) != 0 {
			t.Errorf("%d messages, %d leases are left", len(b.spool.msgs), len(b.spool.leases))
		}
	})
}

// What a peer has said before a stop cuts the attempt short counts: who has the mail does
// not get it again, and who refused it is not asked again. RFC 5321 4.2.5: after the 250
// the responsibility is the receiver's. Of who was deferred nothing is known.
func TestCutAfterTheAnswer(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.took = func(d *postrider.Delivery) time.Duration {
			time.Sleep(35 * time.Second) // longer than it has
			return 0
		}
		b.answer = func(to smtp.Path) postrider.Outcome {
			switch to.Local {
			case "bob":
				return ok
			case "cid":
				return refused
			}
			return greylist
		}
		id := b.send("bob@x.example", "cid@x.example", "dan@x.example")
		b.until(time.Second)
		b.stop()
		b.until(40 * time.Second)
		if want := []string{"delivered bob@x.example 250", "failed cid@x.example 550"}; !slices.Equal(b.spool.events, want) {
			t.Errorf("written down: %q, want %q", b.spool.events, want)
		}
		m := b.spool.msgs[id]
		if m == nil {
			t.Fatal("the message is gone")
		}
		if r := m.m.Recipients; r[0].State != postrider.Delivered || r[1].State != postrider.Failed || r[1].Reported || r[2].State != postrider.Waiting || r[2].Tries != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// A look at a message that comes as the queue stops is given back, and is made after the
// next start: the sender hears that his mail is late, or is over.
func TestLookAtTheStop(t *testing.T) {
	for _, tc := range []struct {
		name, rcpt, want string
		at               time.Duration // of the look
	}{
		{"late", "DELAY,FAILURE:bob@x.example", "bob delayed 4.7.1", 8 * time.Minute},
		{"over", "FAILURE:bob@x.example", "bob failed 5.4.7", 30 * time.Minute},
	} {
		run(t, Limits{}, func(b *bench) {
			b.answer = func(to smtp.Path) postrider.Outcome {
				if to.Local == "bob" {
					return greylist
				}
				return ok
			}
			stops := 0
			b.spool.onClaim = func(l postrider.Lease) {
				if l.Why == postrider.Wake {
					stops++
					b.stop()
				}
			}
			id := b.send(tc.rcpt)
			b.until(tc.at + time.Second)
			if err := <-b.ended; err != nil || stops != 1 || len(b.spool.leases) != 0 {
				t.Errorf("%s: %v, %d stops, %d leases are left", tc.name, err, stops, len(b.spool.leases))
			}
			b.ended <- nil
			if e := b.spool.msgs[id]; e == nil || e.waking || e.wake.IsZero() || e.wake.After(time.Now()) {
				t.Fatalf("%s: the look is not wanted again: %+v", tc.name, e)
			}

			b.spool.onClaim = nil
			next := New(b.queue.opt)
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- next.Run(ctx) }()
			b.until(tc.at + 2*time.Second)
			b.wantTold(tc.want)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
