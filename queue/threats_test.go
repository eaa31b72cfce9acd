package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// A site is a queue on a real spool in a bubble, whose wall clock the test sets.
type site struct {
	t     *testing.T
	spool *spool.Spool
	queue *Queue
	start time.Time

	mu       sync.Mutex
	wrong    time.Duration // of the wall clock
	alarms   []string
	attempts []string // "1m0s x.example"
	answer   func(to smtp.Path) postrider.Outcome
	rotten   postrider.ID // what cannot be read; empty: all can
}

func (s *site) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.wrong)
}

// jump sets the wall clock.
func (s *site) jump(wrong time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = wrong
}

func onSpool(t *testing.T, limits Limits, test func(s *site)) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, start: time.Now(), answer: func(smtp.Path) postrider.Outcome { return ok }}
		var err error
		s.spool, err = spool.Open(t.Context(), spool.Options{FS: vfs.NewMem(), Dir: "spool", Now: s.now, Rand: rand.New(rand.NewPCG(1, 2))})
		if err != nil {
			t.Fatal(err)
		}
		s.queue = New(Options{
			Spool: rotSpool{s.spool, s}, Router: func() postrider.Router { return table{} }, Plan: testPlan, Limits: limits, Now: s.now,
			Transports: map[postrider.Via]postrider.Transport{postrider.ViaMX: transport(s.deliver)}, Hostname: "mx1.example.org",
			Alarm: func(what string, err error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.alarms = append(s.alarms, what)
			},
		})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.queue.Run(ctx) }()
		synctest.Wait()
		test(s)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := s.spool.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

func (s *site) deliver(_ context.Context, d *postrider.Delivery) []postrider.Outcome {
	to := d.Message.Recipients[d.Rcpts[0]].To
	s.mu.Lock()
	s.attempts = append(s.attempts, fmt.Sprintf("%v %s", time.Since(s.start).Round(time.Second), to.Domain))
	answer := s.answer
	s.mu.Unlock()
	outcomes := make([]postrider.Outcome, len(d.Rcpts))
	for k, i := range d.Rcpts {
		outcomes[k] = answer(d.Message.Recipients[i].To)
	}
	return outcomes
}

// tried is when a domain was tried.
func (s *site) tried(domain string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var when []string
	for _, a := range s.attempts {
		if at, to, _ := strings.Cut(a, " "); to == domain {
			when = append(when, at)
		}
	}
	return strings.Join(when, " ")
}

func (s *site) send(rcpts ...string) postrider.ID {
	s.t.Helper()
	d, err := s.spool.Create(context.Background(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(d, "Subject: test\r\n\r\nbody\r\n")
	m := &postrider.Message{ID: d.ID(), From: smtp.Path{Local: "alice", Domain: "home.example"}, Arrived: s.now(), Size: d.Size()}
	for _, r := range rcpts {
		local, domain, _ := strings.Cut(r, "@")
		m.Recipients = append(m.Recipients, postrider.Recipient{To: smtp.Path{Local: local, Domain: domain}, Due: s.now()})
	}
	err = s.spool.Commit(context.Background(), postrider.Batch{
		Add: []postrider.Addition{{Draft: d, Message: m, Wake: s.queue.FirstWake(m)}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return m.ID
}

// queued returns what the spool knows of a message; nil: nothing any more.
func (s *site) queued(id postrider.ID) *postrider.Message {
	s.t.Helper()
	for m, err := range s.spool.Scan(context.Background()) {
		if err != nil {
			s.t.Fatal(err)
		}
		if m.ID == id {
			return m
		}
	}
	return nil
}

func (s *site) amend(id postrider.ID, do postrider.Amend) {
	s.t.Helper()
	err := s.spool.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: do}}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// until lets the bubble run to a time after its start.
func (s *site) until(d time.Duration) {
	time.Sleep(time.Until(s.start.Add(d)))
	synctest.Wait()
}

// A message that makes a transport panic is set aside after the third time; its
// other recipients and all other mail go on, and it goes when it is released.
func TestPanicThrice(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "evil" {
				panic("a bug")
			}
			return ok
		}
		id := s.send("evil@x.example", "bob@y.example")
		s.until(5 * time.Minute)
		s.send("carol@x.example")
		s.until(time.Hour)
		m := s.queued(id)
		if m == nil {
			t.Fatal("the message is gone")
		}
		r := m.Recipients[0]
		if !r.Held || r.State != postrider.Waiting || r.Tries != 3 || r.Reply.Code != 451 || !strings.Contains(r.Reply.Text, "3 times, and it is held") {
			t.Errorf("after three panics: %+v", r)
		}
		if got := s.tried("x.example"); got != "0s 1m0s 5m0s 6m0s" || s.tried("y.example") != "0s" {
			t.Errorf("tried %s and %s", got, s.tried("y.example"))
		}
		if got := strings.Count(strings.Join(s.alarms, "\n"), "is set aside"); got != 1 || len(s.alarms) != 4 {
			t.Errorf("alarms: %q", s.alarms)
		}
		s.mu.Lock()
		s.answer = func(smtp.Path) postrider.Outcome { return ok }
		s.mu.Unlock()
		s.amend(id, postrider.AmendRelease)
		s.until(2 * time.Hour)
		if m := s.queued(id); m != nil {
			t.Errorf("released, and still there: %+v", m.Recipients)
		}
	})
}

// A panic outside of the transports ends the lease, and the process goes on.
func TestPanicElsewhere(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		var n int
		b.spool.onOpen = func(postrider.ID) error {
			if n++; n <= 2 {
				panic("a bug")
			}
			return nil
		}
		b.send("bob@x.example")
		b.until(time.Minute)
		b.send("carol@y.example")
		b.until(time.Hour)
		b.want("15m0s x.example bob", "16m0s y.example carol")
		b.empty()
		if len(b.alarms) != 2 {
			t.Errorf("alarms: %q", b.alarms)
		}
	})
}

