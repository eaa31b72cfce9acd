package e2e

import (
	"io"
	"strings"
	"syscall"
	"testing"
)

// SIGTERM: who is in the middle of a message may end it and gets the 250, who
// waits idly is told 421, nobody new comes in, and the exit status is 0. What
// was accepted at the last moment is there at the next start.
func TestSIGTERMDrains(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.start()
	idle, busy := mustDial(t, s.addr()), mustDial(t, s.addr())
	for _, line := range []string{"MAIL FROM:<s@client.example>", "RCPT TO:<late@localhost>"} {
		if _, err := busy.want(250, line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := busy.want(354, "DATA"); err != nil {
		t.Fatal(err)
	}
	sent := message("late", 2_000)
	if err := busy.raw(string(sent[:100])); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGTERM)
	if r, err := idle.read(); err != nil || r.code != 421 {
		t.Errorf("the idle connection hears %v, %v, want 421", r, err)
	}
	if _, err := idle.read(); err != io.EOF {
		t.Errorf("after 421 the connection is open: %v", err)
	}
	eventually(t, says("a new connection is still greeted"), func() bool {
		c, err := dial(s.addr())
		if err == nil {
			c.close()
		}
		return err != nil
	})
	// The dots of the rest begin no line of the part that is sent already.
	r, err := busy.content(sent[100:])
	if err != nil || r.code != 250 {
		t.Fatalf("the message under way: %v, %v, want 250", r, err)
	}
	s.ended(0)
	s.start()
	if got := s.one("localhost", "late"); !strings.HasSuffix(string(got), string(sent)) {
		t.Error("the message is not what was sent")
	}
	s.stop()
}

// mustDial connects and says EHLO.
func mustDial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	if _, err := c.want(250, "EHLO client.example"); err != nil {
		t.Fatal(err)
	}
	return c
}
