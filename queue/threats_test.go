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
			Spool: s.spool, Router: func() postrider.Router { return table{} }, Plan: testPlan, Limits: limits, Now: s.now,
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
