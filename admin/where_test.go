package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// diary is a Journal of fixed stories, which it finds by the ID of the first.
type diary struct {
	stories [][]postrider.Event
	err     error
	limit   int
}

func (d *diary) Where(_ context.Context, query string, limit int) iter.Seq2[[]postrider.Event, error] {
	d.limit = limit
	return func(yield func([]postrider.Event, error) bool) {
		if d.err != nil {
			yield(nil, d.err)
			return
		}
		for _, evs := range d.stories {
			if string(d.stories[0][0].ID) == query && !yield(evs, nil) {
				return
			}
		}
	}
}

func stories() *diary {
	bob := path("bob@Far.example")
	ev := func(kind postrider.EventKind, ago time.Duration) postrider.Event {
		return postrider.Event{ID: "aaa1", Kind: kind, Time: now.Add(-ago), From: path("alice@example.org")}
	}
	accepted := ev(postrider.EventAccepted, 2*time.Hour)
	accepted.Tos, accepted.Size, accepted.HeaderID = []smtp.Path{bob, path("carl@far.example")}, 100, "m@\x1bexample"
	accepted.Source = postrider.Source{Peer: netip.MustParseAddrPort("192.0.2.1:99"), Hello: "c.example", TLS: "TLS 1.3", Account: "alice"}
	late := ev(postrider.EventRecipient, time.Hour)
	late.To, late.Tries, late.Next, late.Remote = bob, 1, now.Add(-time.Minute), "mx.far.example"
	late.Reply = smtp.Reply{Code: 450, Status: smtp.Status{Class: 4, Subject: 2}, Text: "Greylisted,\n\x1b[31mred"}
	retried := ev(postrider.EventAmended, 30*time.Minute)
	retried.To, retried.Next = bob, now
	told := ev(postrider.EventReported, time.Minute)
	told.Report = "rrr1"
	report := []postrider.Event{{ID: "rrr1", Kind: postrider.EventAccepted, Time: now, Tos: []smtp.Path{path("alice@example.org")}},
		{ID: "rrr1", Kind: postrider.EventRemoved, Time: now}}
	return &diary{stories: [][]postrider.Event{{accepted, late, retried, told}, report}}
}

