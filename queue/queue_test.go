package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A message to 3 recipients at one destination travels once with 3 RCPT; one is
// refused, two are delivered, one report.
func TestThreeAtOne(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "bob" {
				return refused
			}
			return ok
		}
		b.send("ann@x.example", "bob@x.example", "cid@x.example")
		b.until(time.Second)
		b.want("0s x.example ann,bob,cid", "0s home.example alice")
		b.wantTold("bob failed 5.1.1")
		if n := b.inbox[0]; n.EnvID != "env" || n.Recipients[0].RemoteMTA != "mx.example" || n.Recipients[0].Diagnostic.Text != "no such user" ||
			string(n.Returned) != "Subject: test\r\n" {
			t.Errorf("report: %+v", n)
		}
		b.empty()
	})
}

func TestRetrySchedule(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return greylist
			}
			return ok
		}
		b.send("bob@x.example")
		b.until(time.Hour)
		b.want("0s x.example bob", "1m0s x.example bob", "6m0s x.example bob", "16m0s x.example bob",
			"26m0s x.example bob", "30m0s x.example bob", "30m0s home.example alice")
		b.wantTold("bob failed 5.4.7")
		if d := b.inbox[0].Recipients[0]; d.Diagnostic != greylist.Reply {
			t.Errorf("the last answer became %+v", d.Diagnostic)
		}
		b.empty()
	})
}

func TestLimits(t *testing.T) {
	run(t, Limits{Workers: 5, PerDest: 3, MaxRcpts: 2}, func(b *bench) {
		b.took = func(*postrider.Delivery) time.Duration { return time.Second }
		for i := range 20 {
			b.send(fmt.Sprintf("u%d@slow.example", i), fmt.Sprintf("v%d@slow.example", i), fmt.Sprintf("w%d@slow.example", i))
		}
		b.send("bob@x.example")
		b.until(500 * time.Millisecond)
		if n := len(b.queue.Active()); n != 4 {
			t.Errorf("%d attempts are active, want 3 slow and 1 quick", n)
		}
		b.until(time.Minute)
		b.empty()
		if b.peak["mx:slow.example"] != 3 || b.peakAll > 5 {
			t.Errorf("at most %d attempts at one destination, %d in all", b.peak["mx:slow.example"], b.peakAll)
		}
		if !slices.Contains(b.attempts, "0s x.example bob") {
			t.Error("a slow destination held up another")
		}
		if n := len(b.attempts); n != 41 {
			t.Errorf("%d attempts, want 2 for each message of 3 recipients", n)
		}
	})
	run(t, Limits{Workers: 2}, func(b *bench) {
		b.took = func(*postrider.Delivery) time.Duration { return time.Second }
		for i := range 9 {
			b.send(fmt.Sprintf("u@d%d.example", i))
		}
		b.until(time.Minute)
		b.empty()
		if b.peakAll != 2 {
			t.Errorf("%d attempts at a time, want 2", b.peakAll)
		}
	})
}

// A dead destination gets one probe at the end of each pause, while others flow;
// the probe that succeeds opens it again.
func TestDeadDestination(t *testing.T) {
	run(t, Limits{PerDest: 2}, func(b *bench) {
		var alive atomic.Bool
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "dead.example" && !alive.Load() {
				return nobody
			}
			return ok
		}
		b.took = func(*postrider.Delivery) time.Duration { return 2 * time.Second }
		for i := range 10 {
			b.send(fmt.Sprintf("u%d@dead.example", i))
		}
		b.send("bob@x.example")
		b.until(10 * time.Minute)
		// Two at once found it dead; then 1m and 5m after the end of the one before.
		b.want("0s dead.example u0", "0s dead.example u1", "0s x.example bob",
			"1m2s dead.example u2", "6m4s dead.example u3")
		alive.Store(true)
		b.attempts = nil
		b.until(20 * time.Minute)
		if len(b.attempts) != 10 || b.attempts[0] != "16m6s dead.example u4" || b.attempts[1][:5] != "16m8s" {
			t.Errorf("after it came back: %q", b.attempts)
		}
		b.empty()
	})
}

