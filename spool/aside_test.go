package spool

import (
	"bytes"
	"context"
	"path"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// What a start sets aside for the operator stays, whatever befell that start: a name
// that it did not live to see durable is made so by the next one, and one of which the
// disk did not say whether it is, is given anew.
func TestSetAsideStays(t *testing.T) {
	const folder = "data/spool/"
	for _, c := range []struct {
		name string
		body []byte // of the message whose record is damaged
		eio  bool   // the sync of the folder fails, once; else the start was killed before it
	}{
		{"segment, killed", []byte("x"), false}, {"segment, EIO", []byte("x"), true},
		{"content, killed", large, false}, {"content, EIO", large, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				id := b.add(c.body, "a@x.example")
				b.add([]byte("another"), "a@x.example")
				at := b.s.placeOf(id)
				segment := path.Join("seg", segmentName(at.seg.n))
				from := segment
				if len(c.body) > 1 {
					from = path.Join("big", string(id))
				}
				b.s.Close(context.Background())
				b.flip(folder+segment, at.off+headerLen+5)
				want, err := vfs.ReadFile(b.fs, folder+from)
				if err != nil {
					t.Fatal(err)
				}
				to := folder + path.Join("damaged", path.Base(from))
				if c.eio {
					named := false
					b.fs.SetHook(func(op vfs.Op) error {
						named = named || op.Kind == vfs.OpLink || op.Kind == vfs.OpRename
						if named && op.Kind == vfs.OpSyncDir && op.Name == folder+"damaged" {
							return syscall.EIO
						}
						return nil
					})
					if s, err := Open(context.Background(), testOptions(b.fs)); err == nil {
						s.Close(context.Background())
					}
					b.fs.SetHook(nil)
				} else if err := b.fs.Link(folder+from, to); err != nil {
					t.Fatal(err)
				}
				b.open()
				disk := b.fs.Crash(vfs.KeepNone)
				b.s.Close(context.Background())
				if got, err := vfs.ReadFile(disk, to); err != nil || !bytes.Equal(bytes.TrimRight(got, "\x00"), bytes.TrimRight(want, "\x00")) {
					t.Errorf("after the power cut there are %d octets of %d in damaged/: %v", len(got), len(want), err)
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// What cannot be removed from the folder of the contents, and belongs to no message, is
// told of, and stops no start.
func TestForeignBesideContents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		if err := vfs.MakeDir(b.fs, "data/spool/big/lost+found/of-another"); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		if !b.alarmed("lost+found") {
			t.Errorf("nobody is told: %q", b.alarms)
		}
		if m, err := b.content(id); err != nil || len(m.Recipients) != 1 {
			t.Errorf("the message: %v, %v", m, err)
		}
		b.s.Close(context.Background())
	})
}

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
