package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What waits for a dead destination is listed and shown, and "queue retry"
// brings it forward.
func TestQueueCommands(t *testing.T) {
	w := newWorld(t)
	ip := w.host("mx.b.example") // nobody listens yet
	w.zone.MX("b.example", 10, "mx.b.example")
	a := newServer(t, "a.example", strings.Replace(w.relay(), `["1s"]`, `["1h"]`, 1))
	a.start()
	id := mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example"}, message("waits", 1_000)})
	var q []queued
	eventually(t, func() string { return fmt.Sprintf("not deferred: %+v", q) }, func() bool {
		q = a.queue()
		return len(q) == 1 && len(q[0].Recipients) == 1 && q[0].Recipients[0].State == "deferred"
	})
	if r := q[0].Recipients[0]; q[0].ID != id || q[0].From != "s@a.example" || r.To != "alice@b.example" || r.Tries != 1 || r.Next == "" || r.Dest == "" {
		t.Errorf("queue ls --json says %+v", q[0])
	}
	for _, args := range [][]string{{"queue", "ls"}, {"queue", "show", id}, {"queue", "show", id, "--json"}} {
		out := a.cli(args...)
		for _, want := range []string{id, "alice@b.example", "deferred"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q does not say %s:\n%s", args, want, out)
			}
		}
	}
	p := newPeer(t, net.JoinHostPort(ip, strconv.Itoa(w.port)))
	a.cli("queue", "retry")
	eventually(t, says("queue retry brought nothing"), func() bool { return len(p.taken()) == 1 })
	a.empty()
	a.stop()
}

// The queue of a server that is down can be listed, and the server that comes
// up again still has it.
func TestQueueSurvivesRestart(t *testing.T) {
	s := newServer(t, "a.example", `
route "*" { via = "hold" }
`)
	s.start()
	id := mustSubmit(t, s.addr(), mail{"s@a.example", []string{"alice@b.example"}, message("held", 1_000)})
	for range 2 {
		q := s.queue()
		if len(q) != 1 || q[0].ID != id || len(q[0].Recipients) != 1 || q[0].Recipients[0].State != "held" {
			t.Fatalf("queue ls --json says %+v, want %s held", q, id)
		}
		s.stop()
		s.start()
	}
	s.stop()
	if q := s.queue(); len(q) != 1 || q[0].ID != id {
		t.Errorf("with the server down queue ls --json says %+v", q)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.start()
	if status, page := s.get("/healthz"); status != 200 {
		t.Errorf("/healthz is %d %s", status, page)
	}
	for i := range 3 {
		mustSubmit(t, s.addr(), mail{"s@client.example", []string{"user@localhost"}, message(fmt.Sprint("m", i), 100)})
	}
	s.empty()
	var page string
	eventually(t, func() string { return "the metrics do not tell of three messages:\n" + page }, func() bool {
		_, page = s.get("/metrics")
		return metric(page, "postrider_accepted_total") == 3 && metric(page, `postrider_attempts_total{result="delivered"}`) == 3
	})
	for _, name := range []string{"postrider_queue_recipients", "postrider_queue_oldest_seconds", "postrider_connections"} {
		if !strings.Contains(page, "\n"+name) {
			t.Errorf("no %s in the metrics", name)
		}
	}
	s.stop()
}

// metric returns the value of one line of a page of metrics, -1 if it is not
// there.
func metric(page, name string) float64 {
	for _, line := range strings.Split(page, "\n") {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err == nil {
				return f
			}
		}
	}
	return -1
}

// "sink" takes everything and ends with one line that counts it.
func TestSendAndSink(t *testing.T) {
	ip := freeIP()
	addr := net.JoinHostPort(ip, strconv.Itoa(freePort(t, ip)))
	var out, log buffer
	sink := exec.Command(binary, "sink", "--listen", addr, "--json")
	sink.Dir, sink.Env, sink.Stdout, sink.Stderr = t.TempDir(), environment(), &out, &log
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- sink.Wait() }()
	t.Cleanup(func() { sink.Process.Kill() })
	eventually(t, says("the sink does not answer"), func() bool {
		c, err := dial(addr)
		if err == nil {
			c.close()
		}
		return err == nil
	})
	msg := filepath.Join(t.TempDir(), "message.eml")
	if err := os.WriteFile(msg, message("sunk", 1_000), 0o600); err != nil {
		t.Fatal(err)
	}
	said, status := output(t, t.TempDir(), binary, "send", "-v", "--server", addr, "--from", "a@a.example", "--to", "b@b.example", msg)
	if status != 0 || !strings.Contains(said, "354") || !strings.Contains(said, "250") {
		t.Errorf("send -v: status %d\n%s", status, said)
	}
	sink.Process.Signal(syscall.SIGTERM)
	if err := <-done; err != nil {
		t.Errorf("sink: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var sum struct {
		Messages, Bytes, Errors int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || sum.Messages != 1 || sum.Bytes < 1_000 || sum.Errors != 0 {
		t.Errorf("the sink counts %+v, %v:\n%s\n%s", sum, err, out.String(), log.String())
	}
}

// "send" tells a refusal by its exit status and the words of the server.
func TestSendRefused(t *testing.T) {
	s := strict(t)
	msg := filepath.Join(s.dir, "message.eml")
	if err := os.WriteFile(msg, message("refused", 100), 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := output(t, s.dir, binary, "send", "--server", s.addr(), "--from", "a@a.example", "--to", "nobody@closed.example", msg)
	if status != 1 || !strings.Contains(out, "5.1.1") {
		t.Errorf("status %d, want 1 with 550 5.1.1:\n%s", status, out)
	}
	s.stop()
}
