package spool

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// accepts runs the accept path, small and large contents, with some settled in
// between, on a disk that may fail: what is refused is let go, and the rest goes
// on. It returns what was acknowledged and not settled, and what was refused.
func accepts(b *bench) (kept map[postrider.ID][]byte, refused map[postrider.ID]bool) {
	kept, refused = map[postrider.ID][]byte{}, map[postrider.ID]bool{}
	for i := range 12 {
		body := bytes.Repeat([]byte(fmt.Sprintf("%07d\r\n", i)), 30+i%3*400) // every third has its own file
		a, err := addition(b.s, "", body, time.Now(), "a@x.example")
		if err != nil {
			continue // Create or Write has failed: 451
		}
		id := a.Message.ID
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
			refused[id] = true
			a.Draft.Discard()
			continue
		}
		kept[id] = body
		if l, ok := b.claim(); ok && i%2 == 0 {
			set := postrider.Batch{Lazy: true, Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}}
			for b.s.Commit(context.Background(), set) != nil { // as the queue does
				time.Sleep(time.Second)
			}
			delete(kept, l.ID)
		}
	}
	time.Sleep(time.Second) // the lazy sync comes
	return kept, refused
}

// A write or a sync that fails once, at any place of the accept path, costs the
// client another try and nothing else, whatever a power cut keeps.
func TestEIOAtEveryOperation(t *testing.T) {
	var last atomic.Int64
	run := func(fail int) (struck bool) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			var hit atomic.Bool
			b.fs.SetHook(func(op vfs.Op) error {
				last.Store(int64(op.N))
				if op.N >= fail && fail > 0 && (op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir || op.Kind == vfs.OpWrite) && hit.CompareAndSwap(false, true) {
					return syscall.EIO
				}
				return nil
			})
			kept, refused := accepts(b)
			struck = hit.Load()
			b.fs.SetHook(nil)
			for _, keep := range []vfs.Keep{vfs.KeepNone, vfs.KeepAll} {
				after := &bench{t: t, fs: b.fs.Crash(keep), opened: b.opened + 10}
				after.open()
				for id, body := range kept {
					if _, got := readBody(t, after.s, id); !bytes.Equal(got, body) {
						t.Errorf("failure at %d: message %s is not the same", fail, id)
					}
				}
				for id := range refused {
					if after.s.entryOf(id) != nil && last.Load() > int64(fail)+8 {
						t.Errorf("failure at %d: message %s was refused, and is back", fail, id)
					}
				}
				after.s.Close(context.Background())
			}
			b.s.Close(context.Background())
		})
		return struck
	}
	run(0)
	struck := 0
	for n := 1; n <= int(last.Load())+1 && !t.Failed(); n++ {
		if run(n) {
			struck++
		}
	}
	if struck < 60 {
		t.Errorf("only %d failures struck", struck)
	}
}