func TestProbe(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome { return nobody }
		b.send("u0@dead.example")
		b.until(time.Second)
		b.send("u1@dead.example")
		b.until(10 * time.Second)
		if err := b.queue.Probe(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.until(20 * time.Second)
		b.want("0s dead.example u0", "10s dead.example u1")
		b.stop()
		<-b.ended
		b.ended <- nil
		if err := b.queue.Probe(context.Background()); !errors.Is(err, postrider.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What waits for a dead destination expires on time, tried or not.
func TestExpireUntried(t *testing.T) {
	run(t, Limits{PerDest: 1}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "dead.example" {
				return nobody
			}
			return ok
		}
		b.send("u0@dead.example")
		b.until(time.Minute / 2)
		for i := range 8 {
			b.send(fmt.Sprintf("u%d@dead.example", i+1))
		}
		b.until(31 * time.Minute)
		if n := len(b.inbox); n != 9 {
			t.Errorf("%d reports, want one for each message", n)
		}
		b.empty()
	})
}

// Failures at several destinations come in one report, once all recipients had
// their first attempt; a slow one is waited for 60 s.
func TestGather(t *testing.T) {
	for _, tc := range []struct {
		slow time.Duration
		want []string
		last string
	}{
		{10 * time.Second, []string{"ann failed 5.1.1, bob failed 5.1.1"}, "10s home.example alice"},
		{5 * time.Minute, []string{"ann failed 5.1.1", "bob failed 5.1.1"}, "5m0s home.example alice"},
	} {
		run(t, Limits{}, func(b *bench) {
			b.answer = func(to smtp.Path) postrider.Outcome {
				if to.Domain == "home.example" || to.Local == "cid" {
					return ok
				}
				return refused
			}
			b.took = func(d *postrider.Delivery) time.Duration {
				if d.Route.Dest == "mx:y.example" {
					return tc.slow
				}
				return 0
			}
			b.send("ann@x.example", "bob@y.example", "cid@z.example")
			b.until(30 * time.Second)
			if len(tc.want) == 2 && len(b.inbox) > 0 {
				t.Error("reported before 60 s while a first attempt was under way")
			}
			b.until(10 * time.Minute)
			b.wantTold(tc.want...)
			if got := b.attempts[len(b.attempts)-1]; got != tc.last {
				t.Errorf("last: %q, want %q", got, tc.last)
			}
			if len(tc.want) == 2 && !slices.Contains(b.attempts, "1m0s home.example alice") {
				t.Errorf("no report after 60 s: %q", b.attempts)
			}
			b.empty()
		})
	}
}

func TestNotify(t *testing.T) {
	local := postrider.Outcome{Result: postrider.ResultDelivered, Reply: smtp.OK, Final: true}
	has := ok
	has.PeerHasDSN = true
	for _, tc := range []struct {
		name    string
		rcpt    string
		outcome postrider.Outcome
		want    []string
	}{
		{"failure by default", "bob@x.example", refused, []string{"bob failed 5.1.1"}},
		{"failure asked", "FAILURE:bob@x.example", refused, []string{"bob failed 5.1.1"}},
		{"failure not asked", "SUCCESS,DELAY:bob@x.example", refused, nil},
		{"never", "NEVER:bob@x.example", refused, nil},
		{"success by default", "bob@x.example", ok, nil},
		{"relayed", "SUCCESS:bob@x.example", ok, []string{"bob relayed 2.0.0"}},
		{"delivered", "SUCCESS:bob@x.example", local, []string{"bob delivered 2.0.0"}},
		{"the peer reports", "SUCCESS:bob@x.example", has, nil},
		{"never, delivered", "NEVER:bob@x.example", ok, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run(t, Limits{}, func(b *bench) {
				b.answer = func(to smtp.Path) postrider.Outcome {
					if to.Domain == "home.example" {
						return ok
					}
					return tc.outcome
				}
				b.send(tc.rcpt)
				b.until(time.Hour)
				b.wantTold(tc.want...)
				b.empty()
			})
		})
	}
}

func TestDelayNotice(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "home.example" {
				return ok
			}
			return greylist
		}
		b.send("DELAY,FAILURE:ann@x.example", "bob@x.example", "FAILURE:cid@x.example")
		b.until(8*time.Minute - 1)
		b.wantTold()
		b.until(29 * time.Minute)
		b.wantTold("ann delayed 4.7.1")
		if r := b.inbox[0].Recipients[0]; !r.WillRetryUntil.Equal(b.start.Add(testPlan.Expire)) {
			t.Errorf("will retry until %v", r.WillRetryUntil)
		}
		b.until(time.Hour)
		b.wantTold("ann delayed 4.7.1", "ann failed 5.4.7, bob failed 5.4.7, cid failed 5.4.7")
		b.empty()
	})
}

