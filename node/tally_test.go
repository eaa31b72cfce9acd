package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// What the spool counts in memory is what a look at every message counts.
func TestTallyIsTheScan(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Routes = nil // nothing is held, and nothing is due
	w := newWorld(t, cfg, dns.NewZone())
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	ctx, due := t.Context(), time.Now().Add(time.Hour)
	for i := range 40 {
		d, err := w.Node.spool.Create(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		m := &postrider.Message{ID: d.ID(), From: smtp.Path{Local: "a", Domain: "b.example"}, Arrived: due.Add(-2 * time.Hour), Size: 1}
		for k := range 1 + i%3 {
			r := postrider.Recipient{To: smtp.Path{Local: "x", Domain: fmt.Sprintf("D%d.example", (i*k)%7)}, Due: due}
			if k > 0 {
				r.Tries, r.Reply = 1, smtp.Reply{Code: 450 + i%2, Status: smtp.Status{Class: 4, Subject: 2}, Text: "later"}
			}
			r.Held = i%5 == 0
			m.Recipients = append(m.Recipients, r)
		}
		if err := w.Node.spool.Commit(ctx, postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m, Wake: due}}}); err != nil {
			t.Fatal(err)
		}
	}
	n := w.Node
	slow, fast := admin.NewTally(), n.tally()
	for m, err := range n.spool.Scan(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		slow.Add(admin.View(m, n.dest, nil, time.Now()), admin.Filter{}, time.Now())
	}
	want, _ := json.Marshal(slow.Stats())
	got, _ := json.Marshal(fast)
	if string(got) != string(want) {
		t.Errorf("counted\n%s, want\n%s", got, want)
	}
	if len(fast) < 7 || !slices.ContainsFunc(fast, func(d admin.DestStat) bool { return d.Held > 0 && d.Deferred > 0 && len(d.Reasons) == 2 }) {
		t.Errorf("the test has lost its sense: %s", got)
	}
}
