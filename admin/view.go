package admin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A Message is a queued message as the commands and the API print it.
type Message struct {
	ID         postrider.ID `json:"id"`
	From       string       `json:"from"` // empty: the null reverse-path
	Size       int64        `json:"size"` // octets
	Arrived    time.Time    `json:"arrived"`
	Release    *time.Time   `json:"release,omitempty"`  // not sent before, by order of the sender (RFC 4865); null: at once
	Priority   int8         `json:"priority,omitempty"` // RFC 6710
	State      string       `json:"state"`
	Recipients []Recipient  `json:"recipients"`
}

// A Recipient is one recipient of a Message.
type Recipient struct {
	To    string         `json:"to"`
	State string         `json:"state"`
	Dest  postrider.Dest `json:"dest"`
	Tries int            `json:"tries"`
	Next  *time.Time     `json:"next"`  // null: no attempt will come
	Reply string         `json:"reply"` // what was heard last; empty: nothing yet
}

// The states of a recipient, and of a message. Delivered and failed are those of
// recipients that are settled while others of their message are not, or while a
// report is owed.
const (
	StateQueued    = "queued"   // no attempt yet
	StateActive    = "active"   // an attempt is under way
	StateDeferred  = "deferred" // tried, and to be tried again
	StateHeld      = "held"     // kept back by an operator, or by its route
	StateDelivered = "delivered"
	StateFailed    = "failed"
)

// states in the order of what a message is called by: the first that one of its
// recipients is in.
var states = []string{StateActive, StateQueued, StateDeferred, StateHeld, StateFailed, StateDelivered}

// View shows m as it is at the time now. The indices of recipients in active are under
// way; dest says where a recipient waits.
func View(m *postrider.Message, dest func(smtp.Path) postrider.Dest, active []int, now time.Time) Message {
	v := Message{ID: m.ID, From: m.From.String(), Size: m.Size, Arrived: m.Arrived.UTC(), Release: when(m.Release), Priority: m.Priority, Recipients: make([]Recipient, len(m.Recipients))}
	best := len(states) - 1
	for i, r := range m.Recipients {
		out := Recipient{To: r.To.String(), Dest: dest(r.To), Tries: r.Tries, Reply: ReplyText(r.Reply)}
		if r.Passed {
			out.Dest = out.Dest.Past(r.To)
		}
		out.State = stateOf(r, out.Dest, slices.Contains(active, i))
		if out.State == StateQueued || out.State == StateDeferred {
			due := r.Due.UTC()
			out.Next = &due
		}
		if r.Reply.Code == 0 && out.State == StateQueued && m.Release.After(now) && r.Due.Equal(m.Release) {
			out.Reply = SendersOrder
		}
		best = min(best, slices.Index(states, out.State))
		v.Recipients[i] = out
	}
	v.State = states[best]
	return v
}

// SendersOrder is the reply of a recipient that nobody has asked about yet, since its
// sender wants it so (RFC 4865), and for which it is not yet time.
const SendersOrder = "waits by order of the sender"

func stateOf(r postrider.Recipient, d postrider.Dest, active bool) string {
	switch {
	case r.State == postrider.Delivered:
		return StateDelivered
	case r.State == postrider.Failed:
		return StateFailed
	case active:
		return StateActive
	case r.Held || d == postrider.DestHold:
		return StateHeld
	case r.Tries > 0:
		return StateDeferred
	}
	return StateQueued
}

// ReplyText is a reply in one line, and fit for a terminal.
func ReplyText(r smtp.Reply) string {
	if r.Code == 0 {
		return ""
	}
	s := fmt.Sprint(r.Code)
	if !r.Status.IsZero() {
		s += " " + r.Status.String()
	}
	if r.Text != "" {
		s += " " + strings.Map(printable, r.Text)
	}
	return s
}

func printable(r rune) rune {
	switch {
	case r == '\n':
		return ' '
	case !unicode.IsPrint(r):
		return '?'
	}
	return r
}

