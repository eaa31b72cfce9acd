package queue

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
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
	limits   map[postrider.Dest]postrider.Limits
}

// limit makes another configuration hold.
func (b *bench) limit(d postrider.Dest, l postrider.Limits) {
	b.mu.Lock()
	b.limits[d] = l
	b.mu.Unlock()
	b.queue.Rekey()
	if err := b.queue.Probe(b.t.Context()); err != nil {
		b.t.Error(err)
	}
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
			limits: map[postrider.Dest]postrider.Limits{},
		}
		b.queue = New(Options{
			Spool: b.spool, Router: func() postrider.Router { return b.routes }, Plan: testPlan, Limits: limits,
			Transports: map[postrider.Via]postrider.Transport{
				postrider.ViaMX: transport(b.deliver), postrider.ViaMaildir: transport(b.deliver),
			},
			LimitsOf: func(d postrider.Dest) postrider.Limits {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.limits[d]
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
	b.mu.Lock() // what the test wrote before it slept
	answer, took := b.answer, b.took
	b.mu.Unlock()
	var locals []string
	outcomes := make([]postrider.Outcome, len(d.Rcpts))
	for k, i := range d.Rcpts {
		locals = append(locals, d.Message.Recipients[i].To.Local)
		outcomes[k] = answer(d.Message.Recipients[i].To)
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
		if n := d.Message.Recipients[0].Notify; n != smtp.NotifyNever {
			b.t.Errorf("a report with NOTIFY=%v", n)
		}
		eight := bytes.ContainsFunc(d.Content.(*memContent).raw, func(r rune) bool { return r > unicode.MaxASCII })
		if m := d.Message; m.EightBit != eight || m.UTF8 != eight {
			b.t.Errorf("a report of which it is said EightBit %v, UTF8 %v, and it is: %v", m.EightBit, m.UTF8, eight)
		}
		b.inbox = append(b.inbox, n)
	}
	b.mu.Unlock()
	if w := took(d); w > 0 && !sleep(ctx, w) {
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
	return b.sendAs(func(m *postrider.Message) { m.From = from }, rcpts...)
}

// sendAs is send of a message that set has changed.
func (b *bench) sendAs(set func(m *postrider.Message), rcpts ...string) postrider.ID {
	b.t.Helper()
	d, err := b.spool.Create(context.Background(), "")
	if err != nil {
		b.t.Fatal(err)
	}
	fmt.Fprintf(d, "Subject: test\r\n\r\nbody\r\n")
	m := &postrider.Message{ID: d.ID(), From: smtp.Path{Local: "alice", Domain: "home.example"}, Arrived: time.Now(), Size: d.Size(), EnvID: "env"}
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
	set(m)
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
	b.mu.Lock() // the race detector knows locks, and not the clock of a bubble
	start := b.start
	b.mu.Unlock()
	time.Sleep(time.Until(start.Add(d)))
	synctest.Wait()
}

// want compares what was attempted. Within an instant there is no order.
func (b *bench) want(attempts ...string) {
	b.t.Helper()
	if diff := gocmp.Diff(inOrder(attempts), inOrder(b.attempts)); diff != "" {
		b.t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func inOrder(attempts []string) []string {
	at := func(s string) time.Duration {
		d, err := time.ParseDuration(s[:strings.IndexByte(s, ' ')])
		if err != nil {
			panic(err)
		}
		return d
	}
	return slices.SortedFunc(slices.Values(attempts), func(a, b string) int {
		return cmp.Or(cmp.Compare(at(a), at(b)), strings.Compare(a, b))
	})
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
	if diff := gocmp.Diff(reports, b.told()); diff != "" {
		b.t.Errorf("reports (-want +got):\n%s", diff)
	}
}

func (b *bench) empty() {
	b.t.Helper()
	if n := len(b.spool.msgs); n > 0 {
		b.t.Errorf("%d messages are left in the spool", n)
	}
}
