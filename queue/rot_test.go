package queue

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
)

var errRotten = errors.New("checksum")

// A rotSpool is the spool of a site, but for the message that cannot be read.
type rotSpool struct {
	*spool.Spool
	site *site
}

func (r rotSpool) lost(id postrider.ID) bool {
	r.site.mu.Lock()
	defer r.site.mu.Unlock()
	return id == r.site.rotten
}

func (r rotSpool) Open(ctx context.Context, id postrider.ID) (postrider.Content, error) {
	if r.lost(id) {
		return nil, errRotten
	}
	return r.Spool.Open(ctx, id)
}

func (r rotSpool) Scan(ctx context.Context) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		for m, err := range r.Spool.Scan(ctx) {
			if m != nil && r.lost(m.ID) {
				m, err = &postrider.Message{ID: m.ID}, errRotten
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// When the clock was set back, all that can be read is called back, though there is a
// message among it, or before all of it, that cannot.
func TestClockSetBackBesideDamage(t *testing.T) {
	for rotten := range 3 {
		onSpool(t, Limits{}, func(s *site) {
			s.answer = func(smtp.Path) postrider.Outcome {
				if time.Since(s.start) < 2*time.Minute {
					return greylist
				}
				return ok
			}
			var ids []postrider.ID
			for i, to := range []string{"bob@x.example", "cid@y.example", "dan@z.example"} {
				s.until(time.Duration(i) * time.Second) // the oldest first
				ids = append(ids, s.send(to))
			}
			s.until(3 * time.Minute)
			s.mu.Lock()
			s.rotten = ids[rotten]
			s.mu.Unlock()
			s.jump(-25 * time.Hour)
			s.until(20 * time.Minute)
			for i, id := range ids {
				if m := s.queued(id); (m != nil) != (i == rotten) {
					t.Errorf("message %d cannot be read; of message %d the spool has %+v", rotten, i, m)
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := strings.Join(s.alarms, "\n"); !strings.Contains(got, "call back what waits") {
				t.Errorf("nobody is told: %q", got)
			}
		})
	}
}

// rot lets the spool of a bench read nothing for a while after the start.
func (b *bench) rot(from, to time.Duration) {
	b.spool.mu.Lock()
	defer b.spool.mu.Unlock()
	b.spool.onOpen = func(postrider.ID) error {
		if at := time.Since(b.start); from <= at && at < to {
			return errRotten
		}
		return nil
	}
}

// Mail that cannot be read at the moment when its time is over is looked at again: it
// expires, and its sender hears that, though nobody answers and most of it never has
// an attempt of its own.
func TestDamageAtTheEnd(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "home.example" {
				return ok
			}
			return nobody
		}
		b.rot(testPlan.Expire-time.Minute, testPlan.Expire+time.Minute)
		const n = 20
		for range n {
			b.send("bob@dead.example")
		}
		b.until(testPlan.Expire + damageWait + 15*time.Minute)
		b.wantTold(slices.Repeat([]string{"bob failed 5.4.7"}, n)...)
		b.empty()
	})
}

// A look that cannot be made, as the message cannot be read just now, moves no attempt;
// and what it had to tell is told by the next.
func TestDamageAtALook(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "home.example" || time.Since(b.start) > 25*time.Minute {
				return ok
			}
			return greylist
		}
		b.rot(7*time.Minute, 9*time.Minute) // DelayNotice is at 8 min
		b.send("DELAY,FAILURE:bob@x.example")
		b.until(time.Hour)
		b.want("0s x.example bob", "1m0s x.example bob", "6m0s x.example bob", "16m0s x.example bob", "23m0s home.example alice", "26m0s x.example bob")
		b.wantTold("bob delayed 4.7.1")
		b.empty()
	})
}
