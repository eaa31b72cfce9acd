package admin

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/postrider/postrider"
)

// scan yields the messages that f may choose, and others: it leaves out what need
// not be read from the disk to know that f does not choose it.
func (o Options) scan(ctx context.Context, f Filter) iter.Seq2[*postrider.Message, error] {
	if f.ID != "" {
		if c, err := o.Spool.Open(ctx, postrider.ID(f.ID)); err == nil { // the whole of an ID
			defer c.Close()
			return one(c.Message())
		}
	}
	domain := f.domain()
	if o.Domains == nil || domain == "" {
		return o.Spool.Scan(ctx)
	}
	return o.Domains(ctx, func(d string) bool { return d == "" || strings.EqualFold(d, domain) })
}

// one yields a message.
func one(m *postrider.Message) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) { yield(m, nil) }
}

// An unread is the messages that cannot be read: they do not end a scan.
type unread struct {
	n     int
	id    postrider.ID // of the first
	first error        // of it, or that the scan itself has failed
}

// rest yields the messages of a scan that can be read, and notes the others, and the
// error that has ended it.
func (u *unread) rest(all iter.Seq2[*postrider.Message, error]) iter.Seq[*postrider.Message] {
	return func(yield func(*postrider.Message) bool) {
		for m, err := range all {
			switch {
			case err == nil:
				if !yield(m) {
					return
				}
			case m == nil:
				u.n, u.first = 0, err
			default:
				u.note(m.ID, err)
			}
		}
	}
}

// note takes down that a message cannot be read.
func (u *unread) note(id postrider.ID, err error) {
	if u.n++; u.n == 1 {
		u.id, u.first = id, err
	}
}

// err says what could not be read; nil: all could.
func (u *unread) err() error {
	switch u.n {
	case 0:
		return u.first
	case 1:
		return fmt.Errorf("%w: it waits until it can be read; \"postrider queue drop %s\" gives it up, and tells nobody", u.first, u.id)
	}
	return fmt.Errorf("%w; and %d more messages cannot be read: they wait until they can; \"postrider queue drop ID\" gives one up, and tells nobody", u.first, u.n-1)
}

// domain is that of every recipient that f chooses; empty: there are several, or
// nobody knows.
func (f Filter) domain() string {
	if f.Domain != "" {
		return f.Domain
	}
	domain := f.To[strings.LastIndexByte(f.To, '@')+1:]
	if domain == f.To || strings.Contains(domain, "*") {
		return ""
	}
	return domain
}
