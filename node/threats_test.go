package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// The HTTP address has a bounded number of connections: who holds all of them
// keeps others from the metrics for a moment, and takes nothing from the mail.
func TestAdminIsBounded(t *testing.T) {
	w := start(t, base(t.TempDir()), nil)
	addr := w.AdminAddr().String()
	open := 0
	var held []net.Conn
	for range 3 * callersEach {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
		// One that has no place is closed; one that has keeps it after its answer.
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if n, _ := c.Read(make([]byte, 1)); err == nil && n == 1 {
			open++
		}
	}
	if open != callersEach {
		t.Errorf("%d connections of %d were served, want %d", open, len(held), callersEach)
	}
	for _, c := range held {
		c.Close()
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for begin := time.Now(); ; {
		r, err := client.Get("http://" + addr + "/healthz")
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if string(body) != "ok\n" {
				t.Errorf("health is %q", body)
			}
			break
		}
		if time.Since(begin) > patience {
			t.Fatalf("nobody is served any more: %v", err)
		}
	}
}

// A starved listener has no descriptor for a connection, for a while.
type starved struct {
	net.Listener
	asked, starve atomic.Int32
}

func (l *starved) Accept() (net.Conn, error) {
	l.asked.Add(1)
	if l.starve.Load() > 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// Closed ends Accept.
type closed struct{ over chan struct{} }

func (l closed) Accept() (net.Conn, error) { <-l.over; return nil, net.ErrClosed }
func (l closed) Close() error              { close(l.over); return nil }
func (l closed) Addr() net.Addr            { return &net.TCPAddr{} }

// A lack of descriptors does not make the socket between the listener and its
// server turn in a loop.
func TestAcceptDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &starved{Listener: closed{make(chan struct{})}}
		l.starve.Store(1)
		s := newSocket(l)
		s.open()
		alarms := 0
		server := &smtpd.Server{Alarm: func(err error) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Error(err)
			}
			alarms++
		}}
		served := make(chan error, 1)
		go func() { served <- server.Serve(t.Context(), s.slot()) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := l.asked.Load(); n < 30 || n > 100 || alarms != 1 {
			t.Errorf("asked %d times in a minute, %d alarms", n, alarms)
		}
		l.starve.Store(0)
		time.Sleep(time.Minute)
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// What a program hands in over the socket is held to the rules of the data of
// SMTP, since it goes out under them: else a near-ending would leave us with our
// name, or wait here for days.
func TestSubmittedOctets(t *testing.T) {
	w := start(t, base(t.TempDir()), dns.NewZone())
	for content, code := range map[string]int{
		"Subject: x\r\n\r\nbody\r\n":                 250,
		"Subject: x\r\n\r\nno end":                   250,
		"Subject: x\r\n\r\n.\r\n..\r\n":              250,
		strings.Repeat("x", 64<<10-2) + "\r\n":       250,
		strings.Repeat("x", 64<<10-1) + "\r\n":       550,
		"Subject: x\r\n\r\nbody\n.\nMAIL FROM:<a@b>": 550,
		"Subject: x\r\n\r\nbody\r\n.\nMAIL\r\n":      550,
		"Subject: x\r\n\r\nbody\r.\r\n":              550,
		"Subject: x\r\n\r\nbody\r\n\x00.\r\n":        550,
		"Subject: x\r\n\r\nbody\r":                   550,
		"Subject: x\n\nbody\n":                       550,
		"\n":                                         550,
	} {
		for _, in := range []io.Reader{strings.NewReader(content), iotest.OneByteReader(strings.NewReader(content)), iotest.DataErrReader(strings.NewReader(content))} {
			reply, _ := w.submit(t.Context(), admin.Letter{To: []smtp.Path{mailbox(t, "alice@localhost")}, Content: in})
			if reply.Code != code {
				t.Errorf("%.40q: %v, want %d", content, reply, code)
			}
		}
	}
}

// A program that dies in the middle of its message has sent none.
func TestSubmissionCutOff(t *testing.T) {
	w, c := submitter(t, func(*config.Config) {})
	for _, head := range []string{"Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n10\r\n"} {
		conn, err := net.Dial("unix", w.cfg.SubmitSocket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST /api/v1/submit?to=alice@localhost HTTP/1.1\r\nHost: x\r\n"+head+"Subject: half\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		answer, _ := io.ReadAll(conn)
		if strings.Contains(string(answer), `"code":250`) {
			t.Errorf("half a message was taken: %s", answer)
		}
		conn.Close()
	}
	content := "Subject: whole\r\n\r\nx\r\n"
	l := admin.Letter{To: []smtp.Path{mailbox(t, "alice@localhost")}, Content: strings.NewReader(content), Size: int64(len(content))}
	if done, err := c.Submit(t.Context(), l); err != nil || done.Code != 250 {
		t.Fatal(done, err)
	}
	w.wait(map[string]string{"msg": "recipient", "status": "delivered"})
	if mail := folder(t, w.dir, "localhost", "alice"); len(mail) != 1 || !strings.Contains(string(mail[0]), "whole") {
		t.Errorf("%s", mail)
	}
}
