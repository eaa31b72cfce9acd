package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// EIO at operation 686 of the fault test: the sync after the removal of a segment
// failed, and with it the name of a new one was lost that was being made at the
// same time. A name counts as durable only when no sync has failed since before it
// was made, whoever asked for it.
func TestFailedSyncIsOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		if err := errors.Join(disk.MkdirAll("f", 0o700), disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		f := &folder{fs: disk, name: "f"}
		make := func(name string) int {
			since := f.mark()
			file, err := disk.OpenFile("f/"+name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				t.Error(err)
				return since
			}
			file.Close()
			return since
		}
		var syncs, bad atomic.Int64
		bad.Store(1)
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind != vfs.OpSyncDir {
				return nil
			}
			syncs.Add(1)
			time.Sleep(time.Second)
			if bad.Add(-1) >= 0 {
				return syscall.EIO
			}
			return nil
		})
		errs := [5]error{}
		first := make("0")
		var wg sync.WaitGroup
		wg.Go(func() { errs[0] = f.sync(first) })
		for i := 1; i < len(errs); i++ {
			since := make(fmt.Sprint(i)) // before or while the first sync runs
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				errs[i] = f.sync(since)
			})
		}
		wg.Wait()
		for i, err := range errs {
			if err == nil {
				t.Errorf("name %d counts as durable", i)
			}
		}
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d syncs for five who waited, want 2", n)
		}
		if err := f.sync(make("5")); err != nil {
			t.Error(err)
		}
		if _, err := disk.Crash(vfs.KeepNone).Stat("f/5"); err != nil {
			t.Error(err)
		}
	})
}

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
