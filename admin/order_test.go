package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider"
)

// carry does an order and returns what it touched, in short.
func carry(t *testing.T, o Options, order Order) string {
	t.Helper()
	var all []string
	for touched, err := range (Client{serve{Control(o)}}).Do(t.Context(), order) {
		if err != nil {
			t.Fatal(err)
		}
		if touched.DryRun != order.DryRun || touched.Do != order.Verb {
			t.Errorf("%+v", touched)
		}
		for _, r := range touched.Recipients {
			all = append(all, fmt.Sprintf("%s %s %s %s", touched.ID, r.To, r.State, r.When))
		}
	}
	return strings.Join(all, "\n")
}

// Each verb touches those recipients alone that the filters choose and that it
// means something for.
func TestVerbs(t *testing.T) {
	const due, hold, release = postrider.AmendDue, postrider.AmendHold, postrider.AmendRelease
	const bounce, drop, pass = postrider.AmendBounce, postrider.AmendDrop, postrider.AmendPass
	type amend = postrider.Amendment
	for _, tt := range []struct {
		order   Order
		touched []string
		amended []amend
		hurried []postrider.Dest
	}{
		{Order{Verb: VerbRetry}, []string{"aaa1 bob@Far.example deferred now", "bbb3 fred@far.example queued now"},
			[]amend{{ID: "aaa1", Rcpts: []int{0}, Due: now}, {ID: "bbb3", Rcpts: []int{0}, Due: now}},
			[]postrider.Dest{"mx:Far.example", "mx:far.example"}},
		{Order{Verb: VerbHold, Filter: Filter{ID: "bbb3"}},
			[]string{"bbb3 fred@far.example queued now", "bbb3 gina@near.example active after_attempt"},
			[]amend{{ID: "bbb3", Rcpts: []int{0, 1}, Do: hold}}, nil},
		{Order{Verb: VerbRelease, Filter: Filter{To: "*"}},
			[]string{"aaa2 dora@held.example held now", "bbb4 hans@far.example held now", "bbb4 ida@held.example held now"},
			[]amend{{ID: "aaa2", Rcpts: []int{0}, Do: pass}, {ID: "bbb4", Rcpts: []int{0}, Do: release}, {ID: "bbb4", Rcpts: []int{1}, Do: pass}},
			[]postrider.Dest{"mx:far.example", "mx:held.example"}},
		{Order{Verb: VerbRelease, Filter: Filter{ID: "bbb3"}}, nil, nil, nil},
		{Order{Verb: VerbBounce, Filter: Filter{Domain: "near.example"}, Text: "No more"},
			[]string{"bbb3 gina@near.example active after_attempt"},
			[]amend{{ID: "bbb3", Rcpts: []int{1}, Do: bounce, Reply: bounceReply("No more")}}, nil},
		{Order{Verb: VerbDrop, Filter: Filter{ID: "aaa1"}}, // carl has it already
			[]string{"aaa1 bob@Far.example deferred now"}, []amend{{ID: "aaa1", Rcpts: []int{0}, Do: drop}}, nil},
		{Order{Verb: VerbDrop, Filter: Filter{To: "hans@*"}, DryRun: true}, []string{"bbb4 hans@far.example held now"}, nil, nil},
		{Order{Verb: VerbRelease, Filter: Filter{To: "hans@*"}, DryRun: true}, []string{"bbb4 hans@far.example held now"}, nil, nil},
	} {
		s := queue()
		s.messages = append(s.messages, &postrider.Message{ID: "bbb4", Arrived: now, Recipients: []postrider.Recipient{
			{To: path("hans@far.example"), Held: true}, {To: path("ida@held.example"), Held: true}}})
		o := options(s)
		var hurried []postrider.Dest
		o.Hurry = func(_ context.Context, dests []postrider.Dest) error {
			hurried = dests
			return nil
		}
		if diff := cmp.Diff(strings.Join(tt.touched, "\n"), carry(t, o, tt.order)); diff != "" {
			t.Errorf("%+v touches: %s", tt.order, diff)
		}
		if diff := cmp.Diff(tt.amended, s.amended); diff != "" {
			t.Errorf("%+v commits: %s", tt.order, diff)
		}
		if diff := cmp.Diff(tt.hurried, hurried); diff != "" {
			t.Errorf("%+v hurries: %s", tt.order, diff)
		}
	}
}

// A message that was settled between the look and the commit stops nobody, and
// nobody is told that it was touched.
func TestGoneMeanwhile(t *testing.T) {
	s := queue()
	s.gone = "aaa1"
	if got, want := carry(t, options(s), Order{Verb: VerbRetry}), "bbb3 fred@far.example queued now"; got != want || len(s.amended) != 1 {
		t.Errorf("touched %q, amended %+v", got, s.amended)
	}
}

