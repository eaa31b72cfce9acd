package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// A fate is what became of recipients.
type fate struct{ delivered, waiting, held, refused int }

func (f *fate) add(g fate) {
	f.delivered += g.delivered
	f.waiting += g.waiting
	f.held += g.held
	f.refused += g.refused
}

// removed is 1 when nothing is left that the queue must know of a message that
// it took, else 0.
func (f fate) removed() int {
	if f.waiting+f.held+f.refused == 0 {
		return 1
	}
	return 0
}

// want is what must become of the recipients of a message, aliases resolved.
func (m *demoMessage) want() fate {
	f := fate{delivered: len(m.boxes), waiting: m.waiting, held: m.held}
	if m.refused {
		f.refused = 1
	}
	return f
}

// wanted is what must become of all.
func (d *demo) wanted() fate {
	var f fate
	for _, m := range d.sent {
		f.add(m.want())
	}
	return f
}

// query is what "where" is asked for a message.
func (m *demoMessage) query() string {
	if m.id != "" && !m.refused { // refused at RCPT nobody has seen its header
		return m.id
	}
	return m.rcpts[0]
}

// settled waits until nothing is in the queue but what must be, and returns how
// many recipients are in each state: after the first refused connection those
// behind it are not tried at all.
func (d *demo) settled(t *testing.T) map[string]int {
	t.Helper()
	var want []string
	for _, m := range d.sent {
		for _, to := range m.rcpts {
			if strings.HasSuffix(to, "@dead.example") || strings.HasSuffix(to, "@held.example") {
				want = append(want, to)
			}
		}
	}
	slices.Sort(want)
	var states map[string]int
	var got []string
	eventually(t, func() string { return fmt.Sprintf("the queue is %v, want %v: %v", got, want, states) }, func() bool {
		states, got = map[string]int{}, nil
		for _, m := range d.queue() {
			for _, r := range m.Recipients {
				if r.State == "delivered" {
					continue
				}
				got = append(got, r.To)
				states[r.State]++
				if (r.State == "held") != strings.HasSuffix(r.To, "@held.example") {
					return false
				}
			}
		}
		slices.Sort(got)
		return slices.Equal(got, want) && states["deferred"] > 0 && states["active"] == 0
	})
	return states
}

var (
	tokenField = regexp.MustCompile(`(?m)^(?:X-Name: |The text of )(demo-\d+)`)
	idField    = regexp.MustCompile(`(?mi)^Message-ID:\s*(<[^>]+>)`)
)

// boxes wants every message once in each mailbox where it must be, nothing else
// in any, and all of them whole. It returns how many are in each.
func (d *demo) boxes(t *testing.T) map[string]int {
	t.Helper()
	found := map[string][][]byte{"carol": d.dovecot.read("carol@one.example"), "dave": d.maildir("two.example", "dave")}
	for _, got := range d.far.taken() {
		found["far"] = append(found["far"], got.body)
	}
	there, times, ids := map[string]int{}, map[string]int{}, map[string]string{}
	for box, all := range found {
		there[box] = len(all)
		for _, b := range all {
			token, id := tokenField.FindSubmatch(b), idField.FindSubmatch(b)
			if token == nil || id == nil {
				t.Errorf("%s: this was not sent:\n%.1000s", box, b)
				continue
			}
			times[box+" "+string(token[1])]++
			ids[string(token[1])] = string(id[1])
			if strings.HasPrefix(string(token[0]), "X-Name") {
				if err := whole(b); err != nil && whole(bytes.TrimSuffix(b, []byte("\r\n"))) != nil { // swaks ends it with one line more
					t.Errorf("%s: %v", box, err)
				}
			}
		}
	}
	for _, m := range d.sent {
		if m.id == "" {
			m.id = ids[m.token]
		}
		for _, box := range m.boxes {
			if n := times[box+" "+m.token]; n != 1 {
				t.Errorf("%s has %s (%s) %d times, want once", box, m.token, m.name, n)
			}
			delete(times, box+" "+m.token)
		}
	}
	if len(times) > 0 {
		t.Errorf("messages are where they do not belong: %v", times)
	}
	return there
}

// step is one line of "where --json".
type step struct {
	ID, Event, To, Peer, Reply, State string
}

// where reads "where --json".
func (s *server) where(query string) []step {
	s.t.Helper()
	return decode[step](s.t, s.cli("where", query, "--json"))
}

// decode reads values of JSON to the end.
func decode[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	d := json.NewDecoder(strings.NewReader(text))
	for {
		var one T
		err := d.Decode(&one)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		all = append(all, one)
	}
}

// heard asks "where" until it tells of as much as must have happened: the
// journal follows the queue a moment later.
func (d *demo) heard(t *testing.T, m *demoMessage) []step {
	t.Helper()
	want := m.want()
	var steps []step
	eventually(t, func() string { return fmt.Sprintf("where %s (%s) tells too little: %+v", m.query(), m.name, steps) }, func() bool {
		steps = d.where(m.query())
		n := 0
		for _, s := range steps {
			if s.Event != "next" && s.Event != "deferred" {
				n++
			}
		}
		return n >= 1+want.delivered+want.removed()
	})
	return steps
}

