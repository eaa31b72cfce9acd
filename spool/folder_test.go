package spool

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// Two large messages come at once, and the folder of one cannot be synced: the
// name of the other may be lost with it. What is acknowledged is there.
func TestLargeMessagesAndAFailedSync(t *testing.T) {
	for wait := range 12 {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			var failed atomic.Bool
			b.fs.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSyncDir && op.Name == "data/spool/big" {
					time.Sleep(5 * time.Millisecond)
					if failed.CompareAndSwap(false, true) {
						return syscall.EIO
					}
				}
				return nil
			})
			var ids [2]postrider.ID
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() {
					time.Sleep(time.Duration(i*wait) * time.Millisecond)
					a, err := addition(b.s, "", large, time.Now(), "a@held.example")
					if err == nil {
						time.Sleep(time.Duration(i*2) * time.Millisecond)
						err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
					}
					if err != nil {
						a.Draft.Discard()
						return
					}
					ids[i] = a.Message.ID
				})
			}
			wg.Wait()
			b.next(b.fs.Crash(vfs.KeepNone))
			for _, id := range ids {
				if id != "" {
					readBody(t, b.s, id)
				}
			}
			if len(b.alarms) > 0 {
				t.Errorf("after %d ms: %q", wait, b.alarms)
			}
			b.s.Close(context.Background())
		})
	}
}
