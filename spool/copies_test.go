package spool

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// An operator looks at the queue of a server that runs (postrider queue): large messages
// whose records he has not read, drafts on their way in and what was committed since,
// keep their files.
func TestLookBesideLargeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		draft, err := addition(b.s, "", large, time.Now(), "b@held.example")
		if err != nil {
			t.Fatal(err)
		}
		var late postrider.ID
		looked := false
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpReadDir && op.Name == "data/spool/big" && !looked { // the log has been read
				looked = true
				late = b.add(large, "c@held.example")
			}
			return nil
		})
		o := testOptions(b.fs)
		o.ReadOnly = true
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Close(context.Background())
		b.fs.SetHook(nil)
		if !looked {
			t.Fatal("the test has lost its sense")
		}
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{draft}}); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		for _, id := range []postrider.ID{draft.Message.ID, late} {
			if _, body := readBody(t, b.s, id); !bytes.Equal(body, large) {
				t.Errorf("message %s has %d octets", id, len(body))
			}
		}
		b.s.Close(context.Background())
	})
}

// What a start sets aside of a damaged log, and tells an operator of, is there after a
// power cut too, when the log has gone on without it.
func TestSetAsideIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		for range 5 {
			ids = append(ids, b.add(bytes.Repeat([]byte("0123456789"), 50), "a@x.example"))
		}
		at := b.s.placeOf(ids[2])
		b.s.Close(context.Background())
		b.flip("data/spool/seg/"+segmentName(at.seg.n), at.off+headerLen+5)
		b.open()
		b.traffic(time.Minute)
		if b.s.segments[0].n <= at.seg.n {
			t.Fatal("the damaged segment is still there: the test has lost its sense")
		}
		b.next(b.fs.Crash(vfs.KeepNone))
		if list, err := b.fs.ReadDir("data/spool/damaged"); err != nil || len(list) != 1 {
			t.Errorf("damaged holds %v, %v", list, err)
		}
		b.s.Close(context.Background())
	})
}