// A clock that jumps far ahead for a while ends nobody's mail, tells nobody of a
// delay, and leaves nothing behind that waits for the day it has shown.
func TestClockJumpsAhead(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(to smtp.Path) postrider.Outcome {
			switch {
			case to.Domain == "dead.example":
				return nobody
			case to.Domain != "home.example" && time.Since(s.start) < 25*time.Minute:
				return greylist
			}
			return ok
		}
		id := s.send("bob@x.example", "DELAY@y.example")
		dead := s.send("bob@dead.example")
		s.until(7 * time.Minute)
		s.jump(24 * time.Hour)
		s.until(12 * time.Minute)
		for _, id := range []postrider.ID{id, dead} {
			m := s.queued(id)
			if m == nil {
				t.Fatal("given up for a day that has not been")
			}
			for _, r := range m.Recipients {
				if r.State != postrider.Waiting || r.Delayed {
					t.Errorf("%v: %+v", r.To, r)
				}
			}
		}
		s.jump(0)
		s.until(31 * time.Minute)
		if m := s.queued(id); m != nil {
			t.Errorf("still there: %+v", m.Recipients)
		}
		if s.queued(dead) == nil {
			t.Error("given up before its time")
		}
		s.until(3 * time.Hour)
		if s.queued(dead) != nil {
			t.Error("never given up")
		}
		if got := s.tried("home.example"); len(strings.Fields(got)) != 1 {
			t.Errorf("the sender was told at %s", got)
		}
		if n := strings.Count(strings.Join(s.alarms, "\n"), "clock has jumped"); n != 2 {
			t.Errorf("alarms: %q", s.alarms)
		}
	})
}

// A clock that was wrong and is set right, forward, is believed after an hour.
func TestClockStaysAhead(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(to smtp.Path) postrider.Outcome {
			switch to.Domain {
			case "home.example":
				return ok
			case "dead.example":
				return nobody
			}
			return greylist
		}
		const dead = 20 // more than are probed
		for range dead {
			s.send("bob@dead.example")
		}
		s.queue.Change(Plan{Retry: testPlan.Retry}, smtp.Path{})
		id := s.send("bob@x.example")
		s.until(7 * time.Minute)
		s.jump(365 * 24 * time.Hour)
		s.until(time.Hour)
		if s.queued(id) == nil {
			t.Error("given up at once")
		}
		s.until(150 * time.Minute)
		if told := len(strings.Fields(s.tried("home.example"))); s.queued(id) != nil || told != 1+dead {
			t.Errorf("never given up: %d reports", told)
		}
	})
}

// A clock that is set back does not put off what waits by as much.
func TestClockSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Second, 11 * time.Minute, 25 * time.Hour, 20 * 365 * 24 * time.Hour} {
		t.Run(back.String(), func(t *testing.T) {
			onSpool(t, Limits{}, func(s *site) {
				s.answer = func(to smtp.Path) postrider.Outcome {
					if time.Since(s.start) < 2*time.Minute {
						if to.Domain == "dead.example" {
							return nobody
						}
						return greylist
					}
					return ok
				}
				id, dead := s.send("bob@x.example"), s.send("bob@dead.example")
				s.until(3 * time.Minute)
				s.jump(-back)
				s.until(3*time.Minute + time.Second)
				fresh := s.send("carol@z.example")
				s.until(20 * time.Minute)
				for _, id := range []postrider.ID{id, dead, fresh} {
					if m := s.queued(id); m != nil {
						t.Errorf("%v still waits: %+v", m.Recipients[0].To, m.Recipients[0])
					}
				}
			})
		})
	}
}

