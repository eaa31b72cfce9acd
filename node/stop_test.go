package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A still is a node without any network on a disk in memory, for a bubble.
type still struct {
	*Node
	t *testing.T

	mu    sync.Mutex
	lines []map[string]any // of the log
}

func (s *still) Write(p []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return len(p), nil
}

// said counts the lines of the log with such a message.
func (s *still) said(msg string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if strings.HasPrefix(fmt.Sprint(line["msg"]), msg) {
			n++
		}
	}
	return n
}

// startStill starts a node that takes mail for alice at our.example, and holds
// all other.
func startStill(t *testing.T, disk vfs.FS, load func() (*config.Config, error)) *still {
	t.Helper()
	cfg := config.Builtin("data")
	cfg.Listeners, cfg.Admin.Address, cfg.TLS = nil, "", config.TLS{SelfSigned: true}
	cfg.Domains[0].Name = "our.example"
	s := &still{t: t}
	var err error
	s.Node, err = New(cfg, Env{FS: disk, DNS: dns.NewZone(), Now: time.Now, Load: load,
		Rand: func(string) *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }, Log: slog.New(slog.NewJSONHandler(s, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *still) take(to ...string) {
	s.t.Helper()
	l := admin.Letter{From: mailbox(s.t, "bob@our.example"), Content: strings.NewReader("Subject: x\r\n\r\nx\r\n")}
	for _, addr := range to {
		l.To = append(l.To, mailbox(s.t, addr))
	}
	r, _ := s.submit(s.t.Context(), l)
	if !r.Positive() {
		s.t.Errorf("%s: %v", to, r)
	}
}

// mailsIn counts the files in the mailbox of alice.
func mailsIn(t *testing.T, disk *vfs.Mem) int {
	t.Helper()
	all, err := disk.ReadDir("data/mail/our.example/alice/new")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// A delivery that hangs in the disk does not keep the server from ending: what it
// had in hand is there at the next start, and is delivered once.
func TestStopLeavesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, back := vfs.NewMem(), make(chan struct{})
		hung := make(chan struct{}, 100)
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "mail/") && op.Kind.Changes() {
				hung <- struct{}{}
				<-back
			}
			return nil
		})
		s := startStill(t, disk, nil)
		s.take("alice@our.example")
		<-hung
		s.take("alice@our.example") // waits behind it
		ctx, cancel := context.WithTimeout(t.Context(), drainMax)
		defer cancel()
		began := time.Now()
		err := s.Stop(ctx)
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "do not end were left: 1") || took > drainMax {
			t.Errorf("after %v: %v", took, err)
		}
		if n := s.said("an attempt does not end"); n != 1 {
			t.Errorf("%d attempts are told", n)
		}
		looked := make(chan struct{})
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "mail/") && op.Kind.Changes() {
				<-looked // else it may be delivered before we look
			}
			return nil
		})
		next := startStill(t, disk, nil)
		if st := next.store.Stat(); st.Recipients != 2 {
			t.Errorf("after the start %+v", st)
		}
		close(looked)
		time.Sleep(10 * time.Minute)
		if n := mailsIn(t, disk); n != 2 {
			t.Errorf("%d files in the mailbox", n)
		}
		close(back) // the disk comes back to the attempts that were left
		synctest.Wait()
		if n := mailsIn(t, disk); n != 2 {
			t.Errorf("%d files in the mailbox in the end", n)
		}
		if err := next.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A spool that hangs is left too.
func TestStopLeavesTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, back := vfs.NewMem(), make(chan struct{})
		s := startStill(t, disk, nil)
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				<-back
			}
			return nil
		})
		var sender sync.WaitGroup
		sender.Go(func() {
			s.submit(context.Background(), admin.Letter{To: []smtp.Path{mailbox(t, "alice@our.example")}, Content: strings.NewReader("x\r\n")})
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err == nil || !strings.Contains(err.Error(), "close the spool") {
			t.Errorf("stop: %v", err)
		}
		close(back)
		sender.Wait()
	})
}

