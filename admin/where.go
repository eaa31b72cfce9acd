package admin

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A Journal is where the events of messages are found again, those that have gone
// among them: for each message that a query names its events in order, at most
// limit messages (0: its default), each report after what it reports. A refusal
// is one event without an ID.
type Journal interface {
	Where(ctx context.Context, query string, limit int) iter.Seq2[[]postrider.Event, error]
}

// A Step is one thing that became of a message, or what happens next.
type Step struct {
	Time  time.Time    `json:"time"`
	ID    postrider.ID `json:"id"` // empty: it was refused, and is no message
	Event string       `json:"event"`
	To    string       `json:"to"`    // empty: all; of StepAccepted and StepRefused all of them, with commas
	Peer  string       `json:"peer"`  // who gave it to us, or who took it or did not; empty: ourselves
	Reply string       `json:"reply"` // in one line, fit for a terminal
	Next  *time.Time   `json:"next"`  // the next attempt; null: none will come

	From    string       `json:"from,omitempty"` // of StepAccepted and StepRefused; "<>" is the null reverse-path
	Size    int64        `json:"size,omitempty"` // octets
	Header  string       `json:"message_id,omitempty"`
	TLS     string       `json:"tls,omitempty"`
	Account string       `json:"account,omitempty"`
	State   string       `json:"state,omitempty"`  // of StepNext: that of the recipient
	Tries   int          `json:"tries,omitempty"`  // attempts made by then
	Report  postrider.ID `json:"report,omitempty"` // the message that told the sender
}

// What a Step says.
const (
	StepAccepted      = "accepted"
	StepDeferred      = "deferred"
	StepDelivered     = "delivered"
	StepFailed        = "failed"
	StepRetried       = "retried" // this and the next four by an operator
	StepHeld          = "held"
	StepReleased      = "released"
	StepBounced       = "bounced"
	StepDropped       = "dropped"
	StepBounceOrdered = "bounce_ordered" // by an operator, of a recipient that is under way: when that has ended, if it
	StepDropOrdered   = "drop_ordered"   // still waits then, StepBounced or StepDropped follows
	StepReported      = "reported"       // the sender was told; without Report nothing was owed
	StepRemoved       = "removed"        // all is settled, and the queue has forgotten the message
	StepRefused       = "refused"
	StepLogin         = "login_refused" // Account is what the client said it is
	StepNext          = "next"          // what happens next to a recipient in the queue
)

var amendSteps = map[postrider.Amend]string{
	postrider.AmendDue: StepRetried, postrider.AmendHold: StepHeld, postrider.AmendRelease: StepReleased,
	postrider.AmendPass: StepReleased, postrider.AmendBounce: StepBounced, postrider.AmendDrop: StepDropped,
}

var orderSteps = map[postrider.Amend]string{postrider.AmendBounce: StepBounceOrdered, postrider.AmendDrop: StepDropOrdered}

// LoginRefused reports whether an event is of a login that failed (RFC 4954 6),
// and not of mail.
func LoginRefused(ev *postrider.Event) bool {
	return ev.Kind == postrider.EventRefused && len(ev.Tos) == 0 && (ev.Reply.Code == 535 || ev.Reply.Code == 454)
}

// stepOf shows an event; false: it is none of a message.
func stepOf(ev *postrider.Event) (Step, bool) {
	s := Step{Time: ev.Time.UTC(), ID: ev.ID, To: printed(ev.To), Reply: ReplyText(ev.Reply), Tries: ev.Tries, Report: ev.Report}
	switch ev.Kind {
	case postrider.EventAccepted, postrider.EventRefused:
		s.Event = StepAccepted
		if ev.Kind == postrider.EventRefused {
			s.Event = StepRefused
		}
		if LoginRefused(ev) {
			s.Event = StepLogin
		}
		if len(ev.Tos) > 0 {
			s.To = addressesOf(ev.Tos)
		}
		s.From, s.Size, s.Header, s.Peer = fromOf(ev.From), ev.Size, strings.Map(printable, ev.HeaderID), peerOf(ev.Source)
		s.TLS, s.Account = ev.Source.TLS, strings.Map(printable, ev.Source.Account)
	case postrider.EventRecipient:
		s.Peer = strings.Map(printable, ev.Remote)
		switch ev.State {
		case postrider.Delivered:
			s.Event = StepDelivered
		case postrider.Failed:
			s.Event = StepFailed
		default:
			s.Event, s.Next = StepDeferred, when(ev.Next)
		}
	case postrider.EventAmended:
		s.Event = amendSteps[ev.Amend]
		if ev.Amend == postrider.AmendDue {
			s.Next = when(ev.Next)
		}
	case postrider.EventOrdered:
		s.Event = orderSteps[ev.Amend]
	case postrider.EventReported:
		s.Event = StepReported
	case postrider.EventRemoved:
		s.Event = StepRemoved
	default:
		return s, false
	}
	return s, true
}

// tosShown is how many recipients of a message are named where it was accepted. Each
// has steps of its own.
const tosShown = 100

// addressesOf is a list for people.
func addressesOf(tos []smtp.Path) string {
	names := make([]string, min(len(tos), tosShown))
	for i := range names {
		names[i] = printed(tos[i])
	}
	list := strings.Join(names, ", ")
	if more := len(tos) - len(names); more > 0 {
		list += " and " + strconv.Itoa(more) + " more"
	}
	return list
}

func printed(p smtp.Path) string { return strings.Map(printable, p.String()) }

func fromOf(p smtp.Path) string {
	if p.IsNull() {
		return "<>"
	}
	return printed(p)
}