// What is called back waits as long as after its last attempt: a clock that is set back
// is no reason to try sooner what was tried often.
func TestCalledBackByItsTries(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(smtp.Path) postrider.Outcome { return greylist }
		s.send("bob@x.example") // tried after 0, 1 and 6 minutes, and by the plan 10 later
		s.until(7 * time.Minute)
		s.jump(-25 * time.Hour)
		s.until(25 * time.Minute)
		at := strings.Fields(s.tried("x.example"))
		if len(at) != 4 {
			t.Fatalf("tried at %q", at)
		}
		if last, err := time.ParseDuration(at[3]); err != nil || last < 15*time.Minute || last > 20*time.Minute {
			t.Errorf("tried at %q", at)
		}
	})
}

// After a start with everything due at once no more attempts are under way than
// may be at destinations that nobody has heard of, nothing waits for its turn longer
// than that takes, and what is put off does not come back in one moment.
func TestRestartStorm(t *testing.T) {
	limits := Limits{Workers: 20, PerDest: 5}
	onSpool(t, limits, func(s *site) {
		const n = 400
		s.queue.seed, s.queue.opt.Rand = 7, rand.New(rand.NewPCG(3, 4))
		s.queue.Change(Plan{Retry: []time.Duration{10 * time.Minute}}, smtp.Path{})
		var running, most int
		var second = map[time.Duration]int{} // of second attempts
		s.answer = func(to smtp.Path) postrider.Outcome {
			s.mu.Lock()
			running++
			most = max(most, running)
			if time.Since(s.start) > time.Hour+35*time.Second {
				second[time.Since(s.start).Round(time.Second)]++
			}
			s.mu.Unlock()
			time.Sleep(time.Second)
			s.mu.Lock()
			running--
			s.mu.Unlock()
			if time.Since(s.start) < time.Hour+35*time.Second {
				return greylist
			}
			return ok
		}
		s.spool.Rekey(func(smtp.Path) postrider.Dest { return postrider.DestHold }) // as if we had been off
		for i := range n {
			s.send(fmt.Sprintf("u@d%d.example", i))
		}
		s.until(time.Hour)
		s.queue.Rekey()
		s.until(time.Hour + 28*time.Second)
		s.mu.Lock()
		if len(s.attempts) != n || most != limits.Workers*3/4 {
			t.Errorf("%d attempts, at most %d at a time", len(s.attempts), most)
		}
		s.mu.Unlock()
		s.until(2 * time.Hour)
		s.mu.Lock()
		defer s.mu.Unlock()
		peak, waves := 0, len(second)
		for _, k := range second {
			peak = max(peak, k)
		}
		if peak > limits.Workers || waves < 60 {
			t.Errorf("at most %d in a second, in %d seconds", peak, waves)
		}
	})
}

// A doubt begins with a jump forward, grows with the next, shrinks with one back,
// and ends after an hour.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := time.Duration(0)
		c := newClock(func() time.Time { return time.Now().Add(wrong) })
		for i, step := range []struct{ passes, wrong, doubt, jump time.Duration }{
			{time.Minute, 0, 0, 0},
			{time.Hour, time.Minute, 0, 0},
			{time.Minute, 2 * time.Hour, 119 * time.Minute, 119 * time.Minute},
			{time.Minute, 5 * time.Hour, 299 * time.Minute, 180 * time.Minute},
			{59 * time.Minute, 4 * time.Hour, 239 * time.Minute, -time.Hour},
			{2 * time.Minute, 4 * time.Hour, 0, 0},
			{time.Minute, 0, 0, -4 * time.Hour},
			{time.Minute, time.Hour, time.Hour, time.Hour},
			{time.Minute, -9 * time.Hour, 0, -10 * time.Hour},
		} {
			time.Sleep(step.passes)
			wrong = step.wrong
			now, doubt, jump := c.look()
			if doubt != step.doubt || jump != step.jump || !now.Equal(time.Now().Add(wrong)) {
				t.Errorf("step %d: %v, doubt %v, jump %v", i, now, doubt, jump)
			}
		}
	})
}

// What its sender holds back (RFC 4865) is not called back when the clock was set back.
func TestClockSetBackReleasesNothing(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		id := s.send("bob@x.example")
		s.until(time.Minute)
		d, err := s.spool.Create(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(d, "Subject: later\r\n\r\n\r\n")
		release := s.now().Add(48 * time.Hour)
		m := &postrider.Message{ID: d.ID(), From: smtp.Path{Local: "alice", Domain: "home.example"}, Arrived: s.now(), Size: d.Size(), Release: release,
			Recipients: []postrider.Recipient{{To: smtp.Path{Local: "bob", Domain: "x.example"}, Due: release}}}
		err = s.spool.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m, Wake: s.queue.FirstWake(m)}}})
		if err != nil {
			t.Fatal(err)
		}
		s.until(3 * time.Minute)
		s.jump(-time.Hour)
		s.until(20 * time.Minute)
		if got := s.queued(m.ID); got == nil || !got.Recipients[0].Due.Equal(release) || got.Recipients[0].Tries != 0 {
			t.Errorf("it is %+v", got)
		}
		if s.queued(id) != nil {
			t.Error("the other still waits")
		}
	})
}
