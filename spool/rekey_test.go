package spool

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
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