func asked(t *testing.T, o Options, query string) (lines []string, code int) {
	t.Helper()
	w := httptest.NewRecorder()
	Control(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/where?"+query, nil))
	return strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n"), w.Code
}

// Nothing more happens to who has the message, or was given up: what is next is told of
// those that wait.
func TestNothingIsNextOfTheSettled(t *testing.T) {
	s := queue()
	s.messages[2].Recipients[0].State = postrider.Failed
	o := options(s)
	for query, want := range map[string]string{"q=aaa1": "bob@Far.example", "q=bbb3": "gina@near.example"} {
		lines, _ := asked(t, o, query)
		var next []string
		for _, line := range lines {
			var step Step
			if err := json.Unmarshal([]byte(line), &step); err != nil {
				t.Fatal(err)
			}
			if step.Event == StepNext {
				next = append(next, step.To)
			}
		}
		if !slices.Equal(next, []string{want}) {
			t.Errorf("%s: next is told of %q, want %q", query, next, want)
		}
	}
}

// Each step, the report, and what happens next to what is in the queue.
func TestWhere(t *testing.T) {
	o, d := options(queue()), stories()
	o.Journal = d
	lines, code := asked(t, o, "q=aaa1&limit=7")
	want := []string{
		`{"time":"2026-11-22T10:00:00Z","id":"aaa1","event":"accepted","to":"bob@Far.example, carl@far.example","peer":"192.0.2.1:99 (c.example)","reply":"","next":null,` +
			`"from":"alice@example.org","size":100,"message_id":"m@?example","tls":"TLS 1.3","account":"alice"}`,
		`{"time":"2026-11-22T11:00:00Z","id":"aaa1","event":"deferred","to":"bob@Far.example","peer":"mx.far.example","reply":"450 4.2.0 Greylisted, ?[31mred","next":"2026-11-22T11:59:00Z","tries":1}`,
		`{"time":"2026-11-22T11:30:00Z","id":"aaa1","event":"retried","to":"bob@Far.example","peer":"","reply":"","next":"2026-11-22T12:00:00Z"}`,
		`{"time":"2026-11-22T11:59:00Z","id":"aaa1","event":"reported","to":"","peer":"","reply":"","next":null,"report":"rrr1"}`,
		`{"time":"2026-11-22T12:00:00Z","id":"aaa1","event":"next","to":"bob@Far.example","peer":"","reply":"450 4.2.0 Greylisted, come ?[31mback","next":"2026-11-22T12:01:00Z","state":"deferred","tries":2}`,
		`{"time":"2026-11-22T12:00:00Z","id":"rrr1","event":"accepted","to":"alice@example.org","peer":"","reply":"","next":null,"from":"\u003c\u003e"}`,
		`{"time":"2026-11-22T12:00:00Z","id":"rrr1","event":"removed","to":"","peer":"","reply":"","next":null}`,
	}
	if code != 200 || !slices.Equal(lines, want) || d.limit != 7 {
		t.Errorf("%d, limit %d:\n%s\nwant\n%s", code, d.limit, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// A login that failed is no mail that was refused.
func TestWhereLogin(t *testing.T) {
	o := options(queue())
	o.Journal = &diary{stories: [][]postrider.Event{{{Kind: postrider.EventRefused, Time: now, From: path("alice@example.org"),
		Source: postrider.Source{Account: "alice@example.org", Peer: netip.MustParseAddrPort("192.0.2.1:99")}, Reply: smtp.Reply{Code: 535, Text: "no"}}}}}
	lines, _ := asked(t, o, "q=")
	if len(lines) != 1 || !strings.Contains(lines[0], `"error"`) { // an empty question
		t.Errorf("%q", lines)
	}
	var steps []Step
	for s, err := range (Search{Journal: o.Journal, Now: now}).Steps(t.Context(), "", 1) {
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, s)
	}
	if len(steps) != 1 || steps[0].Event != StepLogin || steps[0].Account != "alice@example.org" {
		t.Errorf("%+v", steps)
	}
}

// What the journal does not know is found while it is in the queue.
func TestWhereQueued(t *testing.T) {
	for _, d := range []*diary{nil, stories()} {
		o := options(queue())
		if d != nil {
			o.Journal = d
		}
		for query, want := range map[string]string{
			"bbb3":                "accepted next:queued next:active",
			"<FRED@far.example>":  "accepted next:queued next:active",
			"dora@held.example":   "accepted next:held",
			"eve@example.org":     "accepted next:queued next:active",
			"nobody@here.example": "",
		} {
			var got []string
			lines, code := asked(t, o, "q="+query)
			for _, line := range lines {
				var s Step
				if json.Unmarshal([]byte(line), &s) == nil && s.State != "" {
					s.Event += ":" + s.State
				}
				got = append(got, s.Event)
			}
			if text := strings.Join(got, " "); code != 200 || text != want {
				t.Errorf("%s: %d %q, want %q", query, code, text, want)
			}
		}
	}
}

// What waits behind a destination that does not answer is not due before that is
// tried again.
func TestWhereBehindADeadDestination(t *testing.T) {
	o := options(queue())
	at := o.Now().Add(17 * time.Minute).UTC()
	o.Probed = func(postrider.Dest) time.Time { return at }
	lines, _ := asked(t, o, "q=bbb3")
	var s Step
	for _, line := range lines {
		var next Step
		if err := json.Unmarshal([]byte(line), &next); err != nil {
			t.Fatal(err)
		}
		if next.State == StateQueued {
			s = next
		}
	}
	if s.Next == nil || !s.Next.Equal(at) {
		t.Errorf("next is %v, want %v", s.Next, at)
	}
}

// A destination that is looked at again before a message is due, or that nobody is to look
// at, hurries nothing: next is when the message is due.
func TestWhereBeforeTheMessageIsDue(t *testing.T) {
	for _, at := range []time.Time{{}, now.Add(-time.Hour), now.Add(time.Second)} {
		o := options(queue())
		o.Probed = func(postrider.Dest) time.Time { return at }
		lines, _ := asked(t, o, "q=aaa1")
		var last Step
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatal(err)
		}
		if due := now.Add(time.Minute); last.Event != StepNext || last.Next == nil || !last.Next.Equal(due) {
			t.Errorf("looked at again %v: next is %+v, want %v", at, last, due)
		}
	}
}

func TestWhereMistakes(t *testing.T) {
	o := options(queue())
	o.Journal = &diary{err: errors.New("damaged")}
	for _, query := range []string{"", "q=", "q=%20", "q=a&limit=0", "q=a&limit=x", "q=a&limit=10001"} {
		if lines, code := asked(t, o, query); code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, code, lines)
		}
	}
	if lines, code := asked(t, o, "q=a"); code != 200 || fmt.Sprint(lines) != `[{"error":"damaged"}]` {
		t.Errorf("%d %s", code, lines)
	}
}

