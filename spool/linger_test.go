package spool

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// rounds lets so many sessions send one message after the other on a disk whose
// sync takes 5 ms. Each thinks for a while before its next message. It returns how
// many were accepted in a second.
func rounds(t *testing.T, sessions, each int, think func(session, round int) time.Duration) (rate float64) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		o := testOptions(disk)
		o.SegmentSize = 16 << 20
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey(destOf)
		disk.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync {
				return 5 * time.Millisecond
			}
			return 0
		})
		began := time.Now()
		var wg sync.WaitGroup
		for n := range sessions {
			wg.Go(func() {
				for round := range each {
					time.Sleep(think(n, round))
					a, err := addition(s, "", []byte("x"), time.Now(), fmt.Sprintf("a@d%d.example", n))
					if err == nil {
						err = s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		rate = float64(sessions*each) / time.Since(began).Seconds()
		s.Close(context.Background())
	})
	return rate
}

// A hundred sessions that take up to half a millisecond for their next message share
// their syncs; without waiting every second sync would be for a few of them.
func TestGroupsFillOnASlowDisk(t *testing.T) {
	think := func(session, round int) time.Duration {
		return time.Duration((session*7+round*13)%100) * 5 * time.Microsecond
	}
	if rate := rounds(t, 100, 50, think); rate < 15_000 {
		t.Errorf("%.0f messages a second", rate)
	}
}

// Who comes alone waits for nobody, and where waiting does not help it ends.
func TestNobodyIsWaitedForInVain(t *testing.T) {
	if rate := rounds(t, 1, 100, func(int, int) time.Duration { return 0 }); rate < 195 {
		t.Errorf("one session: %.0f messages a second, want nearly 200", rate)
	}
	// Sessions that come in two crowds, 20 ms after their last answer.
	crowds := func(session, _ int) time.Duration { return time.Duration(20+session%2*3) * time.Millisecond }
	if rate, want := rounds(t, 40, 40, crowds), 1290.0; rate < want {
		t.Errorf("two crowds: %.0f messages a second, want %.0f", rate, want)
	}
}