// A Filter chooses messages, and recipients of them. Every field that is not
// zero must match; To, Domain, State and Reason choose recipients, and must
// match one and the same. In From and To a "*" stands for anything.
type Filter struct {
	ID     string // the ID, or how it begins
	From   string // "<>" is the null reverse-path
	To     string
	Domain string
	State  string
	Reason string        // part of the last reply
	Older  time.Duration // arrived longer ago
}

// Match reports whether m is chosen at the time now.
func (f Filter) Match(m Message, now time.Time) bool {
	return f.matchMessage(m, now) && slices.ContainsFunc(m.Recipients, f.matchRecipient)
}

// Choose returns the indices of the recipients of m that are chosen at the time
// now; none when m is not.
func (f Filter) Choose(m Message, now time.Time) []int {
	if !f.matchMessage(m, now) {
		return nil
	}
	var chosen []int
	for i, r := range m.Recipients {
		if f.matchRecipient(r) {
			chosen = append(chosen, i)
		}
	}
	return chosen
}

func (f Filter) matchMessage(m Message, now time.Time) bool {
	from := m.From
	if from == "" {
		from = "<>"
	}
	return strings.HasPrefix(string(m.ID), f.ID) && (f.From == "" || glob(f.From, from)) &&
		(f.Older == 0 || now.Sub(m.Arrived) >= f.Older)
}

func (f Filter) matchRecipient(r Recipient) bool {
	domain := r.To[strings.LastIndexByte(r.To, '@')+1:]
	return (f.To == "" || glob(f.To, r.To)) &&
		(f.Domain == "" || strings.EqualFold(f.Domain, domain)) &&
		(f.State == "" || f.State == r.State) &&
		strings.Contains(strings.ToLower(r.Reply), strings.ToLower(f.Reason))
}

// glob compares without case; "*" stands for any octets.
func glob(pattern, s string) bool {
	parts := strings.Split(strings.ToLower(pattern), "*")
	s = strings.ToLower(s)
	if len(parts) == 1 {
		return s == parts[0]
	}
	last := len(parts) - 1
	if !strings.HasPrefix(s, parts[0]) || len(s) < len(parts[0])+len(parts[last]) || !strings.HasSuffix(s, parts[last]) {
		return false
	}
	s = s[len(parts[0]) : len(s)-len(parts[last])]
	for _, p := range parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

// Values are the parameters of the API for f.
func (f Filter) Values() url.Values {
	v := url.Values{}
	for key, s := range map[string]string{"id": f.ID, "from": f.From, "to": f.To, "domain": f.Domain, "state": f.State, "reason": f.Reason} {
		if s != "" {
			v.Set(key, s)
		}
	}
	if f.Older > 0 {
		v.Set("older", f.Older.String())
	}
	return v
}

// ParseFilter reads what Values wrote. A parameter that it does not know is an
// error, so that a filter with a mistake never chooses more than was meant.
func ParseFilter(v url.Values) (Filter, error) {
	var f Filter
	fields := map[string]*string{"id": &f.ID, "from": &f.From, "to": &f.To, "domain": &f.Domain, "state": &f.State, "reason": &f.Reason}
	for key, values := range v {
		if len(values) != 1 {
			return f, fmt.Errorf("%s is given %d times", key, len(values))
		}
		if field := fields[key]; field != nil {
			*field = values[0]
			continue
		}
		if key != "older" {
			return f, fmt.Errorf("there is no filter %q", key)
		}
		d, err := time.ParseDuration(values[0])
		if err != nil || d < 0 {
			return f, fmt.Errorf("older: %q is no duration", values[0])
		}
		f.Older = d
	}
	return f, f.Check()
}

// Check says what is wrong with the fields.
func (f Filter) Check() error {
	if f.State != "" && !slices.Contains(states, f.State) {
		return errors.New("there is no state " + f.State + ": write one of " + strings.Join(states, ", "))
	}
	return nil
}