// The names are the contract with every program that reads them.
func TestShapeOfTouched(t *testing.T) {
	w := httptest.NewRecorder()
	Control(options(queue())).ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/queue/hold?id=aaa2&dry_run=true", nil))
	want := `{"id":"aaa2","from":"","do":"hold","dry_run":true,"recipients":[{"to":"dora@held.example","state":"held","when":"now"}]}` + "\n"
	if w.Body.String() != want {
		t.Errorf("%s", w.Body)
	}
}

func TestWrongOrders(t *testing.T) {
	for _, q := range []string{
		"burn?id=aaa1", "hold", "drop?", "bounce?text=x", "hold?id=a&text=x", "drop?id=a&dry_run=1", "bounce?id=a&text=a%0d%0ab",
		"bounce?id=a&text=" + strings.Repeat("x", textMax+1), "drop?id=a&dryrun=true", "hold?state=waiting",
	} {
		s := queue()
		w := httptest.NewRecorder()
		Control(options(s)).ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/queue/"+q, nil))
		var f fault
		if err := json.Unmarshal(w.Body.Bytes(), &f); w.Code != 400 || err != nil || f.Error == "" || s.amended != nil {
			t.Errorf("%s: %d %s", q, w.Code, w.Body)
		}
	}
	if o, err := parseOrder("bounce", url.Values{"id": {"a"}, "text": {"Zur\u00fcck"}}); err != nil || o.Text != "Zur\u00fcck" {
		t.Errorf("%+v, %v", o, err)
	}
}

