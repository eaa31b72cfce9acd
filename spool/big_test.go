package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// large is a content that has a file of its own.
var large = bytes.Repeat([]byte("0123456789abcdef\r\n"), 200)

// A second draft of an ID, as of a report whose ID is taken, leaves the content
// that is there as it is.
func TestDraftOfATakenID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		d, err := b.s.Create(context.Background(), id)
		if err == nil {
			_, err = d.Write(bytes.Repeat([]byte("other\r\n"), 1000))
			d.Discard()
		}
		if !errors.Is(err, postrider.ErrExists) {
			t.Errorf("writing a second content: %v", err)
		}
		if _, body := readBody(t, b.s, id); !bytes.Equal(body, large) {
			t.Error("the content is not what was accepted")
		}
		b.s.Close(context.Background())
	})
}

// A content whose record may be on the disk stays as it is until the record is
// void; then it goes, and its ID can be used again.
func TestLargeContentOfUnknownFate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("first"), "a@x.example")
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && op.Name == "data/spool/seg/0000000001.seg" {
				return errors.New("input/output error")
			}
			return nil
		})
		commit := func() error {
			a, err := addition(b.s, "report00000000000001", large, time.Now(), "b@y.example")
			if err == nil {
				err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
				a.Draft.Discard()
			}
			return err
		}
		if commit() == nil {
			t.Fatal("a commit whose sync failed returned nil")
		}
		if err := commit(); !errors.Is(err, postrider.ErrExists) {
			t.Fatalf("while the fate of the first is not known: %v", err)
		}
		b.add([]byte("second"), "a@x.example") // in a new segment, which makes the first void
		synctest.Wait()
		if err := commit(); err != nil {
			t.Fatalf("after that: %v", err)
		}
		b.s.Close(context.Background())
	})
}

// A large draft whose batch was refused may be committed in another one.
func TestLargeDraftIsCommittedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		a, err := addition(b.s, "", large, time.Now(), "a@x.example")
		if err != nil {
			t.Fatal(err)
		}
		lost := postrider.Settlement{Lease: postrider.Lease{ID: "none", Token: 99}}
		batch := postrider.Batch{Add: []postrider.Addition{a}, Settle: []postrider.Settlement{lost}}
		if err := b.s.Commit(context.Background(), batch); !errors.Is(err, postrider.ErrLeaseLost) {
			t.Fatalf("commit: %v", err)
		}
		batch.Settle = nil
		if err := b.s.Commit(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
		if _, body := readBody(t, b.s, a.Message.ID); !bytes.Equal(body, large) {
			t.Error("the content is not what was accepted")
		}
		b.s.Close(context.Background())
	})
}

// Mail whose content is gone can still be opened, so that its sender can be told.
func TestLargeContentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		if err := b.fs.Remove("data/spool/big/" + string(id)); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		if len(b.alarms) == 0 {
			t.Error("no alarm at start")
		}
		c, err := b.s.Open(context.Background(), id)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		if _, err := io.ReadAll(c.Reader()); !errors.Is(err, ErrDamaged) {
			t.Errorf("read: %v", err)
		}
		c.Close()
		b.s.Close(context.Background())
	})
}

// A content whose record was damaged is kept for the operator.
func TestLargeContentOfADamagedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		b.add([]byte("x"), "a@x.example")
		at := b.s.placeOf(id)
		at.seg.f.WriteAt([]byte{0xff, 0xff}, at.off+headerLen+5)
		b.reopen()
		if got, err := vfs.ReadFile(b.fs, "data/spool/damaged/"+string(id)); err != nil || !bytes.Equal(got, large) {
			t.Errorf("the content is not set aside: %d octets, %v", len(got), err)
		}
		b.s.Close(context.Background())
	})
}

// Seeds 359, 429, 464 and 577 of the simulator: while what a draft held in memory
// goes to its file, its memory is not that of another draft yet.
func TestDraftsDoNotMix(t *testing.T) {
	b := newBench(t, vfs.NewMem())
	defer func() { b.s.Close(context.Background()) }()
	other := bytes.Repeat([]byte("b"), 600)
	for range 20 { // what is given back may be taken by anybody, or nobody
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && path.Base(path.Dir(op.Name)) == "big" {
				b.fs.SetHook(nil)
				d, err := b.s.Create(context.Background(), "")
				if err != nil {
					return err
				}
				defer d.Discard()
				_, err = d.Write(other)
				return err
			}
			return nil
		})
		d, err := b.s.Create(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		want := append(bytes.Repeat([]byte("a"), 600), large...)
		for _, part := range [][]byte{want[:600], want[600:]} {
			if _, err := d.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		f, err := b.fs.OpenFile("data/spool/big/"+string(d.ID()), os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the file holds %.20q, %v", got, err)
		}
		f.Close()
		d.Discard()
	}
}
