package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A claim that waits for a later time is woken by what is due earlier, however
// many claims have waited, and left, before.
func TestClaimIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		start := time.Now()
		later := func(d time.Duration, to string) {
			a, err := addition(b.s, "", []byte("x"), time.Now().Add(d), to)
			if err == nil {
				a.Wake = time.Time{}
				err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		came := make(chan time.Duration)
		go func() {
			for range 4 {
				if _, err := b.s.Claim(context.Background(), 1); err != nil {
					t.Error(err)
				}
				came <- time.Since(start)
			}
		}()
		later(20*time.Second, "a@x.example")
		synctest.Wait()
		later(10*time.Second, "b@x.example")
		for _, want := range []time.Duration{10 * time.Second, 20 * time.Second} {
			if got := <-came; got != want {
				t.Errorf("a lease comes after %v, want %v", got, want)
			}
		}
		later(50*time.Second, "c@x.example")
		synctest.Wait()
		time.Sleep(10 * time.Second)
		later(0, "d@y.example")
		for _, want := range []time.Duration{30 * time.Second, 70 * time.Second} {
			if got := <-came; got != want {
				t.Errorf("a lease comes after %v, want %v", got, want)
			}
		}
		b.s.Close(context.Background())
	})
}