// peerOf is a client as people look for it: address, and the name that it gave.
func peerOf(s postrider.Source) string {
	if !s.Peer.IsValid() {
		return ""
	}
	peer := s.Peer.String()
	if s.Hello != "" {
		peer += " (" + strings.Map(printable, s.Hello) + ")"
	}
	return peer
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// A Search finds out what became of messages, and what happens next to them.
type Search struct {
	Journal Journal         // nil: what is in the queue alone
	Spool   postrider.Spool // nil: what the journal knows alone
	Dest    func(to smtp.Path) postrider.Dest
	Active  map[postrider.ID][]int
	Probed  func(postrider.Dest) time.Time // see Options
	Now     time.Time
}

// Steps yields the steps of the messages that a query names, message by message:
// those of the journal, then what happens next to each recipient that waits. A
// message in the queue of which the journal knows nothing is found too. What cannot be
// read of the queue is told at the end.
func (s Search) Steps(ctx context.Context, query string, limit int) iter.Seq2[Step, error] {
	return func(yield func(Step, error) bool) {
		found := false
		var bad unread
		if s.Journal != nil {
			for evs, err := range s.Journal.Where(ctx, query, limit) {
				if err != nil {
					yield(Step{}, err)
					return
				}
				found = true
				if !s.story(ctx, evs, &bad, yield) {
					return
				}
			}
		}
		if err := bad.err(); err != nil {
			yield(Step{}, err)
			return
		}
		if !found && s.Spool != nil {
			s.queued(ctx, query, yield)
		}
	}
}

// story yields the steps of one message. One that cannot be read is noted in bad: what
// became of it the journal knows.
func (s Search) story(ctx context.Context, evs []postrider.Event, bad *unread, yield func(Step, error) bool) bool {
	over := s.Spool == nil
	for i := range evs {
		over = over || evs[i].Kind == postrider.EventRemoved || evs[i].ID == ""
		if step, ok := stepOf(&evs[i]); ok && !yield(step, nil) {
			return false
		}
	}
	if over {
		return true
	}
	c, err := s.Spool.Open(ctx, evs[0].ID)
	switch {
	case errors.Is(err, postrider.ErrNotFound):
		return true // it has gone since the journal was asked
	case errors.Is(err, postrider.ErrClosed):
		yield(Step{}, err)
		return false
	case err != nil:
		bad.note(evs[0].ID, err)
		return true
	}
	defer c.Close()
	return s.next(c.Message(), yield)
}

// next yields what happens next to a message in the queue.
func (s Search) next(m *postrider.Message, yield func(Step, error) bool) bool {
	for _, r := range View(m, s.Dest, s.Active[m.ID], s.Now).Recipients {
		if r.State == StateDelivered || r.State == StateFailed {
			continue
		}
		step := Step{Time: s.Now.UTC(), ID: m.ID, Event: StepNext, To: clean(r.To), Reply: r.Reply, Next: r.Next, State: r.State, Tries: r.Tries}
		if s.Probed != nil && r.Next != nil {
			if at := s.Probed(r.Dest); at.After(*r.Next) {
				step.Next = when(at)
			}
		}
		if !yield(step, nil) {
			return false
		}
	}
	return true
}

func clean(s string) string { return strings.Map(printable, s) }

// queued yields the messages in the queue that a query names, of which there is
// no story.
func (s Search) queued(ctx context.Context, query string, yield func(Step, error) bool) {
	query = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(query), "<"), ">")
	var bad unread
	for m := range bad.rest(s.Spool.Scan(ctx)) {
		named := query != "" && (string(m.ID) == query || m.HeaderID == query || strings.EqualFold(m.From.String(), query))
		ev := postrider.Event{Kind: postrider.EventAccepted, Time: m.Arrived, ID: m.ID, From: m.From, Size: m.Size, Source: m.Source, HeaderID: m.HeaderID}
		for _, r := range m.Recipients {
			named = named || query != "" && strings.EqualFold(r.To.String(), query)
			ev.Tos = append(ev.Tos, r.To)
		}
		if !named {
			continue
		}
		if step, _ := stepOf(&ev); !yield(step, nil) || !s.next(m, yield) {
			return
		}
	}
	if err := bad.err(); err != nil {
		yield(Step{}, err)
	}
}

// whereMost bounds the limit that a client may ask for.
const whereMost = 10_000

// where writes one step a line. An error in the middle is a line of its own.
func (o Options) where(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := 0
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > whereMost {
			answer(w, http.StatusBadRequest, fault{"limit is a number from 1 to " + strconv.Itoa(whereMost)})
			return
		}
		limit = n
	}
	if strings.TrimSpace(q.Get("q")) == "" {
		answer(w, http.StatusBadRequest, fault{"q is an ID, an address or a Message-ID"})
		return
	}
	out := newPen(w)
	defer patient(w) // for what is not sent yet
	s := Search{Journal: o.Journal, Spool: o.Spool, Dest: o.Dest, Active: o.active(), Probed: o.Probed, Now: o.Now()}
	for step, err := range s.Steps(r.Context(), q.Get("q"), limit) {
		if err != nil {
			out.line(fault{err.Error()})
			return
		}
		if out.line(step) != nil {
			return
		}
	}
}

// Where yields what became of the messages that a query names; limit 0: as many
// as the server finds enough.
func (c Client) Where(ctx context.Context, query string, limit int) iter.Seq2[Step, error] {
	v := url.Values{"q": {query}}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return lines[Step](ctx, c, http.MethodGet, "/api/v1/where", v)
}
