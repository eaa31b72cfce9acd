package queue

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// A walk is a few hours of random mail to random peers. What a peer does depends
// on the seed, the recipient and the count of its attempts, not on the order of
// goroutines.
type walk struct {
	t     *testing.T
	seed  uint64
	start time.Time
	spool postrider.Spool
	queue *Queue

	mu      sync.Mutex
	rcpts   map[smtp.Path]*fate
	running map[postrider.Dest]int
}

// A fate is what became of a recipient, from the side of the peers and of the
// sender.
type fate struct {
	null             bool
	notify           smtp.Notify
	attempts         int
	delivered, ended bool
	told             map[dsn.Action]int
}

const walkPerDest = 3

func (w *walk) rand(key string, n int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, n)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// deadAt reports whether nobody answers at a domain now: two hours in each, and
// one domain for ever.
func (w *walk) deadAt(domain string) bool {
	since := time.Since(w.start)
	return domain == "d0.example" || domain == "d1.example" && since > 10*time.Minute && since < 40*time.Minute
}

func (w *walk) deliver(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
	w.mu.Lock()
	if w.running[d.Route.Dest]++; w.running[d.Route.Dest] > walkPerDest {
		w.t.Errorf("%d attempts at %s at a time", w.running[d.Route.Dest], d.Route.Dest)
	}
	var outcomes []postrider.Outcome
	var last time.Duration
	for _, i := range d.Rcpts {
		o, took := w.answer(d, d.Message.Recipients[i].To)
		outcomes, last = append(outcomes, o), max(last, took)
	}
	w.mu.Unlock()
	sleep(ctx, last)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[d.Route.Dest]--
	if r := w.rand(string(d.Message.ID), d.Message.Recipients[d.Rcpts[0]].Tries); len(d.Rcpts) == 1 && r.IntN(20) == 0 {
		if f := w.rcpts[d.Message.Recipients[d.Rcpts[0]].To]; f != nil && !f.ended {
			panic("a bug")
		}
	}
	return outcomes
}

// answer is what a peer says to one recipient, with the lock held.
func (w *walk) answer(d *postrider.Delivery, to smtp.Path) (postrider.Outcome, time.Duration) {
	if to.Domain == "home.example" {
		w.report(d)
		return ok, 0
	}
	f := w.rcpts[to]
	f.attempts++
	if f.ended {
		w.t.Errorf("%v was attempted after its end", to)
	}
	r := w.rand(to.Local, f.attempts)
	took := time.Duration(r.IntN(90)) * time.Second
	switch n := r.IntN(10); {
	case w.deadAt(to.Domain):
		return nobody, took
	case n < 3:
		f.delivered, f.ended = true, true
		return ok, took
	case n < 4:
		f.ended = true
		return refused, took
	case n < 5:
		return postrider.Outcome{}, took
	}
	return greylist, took
}

// report takes a report in for the senders.
func (w *walk) report(d *postrider.Delivery) {
	n, err := dsn.Parse(d.Content.Reader())
	if err != nil {
		w.t.Errorf("a report cannot be read: %v", err)
		return
	}
	for _, r := range n.Recipients {
		w.rcpts[r.Final].told[r.Action]++
	}
}

// send accepts one random message.
func (w *walk) send(r *rand.Rand, n int) {
	d, err := w.spool.Create(context.Background(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	io.WriteString(d, "Subject: test\r\n\r\nbody\r\n")
	m := &postrider.Message{ID: d.ID(), Arrived: time.Now(), Size: d.Size()}
	if r.IntN(8) > 0 {
		m.From = smtp.Path{Local: "alice", Domain: "home.example"}
	}
	w.mu.Lock()
	for k := range 1 + r.IntN(6) {
		to := smtp.Path{Local: fmt.Sprintf("u%d-%d", n, k), Domain: fmt.Sprintf("d%d.example", r.IntN(5))}
		f := &fate{null: m.Null(), told: map[dsn.Action]int{}}
		f.notify = []smtp.Notify{0, 0, smtp.NotifyNever, smtp.NotifySuccess, smtp.NotifyFailure | smtp.NotifyDelay,
			smtp.NotifySuccess | smtp.NotifyFailure | smtp.NotifyDelay}[r.IntN(6)]
		w.rcpts[to] = f
		m.Recipients = append(m.Recipients, postrider.Recipient{To: to, Notify: f.notify, Due: m.Arrived})
	}
	w.mu.Unlock()
	add := postrider.Addition{Draft: d, Message: m, Wake: w.queue.FirstWake(m)}
	if err := w.spool.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{add}}); err != nil {
		w.t.Fatal(err)
	}
}

// check holds every recipient to the rules: one end, and exactly the reports
// that are owed.
func (w *walk) check() {
	for to, f := range w.rcpts {
		want := map[dsn.Action]int{}
		asked := func(n smtp.Notify) bool { return !f.null && f.notify&n != 0 }
		if f.delivered && asked(smtp.NotifySuccess) {
			want[dsn.Relayed] = 1
		}
		if !f.delivered && (asked(smtp.NotifyFailure) || !f.null && f.notify == 0) {
			want[dsn.Failed] = 1
		}
		for _, a := range []dsn.Action{dsn.Failed, dsn.Delivered, dsn.Relayed} {
			if f.told[a] != want[a] {
				w.t.Errorf("%v (NOTIFY %v, null %v, delivered %v, %d attempts): told %v %d times", to, f.notify, f.null, f.delivered, f.attempts, a, f.told[a])
			}
		}
		if n := f.told[dsn.Delayed]; n > 1 || n > 0 && !asked(smtp.NotifyDelay) {
			w.t.Errorf("%v (NOTIFY %v): told %d times that it is late", to, f.notify, n)
		}
	}
}

func walkOnce(t *testing.T, seed uint64, open func() postrider.Spool, left func() int) {
	synctest.Test(t, func(t *testing.T) {
		w := &walk{t: t, seed: seed, start: time.Now(), spool: open(), rcpts: map[smtp.Path]*fate{}, running: map[postrider.Dest]int{}}
		w.queue = New(Options{
			Spool: w.spool, Router: func() postrider.Router { return table{} }, Hostname: "mx1.example.org", Plan: testPlan,
			Transports: map[postrider.Via]postrider.Transport{postrider.ViaMX: transport(w.deliver)},
			Limits:     Limits{Workers: 12, PerDest: walkPerDest, MaxRcpts: 2}, Rand: rand.New(rand.NewPCG(seed, 1)),
		})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- w.queue.Run(ctx) }()
		synctest.Wait()
		r := w.rand("messages", 0)
		for n := range 60 {
			w.send(r, n)
			time.Sleep(time.Duration(r.IntN(60)) * time.Second)
		}
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if n := left(); n > 0 {
			t.Errorf("seed %d: %d messages are left", seed, n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		w.check()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		w.spool.Close(context.Background())
	})
}

func TestWalk(t *testing.T) {
	for seed := range uint64(20) {
		var s *memSpool
		walkOnce(t, seed, func() postrider.Spool { s = newMemSpool(); return s }, func() int { return len(s.msgs) })
		if len(s.doubled) > 0 {
			t.Fatalf("seed %d: leased twice: %v", seed, slices.Compact(s.doubled))
		}
	}
}
