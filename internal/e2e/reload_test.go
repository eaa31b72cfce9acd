package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// Reloads under load, good and bad ones by turns: no message is lost, no
// connection dropped, and the bad ones are refused with their line.
func TestReloadUnderLoad(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.start()
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(string(good), "\n")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	l := &ledger{acked: map[string]bool{}}
	for i := range loaders {
		clients.Go(func() { l.stay(t, s.addr(), i, stop) })
	}
	for i := range full(100, 20) {
		text, status := string(good)+fmt.Sprintf("domain \"d%d.example\" { mailboxes = [\"*\"] }\n", i), 0
		if i%2 == 1 {
			text, status = string(good)+"colour = \"red\"\n", 2
		}
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, got := output(t, s.dir, binary, "reload", "--config", s.config)
		if got != status {
			t.Errorf("reload %d: status %d, want %d\n%s", i, got, status, out)
		}
		if status != 0 && !strings.Contains(out, fmt.Sprintf("%s:%d,", s.config, lines+1)) {
			t.Errorf("reload %d does not name line %d:\n%s", i, lines+1, out)
		}
	}
	close(stop)
	clients.Wait()
	if err := os.WriteFile(s.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s.empty()
	s.stop()
	got := map[string]int{}
	for _, n := range names(t, s.maildir("localhost", "user")) {
		got[n]++
	}
	if len(l.acked) == 0 {
		t.Error("nothing was sent meanwhile")
	}
	for n := range l.acked {
		if got[n] != 1 {
			t.Errorf("%s is there %d times, want once", n, got[n])
		}
	}
	t.Logf("%d messages", len(l.acked))
}

// stay sends messages in one session until stop is closed; nothing may disturb
// it.
func (l *ledger) stay(t *testing.T, addr string, client int, stop <-chan struct{}) {
	c, err := dial(addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.close()
	if _, err := c.want(250, "EHLO client.example"); err != nil {
		t.Error(err)
		return
	}
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprintf("reload-%d-%d", client, n)
		if _, err := c.send(mail{"s@client.example", []string{"user@localhost"}, message(name, 1_000)}); err != nil {
			t.Errorf("connection %d, message %d: %v", client, n, err)
			return
		}
		l.mu.Lock()
		l.acked[name] = true
		l.mu.Unlock()
	}
}
