package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A Verb is what an operator wants done with mail in the queue.
type Verb string

// The verbs. They touch recipients that are not settled.
const (
	VerbRetry   Verb = "retry"   // due now
	VerbHold    Verb = "hold"    // no attempt and no expiry until it is released
	VerbRelease Verb = "release" // held no longer, and due now; where the route holds it, it goes by MX
	VerbBounce  Verb = "bounce"  // given up, and the sender is told
	VerbDrop    Verb = "drop"    // given up, and nobody is told
)

var verbs = []Verb{VerbRetry, VerbHold, VerbRelease, VerbBounce, VerbDrop}

// Destroys reports whether what was done cannot be taken back.
func (v Verb) Destroys() bool { return v == VerbBounce || v == VerbDrop }

// An Order is a verb, and which mail it is meant for.
type Order struct {
	Verb   Verb
	Filter Filter
	DryRun bool   // say what would be touched, and touch nothing
	Text   string // of VerbBounce: what the sender is told; empty: that it was by hand
}

// textMax bounds the text of a bounce, in octets.
const textMax = 400

// Check says what is wrong with an order. Only a retry may be meant for all.
func (o Order) Check() error {
	switch {
	case !slices.Contains(verbs, o.Verb):
		return fmt.Errorf("there is no verb %q", o.Verb)
	case o.Verb != VerbRetry && o.Filter == Filter{}:
		return fmt.Errorf("%s what? Name messages, or choose them with a filter (--to '*' is all)", o.Verb)
	case o.Text != "" && o.Verb != VerbBounce:
		return errors.New("only a bounce tells the sender anything")
	case len(o.Text) > textMax || strings.ContainsFunc(o.Text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("the text for the sender is one line of at most %d octets", textMax)
	}
	return o.Filter.Check()
}

func (o Order) values() url.Values {
	v := o.Filter.Values()
	if o.DryRun {
		v.Set("dry_run", "true")
	}
	if o.Text != "" {
		v.Set("text", o.Text)
	}
	return v
}

func parseOrder(verb string, v url.Values) (o Order, err error) {
	o.Verb = Verb(verb)
	if v.Has("dry_run") {
		if o.DryRun = v.Get("dry_run") == "true"; !o.DryRun {
			return o, errors.New("dry_run is true, or is not there")
		}
	}
	o.Text = v.Get("text")
	v.Del("dry_run")
	v.Del("text")
	if o.Filter, err = ParseFilter(v); err != nil {
		return o, err
	}
	return o, o.Check()
}

// Touched is a message that an order touches.
type Touched struct {
	ID         postrider.ID  `json:"id"`
	From       string        `json:"from"` // empty: the null reverse-path
	Do         Verb          `json:"do"`
	DryRun     bool          `json:"dry_run,omitempty"` // nothing was done
	Recipients []TouchedRcpt `json:"recipients"`
}

// A TouchedRcpt is one recipient that an order touches.
type TouchedRcpt struct {
	To    string `json:"to"`
	State string `json:"state"` // before
	When  string `json:"when"`
}

// When an order holds: at once, or when the attempt that is under way has come
// back without having delivered.
const (
	WhenNow          = "now"
	WhenAfterAttempt = "after_attempt"
)

// plan is what an order comes to for one message: what is to be committed, and
// which destinations have something to try then. No amendment: nothing.
func (o Order) plan(m *postrider.Message, v Message, now time.Time) ([]postrider.Amendment, Touched, []postrider.Dest) {
	t := Touched{ID: m.ID, From: v.From, Do: o.Verb, DryRun: o.DryRun}
	rcpts := map[postrider.Amend][]int{}
	var dests []postrider.Dest
	for _, i := range o.Filter.Choose(v, now) {
		r := &m.Recipients[i]
		do, ok := o.Verb.amend(r, v.Recipients[i])
		if !ok {
			continue
		}
		rcpts[do] = append(rcpts[do], i)
		touched := TouchedRcpt{To: v.Recipients[i].To, State: v.Recipients[i].State, When: WhenNow}
		if touched.State == StateActive && do != postrider.AmendRelease {
			touched.When = WhenAfterAttempt
		}
		t.Recipients = append(t.Recipients, touched)
		switch do {
		case postrider.AmendDue, postrider.AmendRelease:
			dests = append(dests, v.Recipients[i].Dest)
		case postrider.AmendPass:
			dests = append(dests, v.Recipients[i].Dest.Past(r.To))
		}
	}
	var all []postrider.Amendment
	for _, do := range slices.Sorted(maps.Keys(rcpts)) {
		a := postrider.Amendment{ID: m.ID, Do: do, Rcpts: rcpts[do]}
		switch do {
		case postrider.AmendDue:
			a.Due = now
		case postrider.AmendBounce:
			a.Reply = bounceReply(o.Text)
		}
		all = append(all, a)
	}
	return all, t, dests
}

// amend is what a verb means for a recipient; false: nothing.
func (v Verb) amend(r *postrider.Recipient, seen Recipient) (postrider.Amend, bool) {
	if r.State != postrider.Waiting {
		return 0, false
	}
	switch v {
	case VerbRetry:
		return postrider.AmendDue, seen.State == StateQueued || seen.State == StateDeferred
	case VerbHold:
		return postrider.AmendHold, !r.Held
	case VerbRelease:
		if seen.Dest == postrider.DestHold {
			return postrider.AmendPass, true
		}
		return postrider.AmendRelease, r.Held
	case VerbBounce:
		return postrider.AmendBounce, true
	}
	return postrider.AmendDrop, true
}

// bounceReply is what the sender of a bounced message is told.
func bounceReply(text string) smtp.Reply {
	if text == "" {
		text = "The postmaster has given this message up"
	}
	return smtp.Reply{Code: 554, Status: smtp.Status{Class: 5, Subject: 7, Detail: 0}, Text: text}
}

// orderBatch is how many amendments one commit of an order makes.
const orderBatch = 256

// do carries an order out, and tells of each message once what was wanted of it
// is durable.
func (o Options) do(w http.ResponseWriter, r *http.Request) {
	order, err := parseOrder(r.PathValue("verb"), r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, fault{err.Error()})
		return
	}
	j := &job{o: o, order: order, out: newPen(w), dests: map[postrider.Dest]bool{}}
	defer patient(w) // for what is not sent yet
	if err := j.run(r.Context()); err != nil {
		j.out.line(fault{err.Error()})
	}
}

