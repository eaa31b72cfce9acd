package spool

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// The first Rekey runs while mail comes in already: what was accepted before it,
// in this life or an earlier one, is due all the same, and what was dropped by an
// operator is not.
func TestAcceptedBeforeTheFirstRekey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		fsys := vfs.NewMem()
		var ids []postrider.ID
		for life := range 2 {
			o := testOptions(fsys)
			o.Rand = rand.New(rand.NewPCG(1, uint64(life)))
			s, err := Open(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				a, err := addition(s, "", []byte("x\r\n"), time.Now(), "a@x.example", "b@y.example")
				if err == nil {
					err = s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{a}})
				}
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, a.Message.ID)
			}
			drop := postrider.Amendment{ID: ids[2*life], Do: postrider.AmendDrop}
			if err := s.Commit(ctx, postrider.Batch{Amend: []postrider.Amendment{drop}}); err != nil {
				t.Fatal(err)
			}
			if life == 0 {
				s.Close(ctx)
				continue
			}
			s.Rekey(destOf)
			soon, cancel := context.WithTimeout(ctx, time.Minute/2)
			defer cancel()
			var got []postrider.ID
			for {
				l, err := s.Claim(soon, 10)
				if err != nil {
					break
				}
				got = append(got, l.ID)
			}
			slices.Sort(got)
			want := []postrider.ID{ids[1], ids[1], ids[3], ids[3]}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("claimed %v, want each destination of %v", got, want)
			}
			s.Close(ctx)
		}
	})
}

// A Rekey that is to end reads no more, nor does one whose spool is closed; at the next
// start all have the queue of then.
func TestRekeyEnds(t *testing.T) {
	for _, closed := range []bool{false, true} {
		b := newBench(t, vfs.NewMem())
		for range 10 {
			b.add([]byte("x\r\n"), "a@x.example")
		}
		ctx, end := context.WithCancel(t.Context())
		asked := 0
		b.s.RekeyUntil(ctx.Done(), func(smtp.Path) postrider.Dest {
			if asked++; asked == 3 && closed {
				b.s.closed = true // under its lock, as Close does it
			} else if asked == 3 {
				end()
			}
			return "moved"
		})
		end()
		if all := b.s.Tally(); asked != 3 || len(all) != 2 {
			t.Errorf("closed %v: %d messages were asked for: %+v", closed, asked, all)
		}
		b.s.mu.Lock()
		b.s.closed = false
		b.s.mu.Unlock()
		b.reopen()
		if all := b.s.Tally(); len(all) != 1 || all[0].Dest != "mx:x.example" || all[0].waiting() != 10 {
			t.Errorf("closed %v: after the start %+v", closed, all)
		}
	}
}

// One message that cannot be read keeps its old queue, of which an operator hears, and
// all that came after it have the new ones.
func TestRekeyGoesPastWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		b.spoil(b.add([]byte("x"), "b@x.example"), 100)
		for range 3 {
			b.add([]byte("x"), "c@x.example")
		}
		b.s.Rekey(func(smtp.Path) postrider.Dest { return "moved" })
		all := b.s.Tally()
		if len(all) != 2 || all[0].Dest != "moved" || all[0].waiting() != 4 || all[1].Dest != "mx:x.example" || all[1].waiting() != 1 {
			t.Errorf("%+v", all)
		}
		if len(b.alarms) != 1 || !b.alarmed("keeps its old queues") {
			t.Errorf("alarms %q", b.alarms)
		}
		b.s.Close(context.Background())
	})
}
