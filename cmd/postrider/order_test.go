package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/postrider/postrider/admin"
)

// extend adds to a file.
func extend(t *testing.T, name, more string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(text)+more)
}

// The verbs of the queue: what they ask for before they destroy anything, what
// they say, and what is left.
func TestSteering(t *testing.T) {
	conf := site(t, "hold")
	extend(t, conf, `dns { servers = ["127.0.0.1:1"] }`) // nobody answers there, at once
	p, addr := serve(t, conf)
	var ids []string
	for _, to := range []string{"a@far.example", "b@far.example", "c@near.example"} {
		code, out, errs := command(t, "x\r\n", "send", "--server", addr, "--from", "alice@example.org", "--to", to, "--to", "d@"+to[:1]+".example")
		if code != 0 {
			t.Fatal(out, errs)
		}
		ids = append(ids, strings.Fields(out)[3])
	}
	q := func(want int, says string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"queue"}, append(args, "--config", conf)...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("queue %q: %d, want %d with %q: %s%s", args, code, want, says, out, errs)
		}
		return out
	}
	ls := func(want int, flags ...string) {
		t.Helper()
		out := q(0, "", append([]string{"ls", "--json"}, flags...)...)
		if n := strings.Count(out, "\n"); n != want {
			t.Errorf("%q chooses %d messages, want %d:\n%s", flags, n, want, out)
		}
	}
	q(2, "drop what?", "drop")
	q(2, "hold what?", "hold")
	q(2, "one of them", "drop", ids[0], "--id", ids[0])
	q(2, "one line", "bounce", ids[0], "--message", "a\nb")
	q(1, "nothing in the queue to drop under zzz", "drop", "zzz")
	q(0, "0 messages", "drop", "--id", "zzz", "--to", "*")
	ls(3, "--state", "held")

	// One message that is named: at once. More, or by filters: with --yes.
	out := q(2, "add --yes to drop these", "drop", "--domain", "far.example")
	if !strings.Contains(out, "2 messages, 2 recipients; nothing was done") || !strings.Contains(out, "would be given up") {
		t.Errorf("dry run: %s", out)
	}
	q(2, "--yes", "drop", ids[0], ids[1])
	ls(3)
	q(0, "nobody is told", "drop", ids[0])
	ls(2)
	q(0, "drop: 1 message, 1 recipient", "drop", "--to", "b@far.example", "--yes")
	ls(2) // its other recipient stays
	ls(0, "--domain", "far.example", "--state", "held")
	var touched admin.Touched
	if err := json.Unmarshal([]byte(q(0, "", "hold", "--to", "c@*", "--dry-run", "--json")), &touched); err != nil || !touched.DryRun ||
		string(touched.ID) != ids[2] || len(touched.Recipients) != 1 || touched.Recipients[0].State != "held" {
		t.Errorf("%+v, %v", touched, err)
	}

	var stat admin.DestStat
	if err := json.Unmarshal([]byte(q(0, "", "stat", "--json")), &stat); err != nil || stat.Dest != "hold" || stat.Held != 3 {
		t.Errorf("%+v, %v", stat, err)
	}
	q(0, "DESTINATION", "stat")

	// The sender of what is bounced hears why.
	q(0, "the sender is told", "bounce", ids[2], "--message", "We have moved")
	p.stderr.wait(t, `to=<alice@example.org> .*status=delivered`)
	q(0, "release: 1 message, 1 recipient", "release", "--id", ids[1])
	p.stderr.wait(t, `to=<d@b.example> .*status=(deferred|failed)`)
	p.stop()
	q(1, "postrider serve", "hold", ids[1])
	q(0, "", "stat")
}
