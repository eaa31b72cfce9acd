package admin

import (
	"context"
	"iter"
	"strings"

	"github.com/postrider/postrider"
)

// scan yields the messages that f may choose, and others: it leaves out what need
// not be read from the disk to know that f does not choose it.
func (o Options) scan(ctx context.Context, f Filter) iter.Seq2[*postrider.Message, error] {
	domain := f.domain()
	if o.Domains == nil || domain == "" {
		return o.Spool.Scan(ctx)
	}
	return o.Domains(ctx, func(d string) bool { return d == "" || strings.EqualFold(d, domain) })
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
