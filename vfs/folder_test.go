package vfs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A name may be lost by a sync that another asked for, and which failed. It counts as durable only when no sync has failed since before it
// was made, whoever asked for it.
func TestFailedSyncIsOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := NewMem()
		if err := errors.Join(disk.MkdirAll("f", 0o700), disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		f := NewFolder(disk, "f")
		make := func(name string) int {
			since := f.Mark()
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
		disk.SetHook(func(op Op) error {
			if op.Kind != OpSyncDir {
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
		wg.Go(func() { errs[0] = f.Sync(first) })
		for i := 1; i < len(errs); i++ {
			since := make(fmt.Sprint(i)) // before or while the first sync runs
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				errs[i] = f.Sync(since)
			})
		}
		wg.Wait()
		for i, err := range errs {
			want := error(syscall.EIO)
			if i > 0 {
				want = ErrFolder // its own sync came back
			}
			if !errors.Is(err, want) {
				t.Errorf("name %d: %v, want %v", i, err, want)
			}
		}
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d syncs for five who waited, want 2", n)
		}
		if err := f.Sync(make("5")); err != nil {
			t.Error(err)
		}
		if _, err := disk.Crash(KeepNone).Stat("f/5"); err != nil {
			t.Error(err)
		}
	})
}
