package spool

import (
	"bytes"
	"context"
	"path"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A new segment that could not be made durable may be there after a power cut all
// the same, with a header that says where the log ended when it was begun. What
// is acknowledged after that is not void.
func TestCrashAfterASegmentWasGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("is a crash test")
	}
	for _, kind := range []vfs.OpKind{vfs.OpSyncDir, vfs.OpSync, vfs.OpWrite} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.add([]byte("first"), "a@x.example")
			var failed atomic.Bool
			b.fs.SetHook(func(op vfs.Op) error {
				second := path.Base(op.Name) == segmentName(2) || path.Base(op.Name) == "seg"
				if op.Kind != kind || !second || !failed.CompareAndSwap(false, true) {
					return nil
				}
				return syscall.EIO
			})
			for !failed.Load() {
				a, err := addition(b.s, "", bytes.Repeat([]byte("x"), 2000), time.Now(), "a@x.example")
				if err != nil {
					t.Fatal(err)
				}
				if b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}) != nil {
					a.Draft.Discard()
				}
			}
			small := b.add([]byte("y"), "b@y.example") // which the first segment has room for
			dead := b.s
			for disk := range b.fs.Crashes(1 << 12) {
				after := &bench{t: t, fs: disk, opened: 100}
				after.open()
				if _, err := after.s.Open(context.Background(), small); err != nil || len(after.alarms) > 0 {
					t.Errorf("%v: %v, alarms %q", kind, err, after.alarms)
				}
				after.s.Close(context.Background())
				if t.Failed() {
					break
				}
			}
			dead.Close(context.Background())
		})
	}
}
