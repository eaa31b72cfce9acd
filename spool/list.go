package spool

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/postrider/postrider"
)

// Who looks at the whole queue does so page by page, and lets others have the lock
// in between: what comes and goes meanwhile is there or not.

// pagesAtOnce is how many pages are looked at before the lock is given up.
const pagesAtOnce = 16

// walk goes through the entries, Spool.mu held for some pages at a time.
func (s *Spool) walk(yield func(*entry)) {
	for p, more := 0, true; more; {
		s.mu.Lock()
		for end := p + pagesAtOnce; more && p < end; p++ {
			more = s.slab.page(p, yield)
		}
		s.mu.Unlock()
	}
}

// An ordered is an entry by its ID.
type ordered struct {
	id key
	e  handle
}

// ordered returns the entries that are chosen, oldest first; nil chooses all.
func (s *Spool) ordered(choose func(*entry) bool) []ordered {
	var all []ordered
	s.walk(func(e *entry) {
		if choose == nil || choose(e) {
			all = append(all, ordered{e.id, e.handle()})
		}
	})
	slices.SortFunc(all, func(a, b ordered) int { return a.id.compare(b.id) })
	return all
}

// Scan implements postrider.Spool.
func (s *Spool) Scan(ctx context.Context) iter.Seq2[*postrider.Message, error] {
	return s.scan(ctx, nil)
}

// ScanDomains is Scan of the messages with a recipient, settled or not, in one of
// the domains that match chooses. It asks match once for each domain, in lower
// case, and reads only what it yields.
func (s *Spool) ScanDomains(ctx context.Context, match func(domain string) bool) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		s.mu.Lock()
		names := slices.Clone(s.domains.all)
		s.mu.Unlock()
		chosen := make([]bool, len(names))
		for i := range names {
			chosen[i] = names[i].n > 0 && match(names[i].text)
		}
		choose := func(e *entry) bool {
			return slices.ContainsFunc(s.rcpts(e), func(r rcptState) bool {
				// A number may be that of another domain meanwhile.
				return r.domain < uint32(len(chosen)) && chosen[r.domain] && s.domains.text(r.domain) == names[r.domain].text
			})
		}
		s.scan(ctx, choose)(yield)
	}
}

func (s *Spool) scan(ctx context.Context, choose func(*entry) bool) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		for _, o := range s.ordered(choose) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			m, err := s.read(o.e)
			if errors.Is(err, postrider.ErrNotFound) {
				continue
			}
			if err != nil {
				m = &postrider.Message{ID: o.id.name()}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// Futures returns, for each account, how many messages of it wait for a release after
// now (RFC 4865). What has no account is counted under the empty name.
func (s *Spool) Futures(now time.Time) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]int, len(s.futures))
	for account, all := range s.futures {
		for _, release := range all {
			if release > now.UnixNano() {
				found[account]++
			}
		}
	}
	return found
}

// A Stat is how much a spool holds.
type Stat struct {
	Messages   int
	Recipients int       // that wait, leased ones among them
	Held       int       // of those, by an operator or in DestHold
	Deferred   int       // of those, tried before
	Active     int       // of those, leased
	Oldest     time.Time // arrival of the oldest message; zero: none
	LiveBytes  int64     // of the log, that are needed
	LogBytes   int64
	Drafts     int64 // octets of drafts in memory
	Leases     int   // that are out
}

// Stat counts. All but Oldest, for which it looks at each entry, page by page, is
// counted already.
func (s *Spool) Stat() Stat {
	oldest := int64(never)
	s.walk(func(e *entry) { oldest = min(oldest, e.arrived) })
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stat{Messages: s.slab.n, Recipients: s.waiting, LiveBytes: s.liveBytes, LogBytes: s.logBytes,
		Drafts: s.draftBytes.Load(), Leases: len(s.leases),
		Held: s.stand[standHeld], Deferred: s.stand[standDeferred], Active: s.stand[standActive]}
	if oldest != never && st.Messages > 0 {
		st.Oldest = fromNanos(oldest)
	}
	return st
}
