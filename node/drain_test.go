package node

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// Who is in the middle of a message when the node is told to end, as by a signal, may
// finish it: the message is taken, and he hears 421 after it. RFC 5321 3.8: a server closes
// the connection "After detecting the need to shut down the SMTP service and returning a
// 421 response code."
func TestEndLetsMessagesFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s, network := startPiped(t, disk, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Wait(ctx) }()
		c, r := network.client()
		if r.Code != 220 {
			t.Fatal(r)
		}
		defer c.Close()
		for _, line := range []string{"EHLO x.example", "MAIL FROM:<s@x.example>", "RCPT TO:<r@our.example>", "DATA"} {
			if r := c.say(line); !r.Positive() && !r.Intermediate() {
				t.Fatalf("%s: %v", line, r)
			}
		}
		cancel()
		time.Sleep(drainMax - closeTime - time.Second)
		if len(ended) > 0 {
			t.Error("ended amid a message")
		}
		if page := network.page(t, "http://127.0.0.1:8025/healthz"); page == "ok\n" {
			t.Error("well, and no longer there for anybody new")
		}
		if r, _ := s.submit(t.Context(), admin.Letter{To: []smtp.Path{mailbox(t, "r@our.example")}, Content: unread{t}}); r.Code != 421 {
			t.Errorf("a program that comes now hears %v", r)
		}
		if r := c.say("Subject: late\r\n\r\nx\r\n."); r.Code != 250 {
			t.Errorf("the message under way: %v", r)
		}
		if r := c.reply(); r.Code != 421 {
			t.Errorf("after the message: %v", r)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := s.said("sessions were cut off"); n != 0 {
			t.Error("sessions were cut off")
		}
		next, _ := startPiped(t, disk, nil)
		if st := next.store.Stat(); st.Recipients != 1 {
			t.Errorf("after the next start %d wait", st.Recipients)
		}
		if err := next.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An attempt that waits for the answer to its final dot when the node is told to end waits
// for it still: mail that the host has taken is not due again, and does not come twice.
func TestEndLetsAttemptsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		host := &slowPeer{at: make(chan struct{}), answer: make(chan string)}
		s, network := startPiped(t, disk, func(cfg *config.Config) {
			cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "192.0.2.9", Port: 25, Private: true, TLS: postrider.TLSNone}
		})
		network.mu.Lock()
		network.beyond = func(conn net.Conn) {
			defer conn.Close()
			host.serve(conn)
		}
		network.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Wait(ctx) }()
		s.take("bob@far.example")
		<-host.at
		cancel()
		time.Sleep(attemptDrain - time.Second)
		host.answer <- "250 2.0.0 taken"
		if err := <-ended; err != nil {
			t.Error(err)
		}
		next, _ := startPiped(t, disk, nil)
		if st := next.store.Stat(); st.Recipients != 0 {
			t.Errorf("taken by the host, and after the next start %d wait", st.Recipients)
		}
		if err := next.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Who asks for a reload when a stop has begun, or is over, hears at once that there is
// nothing to reload, however long he would wait.
func TestReloadWhenStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, back := vfs.NewMem(), make(chan struct{})
		s := startStill(t, disk, nil)
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "mail/") && op.Kind.Changes() {
				<-back
			}
			return nil
		})
		s.take("alice@our.example")
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
		synctest.Wait() // it waits for the delivery
		reload := func(when string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			if _, err := s.Reload(ctx); err != errStopped || time.Since(began) > 0 {
				t.Errorf("%s, after %v: %v", when, time.Since(began), err)
			}
		}
		if len(stopped) > 0 {
			t.Fatal("stopped amid a delivery")
		}
		reload("amid the stop")
		close(back)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		reload("after the stop")
	})
}

// A journal whose disk takes nothing does not hold a stop up, and no file of it is left
// open: what it could not write it hears again after the next start.
func TestStopWithAFullJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s := startStill(t, disk, nil)
		s.take("eve@far.example")
		time.Sleep(time.Minute) // it is written
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "/journal/") && op.Kind.Changes() {
				return syscall.ENOSPC
			}
			return nil
		})
		s.take("eve@far.example")
		time.Sleep(10 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), drainMax)
		defer cancel()
		began := time.Now()
		err, took, open := s.Stop(ctx), time.Since(began), disk.Opened()
		disk.SetHook(nil)
		time.Sleep(time.Minute) // what was left would end now
		if err != nil || took > time.Second || open != 0 {
			t.Fatalf("after %v: %v, and %d files were open", took, err, open)
		}
		next := startStill(t, disk, nil)
		time.Sleep(time.Minute)
		told := 0
		for evs, err := range next.journal.Where(t.Context(), "eve@far.example", 100) {
			if err != nil {
				t.Fatal(err)
			}
			told += count(evs, postrider.EventAccepted)
		}
		if told != 2 {
			t.Errorf("the journal has %d messages of 2", told)
		}
		if err := next.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
