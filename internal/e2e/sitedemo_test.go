package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// A demoKind is one way that mail goes at the site, and what must become of a
// message to it.
type demoKind struct {
	name  string
	to    string         // %d is the number of the message
	wants map[string]int // steps of "where", at least once for each recipient
	alias bool           // the sender's word for it is not in the queue: "where" is asked for the Message-ID
}

var demoKinds = []demoKind{
	{"LMTP to Dovecot", "carol+%d@one.example", map[string]int{"accepted": 1, "delivered": 1, "removed": 1}, false},
	{"alias of two", "both+%d@one.example", map[string]int{"accepted": 1, "delivered": 2, "removed": 1}, true},
	{"alias to a far host", "away+%d@two.example", map[string]int{"accepted": 1, "delivered": 1, "removed": 1}, true},
	{"our own Maildir", "dave+%d@two.example", map[string]int{"accepted": 1, "delivered": 1, "removed": 1}, false},
	{"smart host", "x%d@far.example", map[string]int{"accepted": 1, "delivered": 1, "removed": 1}, false},
	{"dead destination", "x%d@dead.example", map[string]int{"accepted": 1, "next": 1}, false},
}

const demoAliases = `
both: carol, dave@two.example
away: someone@far.example
`

// A demo is a site: two domains with aliases, one of them with its mailboxes at
// Dovecot, a smart host with AUTH, and a destination that is dead.
type demo struct {
	*submissionHost
	dovecot *dovecot
	far     *peer
}

func newDemo(t *testing.T) *demo {
	dove := startDovecot(t, "", "carol@one.example")
	far := newPeer(t, freeAddr(t))
	smart, _ := smartPostfix(t, far.addr)
	h := newSubmissionHost(t, fmt.Sprintf(`
domain "one.example" {
  mailboxes = ["carol"]
  aliases   = "DIR/aliases"
  deliver   = "lmtp://%s"
}
domain "two.example" {
  mailboxes = ["dave"]
  aliases   = "DIR/aliases"
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
route "dead.example" { via = "smtp://%s" }
route "*" {
  via           = "smtp://%s"
  tls           = "require"
  username      = %q
  password_file = "DIR/password"
}
queue { retry = ["1h"] }
`, dove.addr(), freeAddr(t), smart.addr(), smartUser))
	secret(t, filepath.Join(h.dir, "password"), dovecotPassword)
	if err := os.WriteFile(filepath.Join(h.dir, "aliases"), []byte(demoAliases), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	return &demo{h, dove, far}
}

// send submits n messages with real clients, several at a time, and returns how
// many of each kind were sent.
func (d *demo) send(t *testing.T, n int) []int {
	sent := make([]int, len(demoKinds))
	limit := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i := range n {
		kind := i % len(demoKinds)
		sent[kind]++
		c := clients[i/len(demoKinds)%len(clients)]
		if demoKinds[kind].alias && !c.whole {
			c = clients[0] // sends the Message-ID that we know
		}
		s := d.submission(t, fmt.Sprintf("demo-%03d", i), fmt.Sprintf(demoKinds[kind].to, i), i%2 == 0)
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			if out, status := s.run(t, c.program, c.stdin, c.args(s)); status != 0 {
				t.Errorf("%s to %s: status %d\n%s", c.program, s.to, status, out)
			}
		})
	}
	all.Wait()
	return sent
}

// step is one line of "where --json".
type step struct {
	ID, Event, To, Peer, Reply, State string
}

