package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/admin"
)

// where tells the same with the server up and down: what came in, what was
// tried, what happens next, and what has gone.
func TestWhere(t *testing.T) {
	conf := site(t, "error:450 4.7.1 Come back later")
	p, addr := serve(t, conf)
	code, out, errs := command(t, "Subject: x\r\nMessage-ID: <one@example.net>\r\n\r\nx\r\n", "send", "--server", addr,
		"--from", "me@example.net", "--to", "alice@example.org", "--to", "bob@far.example")
	if code != 0 {
		t.Fatal(out, errs)
	}
	id := strings.Fields(out)[3]
	p.stderr.wait(t, `to=<alice@example.org> .*status=delivered`)
	p.stderr.wait(t, `to=<bob@far.example> .*status=deferred`)
	check := func() {
		t.Helper()
		for _, query := range []string{id, "<one@example.net>", "Alice@EXAMPLE.org", "me@example.net", "bob@far.example"} {
			_, out, errs := command(t, "", "where", query, "--config", conf)
			for _, want := range []string{"Message " + id + " from me@example.net, Message-ID <one@example.net>\n", "accepted from 127.0.0.1:",
				"alice@example.org: delivered", "bob@far.example: attempt 1 put off", "450 4.7.1 Come back later", "now", "is tried next at "} {
				if !strings.Contains(out, want) {
					t.Errorf("where %s does not say %q:\n%s%s", query, want, out, errs)
				}
			}
		}
	}
	for deadline := time.Now().Add(patience); ; { // the journal follows the log
		_, out, _ := command(t, "", "where", id, "--config", conf)
		if regexp.MustCompile(`(?s)delivered.*put off|put off.*delivered`).MatchString(out) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal does not follow:\n%s", out)
		}
	}
	check()
	if code, out, _ := command(t, "", "where", "nobody@example.com", "--config", conf); code != 0 || out != "Nothing is known of nobody@example.com.\n" {
		t.Errorf("%d %q", code, out)
	}
	if code, _, errs := command(t, "", "where", "<>", "--config", conf); code != 2 {
		t.Errorf("%d %q", code, errs)
	}
	p.stop()
	check()
	_, out, _ = command(t, "", "where", id, "--json", "--config", conf)
	var events []string
	for line := range strings.Lines(out) {
		var s admin.Step
		if err := json.Unmarshal([]byte(line), &s); err != nil || string(s.ID) != id {
			t.Errorf("%v in %s", err, line)
		}
		events = append(events, s.Event)
	}
	if text := strings.Join(events, " "); !strings.HasPrefix(text, "accepted ") || !strings.HasSuffix(text, " next") || len(events) != 4 {
		t.Errorf("events %s", text)
	}
}

// Words of others never reach the terminal raw.
func TestWhereIsFitForATerminal(t *testing.T) {
	out := newScreen()
	a := &app{stdout: out}
	tell := teller{a: a, now: time.Now()}
	evil := "x\x1b[31m\r\u009b"
	for _, event := range []string{admin.StepAccepted, admin.StepRefused, admin.StepDeferred, admin.StepDelivered, admin.StepFailed, admin.StepRetried, admin.StepHeld,
		admin.StepReleased, admin.StepBounced, admin.StepDropped, admin.StepReported, admin.StepRemoved, admin.StepNext, "novelty" + evil} {
		tell.tell(admin.Step{ID: "a", Event: event, To: evil, Peer: evil, Reply: evil, From: evil, Header: evil, TLS: evil, Account: evil, State: evil})
	}
	tell.tell(admin.Step{Event: admin.StepLogin, Peer: evil, Reply: evil, Account: evil})
	if text := out.String(); !strings.Contains(text, "Login refused, as x?") {
		t.Errorf("%q", text)
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\r\u009b") || strings.Count(text, "\n") != 18 {
		t.Errorf("%q", text)
	}
}

// Mail that its sender holds back (RFC 4865) says so.
func TestWhereSaysWhoseOrder(t *testing.T) {
	out := newScreen()
	now := time.Now()
	next := now.Add(time.Hour)
	tell := teller{a: &app{stdout: out}, now: now}
	tell.tell(admin.Step{Event: admin.StepNext, To: "b@x.example", State: admin.StateQueued, Reply: admin.SendersOrder, Next: &next})
	if text := out.String(); !strings.Contains(text, "b@x.example: it waits by order of the sender, and is sent at ") {
		t.Errorf("%q", text)
	}
}