// The text for the sender may have as many octets as it is said to.
func TestLongestText(t *testing.T) {
	for n, ok := range map[int]bool{textMax: true, textMax + 1: false} {
		o := Order{Verb: VerbBounce, Filter: Filter{ID: "a"}, Text: strings.Repeat("x", n)}
		if err := o.Check(); (err == nil) != ok {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

// An operator is told when an order holds: of what is under way a hold does after the
// attempt, and a release takes the hold away at once.
func TestOrdersOfWhatIsUnderWay(t *testing.T) {
	for _, tt := range []struct {
		verb Verb
		held bool
		want string
	}{
		{VerbHold, false, "bbb3 gina@near.example active after_attempt"},
		{VerbHold, true, ""}, // it is ordered already
		{VerbRelease, true, "bbb3 gina@near.example active now"},
		{VerbRelease, false, ""},
		{VerbRetry, false, ""},
		{VerbBounce, true, "bbb3 gina@near.example active after_attempt"},
		{VerbDrop, true, "bbb3 gina@near.example active after_attempt"},
	} {
		s := queue()
		s.messages[2].Recipients[1].Held = tt.held
		if got := carry(t, options(s), Order{Verb: tt.verb, Filter: Filter{To: "gina@*"}}); got != tt.want {
			t.Errorf("%s, held %v: %q, want %q", tt.verb, tt.held, got, tt.want)
		}
	}
}

func TestStat(t *testing.T) {
	s := queue()
	s.messages = append(s.messages, &postrider.Message{ID: "bbb4", Arrived: now.Add(-3 * time.Hour), Recipients: []postrider.Recipient{
		{To: path("hans@far.example"), Held: true, Tries: 1, Reply: bounceReply("no")}, {To: path("ida@far.example"), Tries: 1, Reply: bounceReply("no")}}})
	stat := func(f Filter) (all []DestStat) {
		for d, err := range (Client{serve{Control(options(s))}}).Stat(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
		}
		return all
	}
	want := []DestStat{
		{Dest: "mx:far.example", Queued: 1, Deferred: 1, Held: 1, Oldest: now.Add(-3 * time.Hour), Reasons: []Reason{{"554 5.7.0 no", 2}}},
		{Dest: "hold", Held: 1, Oldest: now.Add(-time.Hour), Reasons: []Reason{}, Domains: []DomainStat{{"held.example", 1}}},
		{Dest: "mx:Far.example", Deferred: 1, Oldest: now.Add(-2 * time.Hour), Reasons: []Reason{{"450 4.2.0 Greylisted, come ?[31mback", 1}}},
		{Dest: "mx:near.example", Active: 1, Oldest: now.Add(-time.Minute), Reasons: []Reason{}},
	}
	if diff := cmp.Diff(want, stat(Filter{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:2], stat(Filter{State: StateHeld, From: "<>", To: "dora*"})); diff != "" {
		t.Error(diff)
	}
}

// Where a destination does not name the domains that wait for it, they are told,
// the fullest first.
func TestStatDomains(t *testing.T) {
	tally := NewTally()
	add := func(dest postrider.Dest, to string, n int) {
		for range n {
			tally.Add(Message{Recipients: []Recipient{{To: to, Dest: dest, State: StateQueued}}}, Filter{}, now)
		}
	}
	add("smtp:192.0.2.1:25", "a@Far.example", 2)
	add("smtp:192.0.2.1:25", "b@near.example", 3)
	add("mx:Far.example", "a@far.example", 1)
	for i := range 8 {
		add("hold", fmt.Sprintf("a@d%d.example", i), 1)
	}
	got := map[postrider.Dest]string{}
	for _, d := range tally.Stats() {
		got[d.Dest] = fmt.Sprint(d.Domains, d.MoreDomains)
	}
	want := map[postrider.Dest]string{"smtp:192.0.2.1:25": "[{near.example 3} {far.example 2}] 0", "mx:Far.example": "[] 0",
		"hold": "[{d0.example 1} {d1.example 1} {d2.example 1} {d3.example 1} {d4.example 1}] 3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A reload tells a mistake of the configuration from a failure of the server.
func TestReload(t *testing.T) {
	o := options(queue())
	c := Client{serve{Control(o)}}
	if _, err := c.Reload(t.Context()); err == nil || errors.Is(err, ErrConfig) {
		t.Errorf("nothing to reload: %v", err)
	}
	for _, tt := range []struct {
		err     error
		mistake bool
	}{{nil, false}, {fmt.Errorf("x.hcl:1: %w", ErrConfig), true}, {errors.New("port taken"), false}} {
		o.Reload = func(context.Context) ([]string, error) { return []string{"dns"}, tt.err }
		done, err := Client{serve{Control(o)}}.Reload(t.Context())
		if (err == nil) != (tt.err == nil) || errors.Is(err, ErrConfig) != tt.mistake || err != nil && err.Error() != tt.err.Error() {
			t.Errorf("%v came as %v", tt.err, err)
		}
		if err == nil && !cmp.Equal(done.Later, []string{"dns"}) {
			t.Errorf("%+v", done)
		}
	}
	if code, _ := get(Public(o), "/api/v1/reload"); code != 404 {
		t.Errorf("the public address reloads: %d", code)
	}
}

// However many an order is about, one that was settled between the look and the
// commit keeps none of the others from being carried out, and who hears that a
// message was touched can rely on it.
func TestOneOfManyGoneMeanwhile(t *testing.T) {
	for _, n := range []int{1, 2, 99, 100, 101, orderBatch - 1, orderBatch, orderBatch + 1, 2*orderBatch + 7} {
		s := &shelf{}
		for i := range n {
			s.messages = append(s.messages, &postrider.Message{ID: postrider.ID(fmt.Sprintf("m%04d", i)), Arrived: now,
				Recipients: []postrider.Recipient{{To: path("u@far.example"), Due: now}}})
		}
		s.gone = s.messages[n/2].ID
		told := carry(t, options(s), Order{Verb: VerbHold, Filter: Filter{To: "*"}})
		var held []string
		for _, a := range s.amended {
			if a.Do == postrider.AmendHold {
				held = append(held, fmt.Sprintf("%s u@far.example queued now", a.ID))
			}
		}
		if len(held) != n-1 || strings.Join(held, "\n") != told {
			t.Errorf("of %d messages, one gone, %d were held, and told is %.200q", n, len(held), told)
		}
	}
}

// A failingShelf is a shelf whose disk takes some amendments and fails from then on.
type failingShelf struct {
	*shelf
	takes int
}

var errDisk = errors.New("no space left on the disk")

func (s *failingShelf) Commit(ctx context.Context, b postrider.Batch) error {
	if len(s.amended)+len(b.Amend) > s.takes && !slices.ContainsFunc(b.Amend, func(a postrider.Amendment) bool { return a.ID == s.gone }) {
		return errDisk
	}
	return s.shelf.Commit(ctx, b)
}

// A disk that fails amid an order is told to who gave it, also where a message of the order
// was settled meanwhile; nobody is told that a message was touched that was not.
func TestDiskFailsAmidAnOrder(t *testing.T) {
	for _, verb := range []Verb{VerbHold, VerbDrop, VerbBounce} {
		for _, gone := range []postrider.ID{"", "m0000", "m0003", "m0009"} {
			s := &failingShelf{many(10), 5}
			s.gone = gone
			o := options(s.shelf)
			o.Spool = s
			var last error
			for touched, err := range (Client{serve{Control(o)}}).Do(t.Context(), Order{Verb: verb, Filter: Filter{To: "*"}}) {
				if last = err; err == nil && !slices.ContainsFunc(s.amended, func(a postrider.Amendment) bool { return a.ID == touched.ID }) {
					t.Errorf("%s, %q is gone: %s is told, and was not touched", verb, gone, touched.ID)
				}
			}
			if last == nil || last.Error() != errDisk.Error() {
				t.Errorf("%s, %q is gone: the answer ends with %v", verb, gone, last)
			}
		}
	}
}
