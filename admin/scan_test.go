package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What is read of a queue is bounded by the domain that a filter names, and only by that.
func TestFilterDomain(t *testing.T) {
	for _, tt := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, ""}, {Filter{Domain: "a.example"}, "a.example"}, {Filter{To: "x@a.example"}, "a.example"}, {Filter{To: "*@a.example"}, "a.example"},
		{Filter{To: "*"}, ""}, {Filter{To: "x@*.example"}, ""}, {Filter{To: "postmaster"}, ""}, {Filter{From: "x@a.example"}, ""},
		{Filter{To: "x@a.example", Domain: "b.example"}, "b.example"},
	} {
		if got := tt.f.domain(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
}

// A message to a great many names some of them where it was accepted.
func TestManyRecipients(t *testing.T) {
	ev := postrider.Event{Kind: postrider.EventAccepted, ID: "x"}
	for i := range tosShown + 5 {
		ev.Tos = append(ev.Tos, smtp.Path{Local: strconv.Itoa(i), Domain: "x.example"})
	}
	s, ok := stepOf(&ev)
	if want := ", 99@x.example and 5 more"; !ok || !strings.HasPrefix(s.To, "0@x.example, 1@x.example, ") || !strings.HasSuffix(s.To, want) {
		t.Errorf("%q", s.To)
	}
}

// Who names a message by the whole of its ID does not have the queue read.
func TestWholeID(t *testing.T) {
	s := queue()
	s.broken, s.scanErr = "aaa2", errors.New("all was read")
	o := options(s)
	c := Client{serve{Control(o)}}
	if got := ids(t, c.Queue(t.Context(), Filter{ID: "bbb3"})); got != "bbb3" {
		t.Errorf("%q", got)
	}
	if got := ids(t, c.Queue(t.Context(), Filter{ID: "bbb3", State: StateHeld})); got != "" {
		t.Errorf("of those that are held: %q", got)
	}
	if got, want := carry(t, o, Order{Verb: VerbRetry, Filter: Filter{ID: "bbb3"}}), "bbb3 fred@far.example queued now"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, id := range []string{"bbb", "aaa2", "ccc"} { // how it begins; cannot be read; is not there
		var last error
		for _, err := range c.Queue(t.Context(), Filter{ID: id}) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: nothing more was read", id)
		}
	}
}

// What cannot be read is said at the end, and the rest is shown and done; who names it
// can drop it.
func TestUnreadMessageEndsNothing(t *testing.T) {
	s := queue()
	s.broken = "aaa1"
	o := options(s)
	c := Client{serve{Control(o)}}
	var ids []string
	var last error
	for m, err := range c.Queue(t.Context(), Filter{}) {
		if last = err; err == nil {
			ids = append(ids, string(m.ID))
		}
	}
	if len(ids) != len(s.messages)-1 || last == nil || !strings.Contains(last.Error(), "bad sector") {
		t.Errorf("list: %q, %v", ids, last)
	}
	dests := 0
	for d, err := range c.Stat(t.Context(), Filter{State: StateHeld}) {
		if last = err; err == nil && d.Dest != "" {
			dests++
		}
	}
	if dests == 0 || last == nil || !strings.Contains(last.Error(), "bad sector") {
		t.Errorf("stat: %d destinations, %v", dests, last)
	}
	do := func(order Order) (touched []postrider.ID, err error) {
		for t, e := range c.Do(t.Context(), order) {
			if err = e; e == nil {
				touched = append(touched, t.ID)
			}
		}
		return touched, err
	}
	if touched, err := do(Order{Verb: VerbHold, Filter: Filter{To: "*"}}); !slices.Equal(touched, []postrider.ID{"aaa2", "bbb3"}) || err == nil {
		t.Errorf("hold: %q, %v", touched, err)
	}
	s.amended = nil
	for _, order := range []Order{{Verb: VerbBounce, Filter: Filter{ID: "aaa1"}}, {Verb: VerbDrop, Filter: Filter{ID: "aaa"}}} {
		if touched, err := do(order); slices.Contains(touched, "aaa1") || err == nil {
			t.Errorf("%+v: %q, %v", order, touched, err)
		}
	}
	s.amended = nil
	touched, err := do(Order{Verb: VerbDrop, Filter: Filter{ID: "aaa1"}})
	if len(touched) != 1 || touched[0] != "aaa1" || err != nil || len(s.amended) != 1 || s.amended[0].Do != postrider.AmendDrop || s.amended[0].Rcpts != nil {
		t.Errorf("drop: %q, %v, %+v", touched, err, s.amended)
	}
}

// A lending is a shelf that counts what was opened and not closed.
type lending struct {
	*shelf
	opened, open int
}

func (s *lending) Open(ctx context.Context, id postrider.ID) (postrider.Content, error) {
	c, err := s.shelf.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	s.opened++
	s.open++
	return lent{c, s}, nil
}

type lent struct {
	postrider.Content
	s *lending
}

func (l lent) Close() error { l.s.open--; return nil }

// Whoever looks at a message, or orders something of it, gives it back: each that is kept
// open is a descriptor, and room in the spool, for as long as the server runs.
func TestWhatIsOpenedIsClosed(t *testing.T) {
	for _, ask := range []string{
		"GET /api/v1/queue/aaa1", "GET /api/v1/queue?id=aaa1", "GET /api/v1/queue?id=aaa1&to=nobody@x",
		"POST /api/v1/queue/hold?id=aaa1", "POST /api/v1/queue/drop?id=aaa1&dry_run=true", "GET /api/v1/where?q=aaa1",
	} {
		s := &lending{shelf: queue()}
		o := options(s.shelf)
		o.Spool, o.Journal = s, stories()
		method, target, _ := strings.Cut(ask, " ")
		w := httptest.NewRecorder()
		Control(o).ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code != 200 || s.opened == 0 || s.open != 0 {
			t.Errorf("%s: %d, of %d messages that were opened %d stay open", ask, w.Code, s.opened, s.open)
		}
	}
}