// A job is an order being carried out.
type job struct {
	o      Options
	order  Order
	out    pen
	chosen []postrider.Amendment
	told   []Touched // of chosen
	dests  map[postrider.Dest]bool
	bad    unread
}

// run does the order. What was done is hurried, though not all could be, and though
// nobody waits for the answer any more.
func (j *job) run(ctx context.Context) error {
	err := j.carry(ctx)
	if !j.order.DryRun && j.o.Hurry != nil && len(j.dests) > 0 {
		hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), hurryTime)
		defer cancel()
		if herr := j.o.Hurry(hurry, slices.Sorted(maps.Keys(j.dests))); err == nil {
			err = herr
		}
	}
	return cmp.Or(err, j.bad.err())
}

// hurryTime is how long destinations may take to hear that they are to be tried.
const hurryTime = 10 * time.Second

// carry commits the order in batches. After an error some of the last may be durable.
func (j *job) carry(ctx context.Context) error {
	active, now := j.o.active(), j.o.Now()
	for m := range j.bad.rest(j.dropUnread(j.o.scan(ctx, j.order.Filter))) {
		amends, touched, dests := j.order.plan(m, View(m, j.o.Dest, active[m.ID], now), now)
		if len(amends) == 0 {
			continue
		}
		j.chosen, j.told = append(j.chosen, amends...), append(j.told, touched)
		for _, d := range dests {
			j.dests[d] = true
		}
		if len(j.chosen) >= orderBatch {
			if err := j.flush(ctx); err != nil {
				return err
			}
		}
	}
	return j.flush(ctx)
}

// dropUnread has a message dropped that cannot be read and that the order names: whom it
// is for nobody can say, and it is to go all the same. The others of a scan it passes on.
func (j *job) dropUnread(all iter.Seq2[*postrider.Message, error]) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		for m, err := range all {
			if err != nil && m != nil && j.order.Verb == VerbDrop && j.order.Filter == (Filter{ID: string(m.ID)}) {
				j.chosen = append(j.chosen, postrider.Amendment{ID: m.ID, Do: postrider.AmendDrop})
				j.told = append(j.told, Touched{ID: m.ID, Do: VerbDrop, DryRun: j.order.DryRun, Recipients: []TouchedRcpt{}})
			} else if !yield(m, err) {
				return
			}
		}
	}
}

// flush commits what has gathered, and tells of it.
func (j *job) flush(ctx context.Context) error {
	gone := map[postrider.ID]bool{}
	if !j.order.DryRun && len(j.chosen) > 0 {
		err := j.o.Spool.Commit(ctx, postrider.Batch{Amend: j.chosen})
		if errors.Is(err, postrider.ErrNotFound) { // one was settled meanwhile
			err = j.each(ctx, gone)
		}
		if err != nil {
			return err
		}
	}
	told := j.told
	j.chosen, j.told = nil, nil
	for _, t := range told {
		if gone[t.ID] {
			continue
		}
		if err := j.out.line(t); err != nil {
			return err
		}
	}
	return nil
}

// each commits the amendments one by one, and notes whose message is gone.
func (j *job) each(ctx context.Context, gone map[postrider.ID]bool) error {
	for _, a := range j.chosen {
		switch err := j.o.Spool.Commit(ctx, postrider.Batch{Amend: []postrider.Amendment{a}}); {
		case errors.Is(err, postrider.ErrNotFound):
			gone[a.ID] = true
		case err != nil:
			return err
		}
	}
	return nil
}