// RFC 5321 4.5.5: nobody answers the null reverse-path; and a report that cannot
// be delivered is dropped.
func TestNullSender(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome { return refused }
		b.sendFrom(smtp.Path{}, "SUCCESS,FAILURE,DELAY:bob@x.example")
		b.send("bob@x.example") // its report to alice is refused
		b.until(time.Hour)
		if b.spool.reports != 1 {
			t.Errorf("%d reports, want that to alice", b.spool.reports)
		}
		if b.spool.answered > 0 { // RFC 5321 3.6.3: "the reverse-path MUST be set to null"
			t.Error("a report from somebody")
		}
		b.empty()
	})
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome { return greylist }
		b.sendFrom(smtp.Path{}, "DELAY:bob@x.example")
		b.until(time.Hour)
		b.want("0s x.example bob", "1m0s x.example bob", "6m0s x.example bob", "12m0s x.example bob")
		b.empty()
	})
}

func TestPanic(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		var n atomic.Int32
		b.answer = func(to smtp.Path) postrider.Outcome {
			if n.Add(1) == 1 {
				panic("a bug")
			}
			return ok
		}
		b.send("bob@x.example")
		b.until(time.Hour)
		if len(b.alarms) != 1 || b.attempts[0] != "1m0s x.example bob" {
			t.Errorf("alarms %q, attempts %q", b.alarms, b.attempts)
		}
		b.empty()
	})
}

// What an attempt came to is not forgotten while the spool cannot write.
func TestCommitFails(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return refused
			}
			return ok
		}
		full := errors.New("no space left")
		b.spool.onCommit = func(batch postrider.Batch) error {
			if len(batch.Settle) > 0 && time.Since(b.start) < 10*time.Minute {
				return full
			}
			return nil
		}
		b.send("bob@x.example", "cid@y.example")
		b.until(20 * time.Minute)
		if n := len(b.attempts); n != 3 {
			t.Errorf("attempts: %q", b.attempts)
		}
		b.wantTold("bob failed 5.1.1")
		b.empty()
		if len(b.alarms) == 0 || len(b.alarms) > 4 {
			t.Errorf("alarms: %q", b.alarms)
		}
	})
}

// A report whose ID is taken gets the next one, and people are told.
func TestReportIDTaken(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return refused
			}
			return ok
		}
		taken := reportID("00000000000000000001", 0)
		b.spool.onCommit = func(batch postrider.Batch) error {
			for _, a := range batch.Add {
				if a.Message.ID == taken {
					return postrider.ErrExists
				}
			}
			return nil
		}
		b.send("bob@x.example")
		b.until(time.Minute)
		b.wantTold("bob failed 5.1.1")
		if len(b.alarms) != 1 {
			t.Errorf("alarms: %q", b.alarms)
		}
	})
}

// A report that cannot be written for hours is written when it can be.
func TestReportFailsForHours(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return refused
			}
			return ok
		}
		b.spool.onCommit = func(batch postrider.Batch) error {
			if len(batch.Add) > 0 && len(batch.Settle) > 0 && time.Since(b.start) < 5*time.Hour {
				return errors.New("no space left")
			}
			return nil
		}
		b.send("bob@x.example")
		b.until(6 * time.Hour)
		b.wantTold("bob failed 5.1.1")
		b.empty()
	})
}

func TestBuiltInRoutes(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.routes["no.example"] = postrider.Route{Dest: "error", Via: postrider.ViaError, Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 2}, Text: "not here"}}
		b.routes["void.example"] = postrider.Route{Dest: "discard", Via: postrider.ViaDiscard}
		b.routes["odd.example"] = postrider.Route{Dest: "odd", Via: "carrier pigeon"}
		b.send("bob@no.example", "SUCCESS:cid@void.example")
		b.send("dan@odd.example")
		b.until(time.Second)
		b.wantTold("bob failed 5.1.2, cid delivered 2.0.0")
		if len(b.spool.msgs) != 1 || len(b.alarms) != 1 {
			t.Errorf("mail without a transport: %d messages kept, alarms %q", len(b.spool.msgs), b.alarms)
		}
	})
}