// While the log of the spool cannot be read, log, metrics and journal wait, and
// then tell everything once.
func TestFeedIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := startStill(t, disk, nil)
		const each = 3
		to := []string{"eve@far.example"}
		for i := range 50 { // so many that the feed does not have it in memory
			to = append(to, fmt.Sprintf("somebody.else.%d@far.example", i))
		}
		send := func() {
			for range each {
				s.take(to...)
				time.Sleep(time.Second)
			}
		}
		var mu sync.Mutex
		var fault error
		fail := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fault = err
		}
		disk.SetHook(func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind == vfs.OpRead && strings.Contains(op.Name, "/spool/") {
				return fault
			}
			return nil
		})
		for _, err := range []error{nil, syscall.EIO, syscall.ESTALE, nil} {
			fail(err)
			send()
			time.Sleep(5 * time.Minute)
		}
		fail(nil)
		time.Sleep(2 * feedRetryMax)
		if n := s.said("accepted"); n != 4*each {
			t.Errorf("%d lines about %d messages", n, 4*each)
		}
		if n := s.said("the feed of the spool cannot be read"); n != 4 { // two errors, two readers
			t.Errorf("%d alarms", n)
		}
		if n := s.said("the feed of the spool is read again"); n != 2 {
			t.Errorf("told %d times that it is read again", n)
		}
		var ids []postrider.ID
		for evs, err := range s.journal.Where(t.Context(), "eve@far.example", 100) {
			if err != nil {
				t.Fatal(err)
			}
			if n := count(evs, postrider.EventAccepted); n != 1 {
				t.Errorf("%s was accepted %d times", evs[0].ID, n)
			}
			ids = append(ids, evs[0].ID)
		}
		if len(ids) != 4*each || len(slices.Compact(ids)) != 4*each {
			t.Errorf("the journal knows %v", ids)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func count(evs []postrider.Event, kind postrider.EventKind) (n int) {
	for _, ev := range evs {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// Who may guess passwords without being put off is as the configuration says now.
func TestExemptFollowsAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) {
			next := *s.cfg
			next.Limits.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			return &next, nil
		})
		const noName = 400 // octets: none is as long, and no password is looked at
		guess := func(addr string) int {
			code := 0
			for range 12 {
				_, r := s.accounts.Verify(t.Context(), netip.MustParseAddr(addr), strings.Repeat("x", noName), "x")
				code = r.Code
			}
			return code
		}
		if code := guess("127.0.0.1"); code != 535 {
			t.Errorf("exempt, and hears %d", code)
		}
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if code := guess("127.0.0.1"); code != 454 {
			t.Errorf("no longer exempt, and hears %d", code)
		}
		if code := guess("192.0.2.7"); code != 535 {
			t.Errorf("exempt now, and hears %d", code)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A stop amid the reload of a long queue waits for the message at hand alone, and ends
// all else in order; at the next start what waits has the queues of the configuration.
func TestStopDuringALongRekey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		var slow atomic.Bool
		disk.SetHook(func(op vfs.Op) error {
			if slow.Load() && op.Kind == vfs.OpRead && strings.Contains(op.Name, "spool/seg") {
				time.Sleep(time.Second)
			}
			return nil
		})
		var s *still
		s = startStill(t, disk, func() (*config.Config, error) { return s.cfg, nil })
		for i := range 100 {
			s.take(fmt.Sprintf("u%d@far.example", i))
		}
		synctest.Wait()
		slow.Store(true)
		reloaded := make(chan error, 1)
		go func() {
			_, err := s.Reload(t.Context())
			reloaded <- err
		}()
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), drainMax)
		defer cancel()
		began := time.Now()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if err := <-reloaded; err != nil {
			t.Errorf("reload: %v", err)
		}
		if n := s.said("a reload does not end"); n != 0 {
			t.Error("the reload was left")
		}
		slow.Store(false)
		next := startStill(t, disk, nil)
		synctest.Wait()
		if all := next.store.Tally(); len(all) != 1 || all[0].Dest != next.dest(mailbox(t, "u@far.example")) || all[0].Queued+all[0].Active+all[0].Deferred+all[0].Held != 100 {
			t.Errorf("after the start %+v", all)
		}
		if err := next.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A reload that hangs in its file is left, and changes nothing when the file comes; all
// else ends in order, the queue at once.
func TestStopLeavesAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		var s *still
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) {
			<-back
			return s.cfg, nil
		})
		was := s.gen.Load()
		reloaded := make(chan error, 1)
		go func() {
			_, err := s.Reload(t.Context())
			reloaded <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), drainMax)
		defer cancel()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(ctx) }()
		synctest.Wait()
		if err := s.queue.Probe(t.Context()); err != postrider.ErrClosed {
			t.Errorf("the queue goes on while the reload is waited for: %v", err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if n := s.said("a reload does not end"); n != 1 {
			t.Errorf("told %d times that the reload was left", n)
		}
		close(back)
		if err := <-reloaded; err != errStopped || s.gen.Load() != was {
			t.Errorf("reload: %v", err)
		}
	})
}
