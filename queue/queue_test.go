package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// A bench is a queue on a spool in memory in a bubble, where peers answer as
// the test says.
type bench struct {
	t      *testing.T
	spool  *memSpool
	queue  *Queue
	routes table
	start  time.Time
	stop   context.CancelFunc
	ended  chan error

	mu       sync.Mutex
	attempts []string // "1m0s x.example bob,carol"
	running  map[postrider.Dest]int
	peak     map[postrider.Dest]int
	total    int
	peakAll  int
	inbox    []*dsn.Notice // reports that reached alice
	alarms   []string
	answer   func(to smtp.Path) postrider.Outcome
	took     func(d *postrider.Delivery) time.Duration // how long an attempt lasts
}

var (
	ok       = postrider.Outcome{Result: postrider.ResultDelivered, Reply: smtp.OK, Remote: "mx.example"}
	refused  = postrider.Outcome{Result: postrider.ResultFailed, Remote: "mx.example", Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no such user"}}
	greylist = postrider.Outcome{Remote: "mx.example", Reply: smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 7, Detail: 1}, Text: "come again"}}
	nobody   = postrider.Outcome{Scope: postrider.ScopeDest, Reply: smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 4, Detail: 1}, Text: "no host answers"}}
)

var testPlan = Plan{
	Retry:  []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute},
	Expire: 30 * time.Minute, ExpireBounce: 12 * time.Minute, DelayNotice: 8 * time.Minute,
}

func run(t *testing.T, limits Limits, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{
			t: t, spool: newMemSpool(), routes: table{}, start: time.Now(), ended: make(chan error, 1),
			running: map[postrider.Dest]int{}, peak: map[postrider.Dest]int{},
			answer: func(smtp.Path) postrider.Outcome { return ok },
			took:   func(*postrider.Delivery) time.Duration { return 0 },
		}
		b.queue = New(Options{
			Spool: b.spool, Router: func() postrider.Router { return b.routes }, Plan: testPlan, Limits: limits,
			Transports: map[postrider.Via]postrider.Transport{
				postrider.ViaMX: transport(b.deliver), postrider.ViaMaildir: transport(b.deliver),
			},
			Hostname: "mx1.example.org", Drain: 30 * time.Second,
			Alarm: func(what string, err error) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.alarms = append(b.alarms, what)
			},
		})
		ctx, stop := context.WithCancel(context.Background())
		b.stop = stop
		go func() { b.ended <- b.queue.Run(ctx) }()
		synctest.Wait()
		test(b)
		stop()
		if err := <-b.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(b.spool.doubled) > 0 {
			t.Errorf("leased twice: %v", b.spool.doubled)
		}
	})
}

func (b *bench) deliver(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
	var locals []string
	outcomes := make([]postrider.Outcome, len(d.Rcpts))
	for k, i := range d.Rcpts {
		locals = append(locals, d.Message.Recipients[i].To.Local)
		outcomes[k] = b.answer(d.Message.Recipients[i].To)
	}
	to := d.Message.Recipients[d.Rcpts[0]].To
	b.mu.Lock()
	b.total++
	b.running[d.Route.Dest]++
	b.peak[d.Route.Dest] = max(b.peak[d.Route.Dest], b.running[d.Route.Dest])
	b.peakAll = max(b.peakAll, b.total)
	b.attempts = append(b.attempts, fmt.Sprintf("%v %s %s", time.Since(b.start), to.Domain, strings.Join(locals, ",")))
	if d.Message.Null() && to.Local == "alice" {
		var raw bytes.Buffer
		raw.Write(d.Content.(*memContent).raw)
		n, err := dsn.Parse(&raw)
		if err != nil {
			b.t.Errorf("a report cannot be read: %v", err)
		}
		b.inbox = append(b.inbox, n)
	}
	b.mu.Unlock()
	if w := b.took(d); w > 0 && !sleep(ctx, w) {
		outcomes = nil
	}
	b.mu.Lock()
	b.total--
	b.running[d.Route.Dest]--
	b.mu.Unlock()
	return outcomes
}