// Held mail is not tried and does not expire; released, it has its attempt
// first, however old it is.
func TestHold(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		hold := postrider.Route{Dest: postrider.DestHold, Via: postrider.ViaHold}
		b.routes["hold.example"] = hold
		b.routes["back.example"] = hold
		b.send("DELAY,FAILURE:bob@hold.example")
		b.send("cid@back.example")
		b.until(100 * time.Hour)
		b.want()
		if len(b.spool.msgs) != 2 {
			t.Fatal("held mail is gone")
		}
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "back.example" {
				return greylist
			}
			return ok
		}
		delete(b.routes, "hold.example")
		delete(b.routes, "back.example")
		b.queue.Rekey()
		b.until(101 * time.Hour)
		b.want("100h0m0s hold.example bob", "100h0m0s back.example cid", "100h0m0s home.example alice")
		b.wantTold("cid failed 5.4.7")
		b.empty()
	})
}

// Recipients of one destination with folders of their own: one delivery each.
func TestRoutesOfOneParcel(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.routes["local.example"] = postrider.Route{Dest: "maildir", Via: postrider.ViaMaildir}
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "bob" {
				return refused
			}
			return ok
		}
		b.send("ann@local.example", "bob@local.example")
		b.until(time.Second)
		b.want("0s local.example ann", "0s local.example bob", "0s home.example alice")
		b.wantTold("bob failed 5.1.1")
		b.empty()
	})
}

func TestDamage(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		var bad atomic.Bool
		bad.Store(true)
		b.spool.onOpen = func(postrider.ID) error {
			if bad.Load() {
				return errors.New("checksum")
			}
			return nil
		}
		b.send("bob@x.example")
		b.until(10 * time.Minute)
		b.want()
		if len(b.spool.msgs) != 1 || len(b.alarms) != 1 {
			t.Errorf("%d messages, alarms %q", len(b.spool.msgs), b.alarms)
		}
		bad.Store(false)
		b.until(2 * time.Hour)
		b.want("15m0s x.example bob")
		b.empty()
	})
}

// What the sender was told is not forgotten when the spool cannot read for a
// while, so that nobody hears twice that mail is late.
func TestDamageForgetsNothing(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		var bad atomic.Bool
		b.spool.onOpen = func(postrider.ID) error {
			if bad.Load() {
				return errors.New("input/output error")
			}
			return nil
		}
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "home.example" {
				return ok
			}
			return greylist
		}
		id := b.send("DELAY,FAILURE:bob@x.example")
		b.until(10 * time.Minute)
		bad.Store(true)
		b.until(20 * time.Minute)
		bad.Store(false)
		if r := b.spool.msgs[id].m.Recipients[0]; !r.Delayed || r.Tries < 2 {
			t.Errorf("%+v", r)
		}
		b.until(2 * time.Hour)
		b.wantTold("bob delayed 4.7.1", "bob failed 5.4.7")
		b.empty()
	})
}

// Mail that cannot be read holds no slot that other mail needs.
func TestDamageLeavesTheSlots(t *testing.T) {
	run(t, Limits{Workers: 1}, func(b *bench) {
		lost := b.send("bob@x.example")
		b.spool.mu.Lock()
		b.spool.onOpen = func(id postrider.ID) error {
			if id == lost {
				return errors.New("checksum")
			}
			return nil
		}
		b.spool.mu.Unlock()
		b.until(40 * time.Minute) // its time is over, and it is looked at
		b.send("cid@y.example")
		b.until(41 * time.Minute)
		b.want("40m0s y.example cid")
	})
}

// A disk that is full for a long time costs time and nothing else.
func TestCommitFailsForHours(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.spool.onCommit = func(batch postrider.Batch) error {
			if len(batch.Settle) > 0 && time.Since(b.start) < 5*time.Hour {
				return errors.New("no space left")
			}
			return nil
		}
		b.send("bob@x.example")
		b.until(6 * time.Hour)
		b.want("0s x.example bob")
		b.empty()
	})
}

func TestSpoolClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemSpool()
		q := New(Options{Spool: s, Router: func() postrider.Router { return table{} }})
		ended := make(chan error)
		go func() { ended <- q.Run(context.Background()) }()
		synctest.Wait()
		s.Close(context.Background())
		if err := <-ended; !errors.Is(err, postrider.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}