// where reads "where --json".
func (s *server) where(query string) []step {
	s.t.Helper()
	var all []step
	d := json.NewDecoder(strings.NewReader(s.cli("where", query, "--json")))
	for d.More() {
		var one step
		if err := d.Decode(&one); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// demoQuery is what "where" is asked for a message.
func demoQuery(i int) string {
	kind := demoKinds[i%len(demoKinds)]
	if kind.alias {
		return fmt.Sprintf("<demo-%03d@client.example>", i)
	}
	return fmt.Sprintf(kind.to, i)
}

// told wants "where" to tell of a message what its kind says.
func (d *demo) told(t *testing.T, kind demoKind, query string) bool {
	steps := d.where(query)
	counts, ids := map[string]int{}, map[string]bool{}
	for _, s := range steps {
		counts[s.Event]++
		ids[s.ID] = true
	}
	for event, n := range kind.wants {
		if counts[event] != n {
			t.Errorf("where %s tells %d times %s, want %d: %+v", query, counts[event], event, n, steps)
			return false
		}
	}
	if len(ids) != 1 {
		t.Errorf("where %s tells of %d messages", query, len(ids))
	}
	return len(ids) == 1
}

// settled waits until nothing is in the queue but n messages for the dead
// destination, and returns how many of them are in each state: after the first
// refused connection those behind it are not tried at all.
func (d *demo) settled(t *testing.T, n int) map[string]int {
	t.Helper()
	var states map[string]int
	eventually(t, func() string { return fmt.Sprintf("the queue is not the %d messages that cannot go: %v", n, states) }, func() bool {
		states = map[string]int{}
		for _, m := range d.queue() {
			if len(m.Recipients) != 1 || !strings.HasSuffix(m.Recipients[0].To, "@dead.example") {
				return false
			}
			states[m.State]++
		}
		return states["deferred"] > 0 && states["deferred"]+states["queued"] == n
	})
	return states
}

// A site in use: what the queue, "where" and the metrics say of 200 messages is
// what was sent, and what arrived.
func TestSiteDemo(t *testing.T) {
	for _, c := range clients {
		need(t, c.program)
	}
	d := newDemo(t)
	n := full(200, 40)
	sent := d.send(t, n)
	dead := sent[len(sent)-1]
	states := d.settled(t, dead)
	found := map[string]int{"carol": len(d.dovecot.read("carol@one.example")), "dave": len(d.maildir("two.example", "dave")), "far": len(d.far.taken())}
	want := map[string]int{"carol": sent[0] + sent[1], "dave": sent[1] + sent[3], "far": sent[2] + sent[4]}
	for box, n := range want {
		if found[box] != n {
			t.Errorf("%s has %d messages, want %d", box, found[box], n)
		}
	}
	told := make([]int, len(demoKinds))
	for i := range n {
		kind := i % len(demoKinds)
		if d.told(t, demoKinds[kind], demoQuery(i)) {
			told[kind]++
		}
	}
	delivered := want["carol"] + want["dave"] + want["far"]
	_, page := d.get("/metrics")
	for name, value := range map[string]int{
		"postrider_accepted_total": n, `postrider_attempts_total{result="delivered"}`: delivered,
		`postrider_attempts_total{result="deferred"}`: states["deferred"], `postrider_attempts_total{result="failed"}`: 0,
		`postrider_queue_recipients{state="deferred"}`: states["deferred"], `postrider_queue_recipients{state="queued"}`: states["queued"],
		`postrider_queue_recipients{state="held"}`: 0,
	} {
		if got := metric(page, name); got != float64(value) {
			t.Errorf("the metrics say %s %v, want %d", name, got, value)
		}
	}
	stat := d.cli("queue", "stat")
	line := fmt.Sprintf(" %d 0 %d 0 ", states["queued"], states["deferred"])
	if !strings.Contains(strings.Join(strings.Fields(stat), " "), line) {
		t.Errorf("queue stat does not tell of%sto the dead destination:\n%s", line, stat)
	}
	demoTable(sent, told, found, want, page)
	fmt.Print("\nqueue stat:\n", stat, "\nwhere ", demoQuery(1), ":\n", d.cli("where", demoQuery(1)),
		"\nwhere ", demoQuery(5), ":\n", d.cli("where", demoQuery(5)))
	d.stop()
}

// demoTable prints what was compared.
func demoTable(sent, told []int, found, want map[string]int, page string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tSENT\tWHERE TELLS IT")
	for i, k := range demoKinds {
		fmt.Fprintf(w, "%s\t%d\t%d\n", k.name, sent[i], told[i])
	}
	fmt.Fprintln(w, "\nMAILBOX\tSENT\tTHERE")
	for _, box := range []string{"carol", "dave", "far"} {
		fmt.Fprintf(w, "%s\t%d\t%d\n", box, want[box], found[box])
	}
	fmt.Fprintf(w, "\nMETRIC\tVALUE\n")
	for _, name := range []string{"postrider_accepted_total", `postrider_attempts_total{result="delivered"}`, `postrider_attempts_total{result="deferred"}`, `postrider_queue_recipients{state="deferred"}`} {
		fmt.Fprintf(w, "%s\t%.0f\n", name, metric(page, name))
	}
	w.Flush()
}