// send accepts a message from alice to the given addresses, "local@domain" each,
// with an optional "NOTIFY:" before.
func (b *bench) send(rcpts ...string) postrider.ID {
	return b.sendFrom(smtp.Path{Local: "alice", Domain: "home.example"}, rcpts...)
}

func (b *bench) sendFrom(from smtp.Path, rcpts ...string) postrider.ID {
	b.t.Helper()
	d, err := b.spool.Create(context.Background(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	fmt.Fprintf(d, "Subject: test\r\n\r\nbody\r\n")
	m := &postrider.Message{ID: d.ID(), From: from, Arrived: time.Now(), Size: d.Size(), EnvID: "env"}
	for _, r := range rcpts {
		notify := smtp.Notify(0)
		if n, rest, found := strings.Cut(r, ":"); found {
			notify, _ = smtp.ParseNotify(n)
			r = rest
		}
		local, domain, _ := strings.Cut(r, "@")
		m.Recipients = append(m.Recipients, postrider.Recipient{
			To: smtp.Path{Local: local, Domain: domain}, Notify: notify, Due: time.Now(),
		})
	}
	err = b.spool.Commit(context.Background(), postrider.Batch{
		Add: []postrider.Addition{{Draft: d, Message: m, Wake: b.queue.FirstWake(m)}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return m.ID
}

// until lets the bubble run to a time after its start.
func (b *bench) until(d time.Duration) {
	time.Sleep(time.Until(b.start.Add(d)))
	synctest.Wait()
}

// want compares what was attempted.
func (b *bench) want(attempts ...string) {
	b.t.Helper()
	if diff := cmp.Diff(attempts, b.attempts); diff != "" {
		b.t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

// told is what the reports said, one string for each: "bob failed 5.1.1, …".
func (b *bench) told() []string {
	var all []string
	for _, n := range b.inbox {
		var s []string
		for _, r := range n.Recipients {
			s = append(s, fmt.Sprintf("%s %s %s", r.Final.Local, r.Action, r.Status))
		}
		all = append(all, strings.Join(s, ", "))
	}
	return all
}

func (b *bench) wantTold(reports ...string) {
	b.t.Helper()
	if diff := cmp.Diff(reports, b.told()); diff != "" {
		b.t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func (b *bench) empty() {
	b.t.Helper()
	if n := len(b.spool.msgs); n > 0 {
		b.t.Errorf("%d messages are left in the spool", n)
	}
}

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
		alive := false
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "dead.example" && !alive {
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
		alive, b.attempts = true, nil
		b.until(20 * time.Minute)
		if len(b.attempts) != 10 || b.attempts[0] != "16m6s dead.example u4" || b.attempts[1][:5] != "16m8s" {
			t.Errorf("after it came back: %q", b.attempts)
		}
		b.empty()
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
		n := 0
		b.answer = func(to smtp.Path) postrider.Outcome {
			if n++; n == 1 {
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
		b.send("bob@x.example", "cid@y.example")
		full := errors.New("no space left")
		b.spool.onCommit = func(postrider.Batch) error {
			if time.Since(b.start) < 10*time.Minute {
				return full
			}
			return nil
		}
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
		id := b.send("bob@x.example")
		taken := reportID(id, 0)
		b.spool.onCommit = func(batch postrider.Batch) error {
			for _, a := range batch.Add {
				if a.Message.ID == taken {
					return postrider.ErrExists
				}
			}
			return nil
		}
		b.until(time.Minute)
		b.wantTold("bob failed 5.1.1")
		if len(b.alarms) != 1 {
			t.Errorf("alarms: %q", b.alarms)
		}
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
		bad := true
		b.spool.onOpen = func(postrider.ID) error {
			if bad {
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
		bad = false
		b.until(2 * time.Hour)
		b.want("15m0s x.example bob")
		b.empty()
	})
}

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
