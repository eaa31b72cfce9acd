package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Mail waits for a dead destination while its time passes: first the notice of
// delay comes and then the report, while what an operator holds does not expire,
// also over a restart, and leaves when it is released.
func TestHeldAndExpired(t *testing.T) {
	dead := freeAddr(t)
	s := newSubmissionHost(t, fmt.Sprintf(`
route "*" { via = "smtp://%s" }
queue {
  retry        = ["1s"]
  delay_notice = "3s"
  expire       = "8s"
}
`, dead))
	s.start()
	held := mustSubmit(t, s.addr(), mail{"holder@a.example", []string{"x@far.example"}, message("held", 500)})
	s.cli("queue", "hold", "--id", held)
	start := time.Now()
	mustSubmit(t, s.addr(), mail{"waiter@a.example", []string{"x@far.example NOTIFY=DELAY,FAILURE"}, message("waits", 500)})
	delay := strings.ToLower(string(s.one("a.example", "waiter")))
	if !strings.Contains(delay, "action: delayed") || !strings.Contains(delay, "will-retry-until:") {
		t.Errorf("the first report is no notice of delay:\n%s", delay)
	}
	s.stop()
	s.start()
	var box [][]byte
	eventually(t, says("no report after the notice of delay"), func() bool {
		box = s.maildir("a.example", "waiter")
		return len(box) == 2
	})
	if early := time.Since(start); early < 8*time.Second {
		t.Errorf("given up after %v, and expire is 8 s", early)
	}
	failed := 0
	for _, b := range box {
		if low := strings.ToLower(string(b)); strings.Contains(low, "action: failed") && strings.Contains(low, ".4.7\r\n") {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d reports of failure with X.4.7, want 1", failed)
	}
	q := s.queue()
	if len(q) != 1 || q[0].ID != held || q[0].Recipients[0].State != "held" {
		t.Fatalf("the queue is %+v, want the one that is held", q)
	}
	p := newPeer(t, dead)
	s.cli("queue", "release", "--id", held)
	eventually(t, says("what was released did not come"), func() bool { return len(p.taken()) == 1 })
	s.empty()
	if n := len(s.maildir("a.example", "holder")); n != 0 {
		t.Errorf("%d reports to the sender of what was held", n)
	}
	s.stop()
}
