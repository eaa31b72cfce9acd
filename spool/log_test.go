package spool

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/vfs"
)

// The loss of whole groups is told, of the very first too.
func TestLostFirstGroupIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		first := b.add([]byte("x"), "a@x.example")
		second := b.add([]byte("y"), "a@x.example")
		at, end := b.s.entries[first].loc, b.s.entries[second].loc.off
		at.seg.f.WriteAt(make([]byte, end-at.off), at.off)
		b.reopen()
		readBody(t, b.s, second)
		if len(b.alarms) == 0 {
			t.Error("no alarm")
		}
		b.s.Close(context.Background())
	})
}