// One that cannot be read ends nothing: what the journal knows of it and all that comes
// after it is told, and at the end that it cannot be read, as in the list of the queue.
func TestWhereUnreadMessageEndsNothing(t *testing.T) {
	s, d := queue(), stories()
	s.broken = "aaa1"
	d.stories = append(d.stories, []postrider.Event{{ID: "bbb3", Kind: postrider.EventAccepted, Time: now, Tos: []smtp.Path{path("fred@far.example")}}})
	o := options(s)
	o.Journal = d
	lines, code := asked(t, o, "q=aaa1")
	var got []string
	for _, line := range lines[:len(lines)-1] {
		var step Step
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(step.ID)+" "+step.Event)
	}
	want := []string{"aaa1 accepted", "aaa1 deferred", "aaa1 retried", "aaa1 reported", "rrr1 accepted", "rrr1 removed", "bbb3 accepted", "bbb3 next", "bbb3 next"}
	if code != 200 || !slices.Equal(got, want) {
		t.Errorf("%d %q, want %q", code, got, want)
	}
	w := httptest.NewRecorder()
	Control(o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/queue", nil))
	listed := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "bad sector") || last != listed[len(listed)-1] {
		t.Errorf("at the end %s, and of the queue %s", last, listed[len(listed)-1])
	}
}

// Every event of a message is a step with a name.
func TestSteps(t *testing.T) {
	at := path("a@b.example")
	for want, ev := range map[string]postrider.Event{
		StepDelivered:     {Kind: postrider.EventRecipient, State: postrider.Delivered, To: at},
		StepFailed:        {Kind: postrider.EventRecipient, State: postrider.Failed, To: at},
		StepHeld:          {Kind: postrider.EventAmended, Amend: postrider.AmendHold, To: at},
		StepReleased:      {Kind: postrider.EventAmended, Amend: postrider.AmendPass, To: at},
		StepBounced:       {Kind: postrider.EventAmended, Amend: postrider.AmendBounce, To: at},
		StepDropped:       {Kind: postrider.EventAmended, Amend: postrider.AmendDrop, To: at},
		StepBounceOrdered: {Kind: postrider.EventOrdered, Amend: postrider.AmendBounce, To: at},
		StepDropOrdered:   {Kind: postrider.EventOrdered, Amend: postrider.AmendDrop, To: at},
		StepRefused:       {Kind: postrider.EventRefused, To: at},
	} {
		if s, ok := stepOf(&ev); !ok || s.Event != want || s.To != at.String() || s.Next != nil {
			t.Errorf("%s: %+v", want, s)
		}
	}
	if _, ok := stepOf(&postrider.Event{Kind: postrider.EventDamaged}); ok {
		t.Error("damage is a step of a message")
	}
}