// told asks "where" for every message and wants to hear what its kind says, and
// of as many deferrals as there were. It returns what it heard, by client.
func (d *demo) told(t *testing.T, deferred int) []fate {
	t.Helper()
	fates := make([]fate, len(clients))
	for _, m := range slices.Backward(d.sent) { // once the last has been heard of, so have those before
		steps := d.heard(t, m)
		events, ids := map[string]int{}, map[string]bool{}
		for _, l := range steps {
			event := l.Event
			switch {
			case event == "next" && l.State == "held":
				event = "held"
			case event == "refused" && !strings.Contains(l.Reply, "550 5.1.1"):
				event += " with " + l.Reply
			}
			events[event]++
			ids[l.ID] = true
		}
		got, want := fate{events["delivered"], events["next"], events["held"], events["refused"]}, m.want()
		if got != want || events["accepted"] != 1-want.refused || events["removed"] != want.removed() || events["failed"] != 0 || len(ids) != 1 || ids[""] != m.refused {
			t.Errorf("where %s (%s) tells %+v of %d messages, want %+v: %+v", m.query(), m.name, got, len(ids), want, steps)
		}
		deferred -= events["deferred"]
		fates[m.client].add(got)
	}
	if deferred != 0 {
		t.Errorf("where tells of %d deferred recipients fewer than are in the queue", deferred)
	}
	return fates
}

// tallied compares "queue stat --json" and returns it for people.
func (d *demo) tallied(t *testing.T, states map[string]int) string {
	t.Helper()
	type row struct {
		Dest                           string
		Queued, Active, Deferred, Held int
	}
	rows := decode[row](t, d.cli("queue", "stat", "--json"))
	want, got := d.wanted(), map[row]int{}
	for _, r := range rows {
		r.Dest = ""
		got[r]++
	}
	expected := map[row]int{{Queued: states["queued"], Deferred: states["deferred"]}: 1, {Held: want.held}: 1}
	if !maps.Equal(got, expected) || want.waiting != states["queued"]+states["deferred"] || want.held != states["held"] {
		t.Errorf("queue stat tells %+v, want %+v", rows, expected)
	}
	return d.cli("queue", "stat")
}

// measured compares the metrics and returns the page.
func (d *demo) measured(t *testing.T, states, there map[string]int) string {
	t.Helper()
	want := d.wanted()
	if n := there["carol"] + there["dave"] + there["far"]; n != want.delivered {
		t.Errorf("%d messages are in the mailboxes, want %d", n, want.delivered)
	}
	var page string
	eventually(t, says("the metrics do not tell of every delivery"), func() bool {
		_, page = d.get("/metrics")
		return metric(page, `postrider_attempts_total{result="delivered"}`) >= float64(want.delivered)
	})
	for name, value := range map[string]int{
		"postrider_accepted_total":                     len(d.sent) - want.refused,
		`postrider_attempts_total{result="delivered"}`: want.delivered,
		`postrider_attempts_total{result="deferred"}`:  states["deferred"],
		`postrider_attempts_total{result="failed"}`:    0,
		`postrider_queue_recipients{state="queued"}`:   states["queued"],
		`postrider_queue_recipients{state="active"}`:   0,
		`postrider_queue_recipients{state="deferred"}`: states["deferred"],
		`postrider_queue_recipients{state="held"}`:     want.held,
	} {
		if got := metric(page, name); got != float64(value) {
			t.Errorf("the metrics say %s %v, want %d", name, got, value)
		}
	}
	return page
}

// table prints what was compared: what was found, and of how many.
func (d *demo) table(t *testing.T, fates []fate, there map[string]int, page string) {
	t.Helper()
	sent, want, boxes := make([]int, len(clients)), make([]fate, len(clients)), map[string]int{}
	for _, m := range d.sent {
		sent[m.client]++
		want[m.client].add(m.want())
		for _, box := range m.boxes {
			boxes[box]++
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tMESSAGES\tDELIVERED\tWAITING\tHELD\tREFUSED\t(recipients: found/expected)")
	row := func(name string, n int, f, e fate) {
		fmt.Fprintf(w, "%s\t%d\t%d/%d\t%d/%d\t%d/%d\t%d/%d\t\n", name, n, f.delivered, e.delivered, f.waiting, e.waiting, f.held, e.held, f.refused, e.refused)
	}
	var all fate
	for i, c := range clients {
		if sent[i] < 9 {
			t.Errorf("%s has sent %d messages only", c.program, sent[i])
		}
		row(c.program, sent[i], fates[i], want[i])
		all.add(fates[i])
	}
	row("all", len(d.sent), all, d.wanted())
	fmt.Fprintln(w, "\nMAILBOX\tFOUND\tEXPECTED")
	for _, box := range slices.Sorted(maps.Keys(boxes)) {
		fmt.Fprintf(w, "%s\t%d\t%d\n", box, there[box], boxes[box])
	}
	w.Flush()
	fmt.Println("\nmetrics:")
	for _, l := range strings.Split(page, "\n") {
		for _, name := range []string{"postrider_accepted_total ", "postrider_attempts_total{", "postrider_queue_recipients{"} {
			if strings.HasPrefix(l, name) {
				fmt.Println(l)
			}
		}
	}
}
