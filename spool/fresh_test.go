package spool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// reads counts what is read of the log.
func (b *bench) reads() *atomic.Int64 {
	n := new(atomic.Int64)
	b.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && path.Dir(op.Name) == "data/spool/seg" {
			n.Add(1)
		}
		return nil
	})
	return n
}

// Who delivers what was just accepted reads nothing from the log, and has the same as
// who does.
func TestFreshIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("0123456789\r\n"), 100)
		id := b.add(body, "a@x.example", "b@y.example")
		n := b.reads()
		fresh, got := readBody(t, b.s, id)
		if n.Load() != 0 || !bytes.Equal(got, body) {
			t.Errorf("%d reads, %d octets", n.Load(), len(got))
		}
		b.s.fresh.forget(b.s.placeOf(id))
		if read, got := readBody(t, b.s, id); n.Load() == 0 || !bytes.Equal(got, body) || !reflect.DeepEqual(fresh, read) {
			t.Errorf("of the log, after %d reads: %+v; before: %+v", n.Load(), read, fresh)
		}
		b.s.Close(context.Background())
	})
}

// What came of a message since is in what is opened, and with its end it is not kept.
func TestFreshKnowsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		due := time.Now().Add(time.Minute)
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, due))
		if m, _ := readBody(t, b.s, id); m.Recipients[0].Tries != 1 || !m.Recipients[0].Due.Equal(due) || m.Recipients[0].Reply.Code != 451 {
			t.Errorf("%+v", m.Recipients[0])
		}
		time.Sleep(time.Minute)
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		if f := &b.s.fresh; len(f.all) != 0 || f.size != 0 {
			t.Errorf("%d messages of %d octets are kept", len(f.all), f.size)
		}
		b.s.Close(context.Background())
	})
}

// The buffer of an open content is no other draft's before it is closed, whatever
// becomes of its message.
func TestFreshStaysWhileOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("first"), 300)
		id := b.add(body, "a@x.example")
		l := b.mustClaim(postrider.Attempt, 0)
		c, err := b.s.Open(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		b.settle(l, delivered(0))
		for range 50 {
			b.add(bytes.Repeat([]byte("other"), 300), "b@held.example")
		}
		all, err := io.ReadAll(c.Reader())
		if _, got, _ := bytes.Cut(all, c.Head()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%q, %v", all, err)
		}
		c.Close()
		if _, err := c.Reader().Read(make([]byte, 10)); err == nil {
			t.Error("a closed content is read")
		}
		b.s.Close(context.Background())
	})
}

// What is kept has a bound, in octets and in messages, and what is beyond it is read. The
// next to be delivered are kept, and not for ever.
func TestFreshHasABound(t *testing.T) {
	for _, size := range []int{1, 1900} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			ids := map[postrider.ID][]byte{}
			for i := range freshMany + 500 {
				body := bytes.Repeat([]byte(fmt.Sprintf("%06d", i)), size/6+1)
				ids[b.add(body, "a@held.example")] = body
				f := &b.s.fresh
				sum := 0
				for _, one := range f.all {
					sum += one.size()
				}
				if f.size > freshMost || f.size != sum || len(f.line) > freshMany || len(f.all) != len(f.line) {
					t.Fatalf("after %d: %d octets, %d in all, %d messages, %d in line", i, f.size, sum, len(f.all), len(f.line))
				}
			}
			first := len(b.s.fresh.all)
			time.Sleep(freshFor)
			last := b.add([]byte("x"), "a@held.example")
			if f := &b.s.fresh; first < 100 || len(f.all) != 1 || f.all[b.s.placeOf(last)] == nil {
				t.Errorf("%d were kept, and after a while %d", first, len(f.all))
			}
			for id, body := range ids {
				if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) {
					t.Fatalf("%s: %q", id, got)
				}
			}
			b.s.Close(context.Background())
		})
	}
}

// What could not be made durable is not kept.
func TestFreshIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		a, err := addition(b.s, "", []byte("y"), time.Now(), "b@held.example")
		if err == nil {
			err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
		}
		if err == nil || len(b.s.fresh.all) != 1 {
			t.Errorf("%v, %d messages are kept", err, len(b.s.fresh.all))
		}
		b.fs.SetHook(nil)
		b.s.Close(context.Background())
	})
}

// Two who read one message that was just accepted close it at once, after its end: one
// after the other is counted, and the buffer is given to other drafts once.
func TestFreshIsClosedOneByOne(t *testing.T) {
	var f fresh
	f.begin(&sync.Pool{})
	at := location{&segment{}, 64}
	f.keep(&item{draft: &draft{buf: make([]byte, 1, draftLeast)}, at: at})
	one, same := f.open(at), f.open(at)
	if one == nil || one != same {
		t.Fatal("it is not kept")
	}
	f.forget(at)
	var begun, ended sync.WaitGroup
	f.mu.Lock()
	for range 2 {
		begun.Add(1)
		ended.Go(func() {
			begun.Done()
			f.close(one)
		})
	}
	begun.Wait()
	for range 10_000 { // both have time enough for what they must not do now
		runtime.Gosched()
	}
	if one.users != 2 || one.body == nil {
		t.Errorf("while another has the lock %d readers are counted", one.users)
	}
	f.mu.Unlock()
	ended.Wait()
	if one.users != 0 || one.body != nil {
		t.Errorf("nobody reads, and %d are counted; the buffer is given back: %v", one.users, one.body == nil)
	}
}
