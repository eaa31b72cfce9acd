package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A source is the feed of a spool that forgets what was acknowledged at once:
// the hardest that a feed may be. Batches are cut anew after each start.
type source struct {
	all   [][]postrider.Event // by LSN
	acked int                 // LSNs
	size  int                 // of a batch, in LSNs
}

func (s *source) feed(yield func([]postrider.Event, error) bool) {
	for s.acked < len(s.all) {
		n := min(s.size, len(s.all)-s.acked)
		if !yield(slices.Concat(s.all[s.acked:s.acked+n]...), nil) {
			return
		}
		s.acked += n
	}
}

// messages is how many lives a source tells of.
const messages = 9

// newSource tells the lives of a few messages, mixed.
func newSource() *source {
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &source{size: 3}
	var lives [messages][]postrider.Event
	for n := range lives {
		lives[n] = life(n, 0, at)
	}
	for i := range 4 { // the LSNs of a life
		for n := range lives {
			var evs []postrider.Event
			for _, ev := range lives[n] {
				if ev.LSN == uint64(i) {
					ev.LSN = uint64(len(s.all) + 1)
					evs = append(evs, ev)
				}
			}
			s.all = append(s.all, evs)
		}
	}
	return s
}

// told returns the events of one message in the order of the feed.
func (s *source) told(id postrider.ID, lsns int) (evs []postrider.Event) {
	for _, of := range s.all[:lsns] {
		for _, ev := range of {
			if ev.ID == id {
				evs = append(evs, ev)
			}
		}
	}
	return evs
}

func crashOptions(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: "data/journal", PartSize: 1 << 10}
}

// play runs a journal on a disk with the hook until the feed is over or the
// disk is dead.
func play(s *source, hook func(vfs.Op) error) *vfs.Mem {
	fsys := vfs.NewMem()
	fsys.SetHook(hook)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 2 { // with a restart in the middle
		whole := s.all
		if s.acked == 0 {
			s.all = whole[:len(whole)/2]
		}
		o := crashOptions(fsys)
		o.Alarm = func(string) { // of the disk: dead
			if fsys.Dead() {
				cancel()
			}
		}
		j, err := Open(ctx, o)
		if err == nil {
			j.Run(ctx, s.feed)
			j.Close()
		}
		s.all = whole
	}
	return fsys
}

// recovered opens the journal on a disk after a crash, and holds it against what
// the feed has told; then it lets the feed go on, from a bit before.
func recovered(disk *vfs.Mem, before *source, lag int) error {
	o := crashOptions(disk)
	var alarms []string
	o.Alarm = func(text string) { alarms = append(alarms, text) }
	j, err := Open(context.Background(), o)
	if err != nil {
		return err
	}
	defer j.Close()
	check := func(acked int) error {
		for n := range messages {
			id := postrider.ID(fmt.Sprintf("%020d", n))
			var got []postrider.Event
			for evs, err := range j.Where(context.Background(), string(id), 0) {
				if err != nil {
					return err
				}
				got = append(got, evs...)
			}
			want := before.told(id, len(before.all))
			if len(got) > len(want) || len(got) < len(before.told(id, acked)) {
				return fmt.Errorf("message %d: %d events, of %d that were acknowledged", n, len(got), len(before.told(id, acked)))
			}
			for i := range got {
				if got[i].LSN != want[i].LSN || got[i].Kind != want[i].Kind || !got[i].Time.Equal(want[i].Time) || !reflect.DeepEqual(got[i].Reply, want[i].Reply) {
					return fmt.Errorf("message %d: event %d is %+v, want %+v", n, i, got[i], want[i])
				}
			}
		}
		return nil
	}
	if err := check(before.acked); err != nil {
		return err
	}
	again := &source{all: before.all, acked: max(0, before.acked-lag), size: 2}
	if err := j.Run(context.Background(), again.feed); err != nil {
		return err
	}
	if err := check(len(again.all)); err != nil {
		return fmt.Errorf("after the feed has gone on: %w", err)
	}
	if len(alarms) > 0 {
		return fmt.Errorf("false alarm: %q", alarms)
	}
	return nil
}

// The disk dies before each operation that changes it, and then keeps any part
// of what was not synced. Each event is there once, in the order of the feed.
func TestCrashAtEveryOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("exhaustive, and skipped with -short")
	}
	subsets, random := 24, 8
	crashes, fresh := 0, 0
	var last atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		play(newSource(), func(op vfs.Op) error { last.Store(int64(op.N)); return nil })
	})
	ops := int(last.Load()) + 1
	for n := range ops {
		synctest.Test(t, func(t *testing.T) {
			var reading atomic.Bool
			s := newSource()
			disk := play(s, func(op vfs.Op) error {
				if op.N == n && !op.Kind.Changes() {
					reading.Store(true)
				}
				if op.N >= n && !reading.Load() {
					return vfs.ErrCrash
				}
				return nil
			})
			if reading.Load() {
				return
			}
			if s.acked > 0 && s.acked < len(s.all) {
				fresh++
			}
			try := func(kind string, after *vfs.Mem) {
				crashes++
				if err := recovered(after, s, crashes%5); err != nil {
					t.Fatalf("crash before operation %d, %s: %v", n, kind, err)
				}
			}
			i := 0
			for after := range disk.Crashes(subsets) {
				try(fmt.Sprintf("subset %d", i), after)
				i++
			}
			try("all kept", disk.Crash(vfs.KeepAll))
			for seed := range random {
				rng := rand.New(rand.NewPCG(uint64(n), uint64(seed)))
				try(fmt.Sprintf("random %d", seed), disk.Crash(vfs.KeepSome(rng, rng.Float64())))
			}
			try("killed", disk.Kill())
		})
		if t.Failed() {
			return
		}
	}
	if ops < 60 || crashes < 300 || fresh < 10 {
		t.Fatalf("only %d operations, %d crashes, %d in the middle: the test does not do what it says", ops, crashes, fresh)
	}
	t.Logf("%d operations, %d crash states", ops, crashes)
}

// What a killed process had written and not synced is synced before it counts as
// told.
func TestKilledThenPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := life(1, 1, time.Now())
		disk := vfs.NewMem()
		b := newBench(t, disk)
		var written atomic.Bool
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite {
				written.Store(true)
			}
			if op.Kind == vfs.OpSync && written.Load() {
				return vfs.ErrCrash
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.j.Run(ctx, batches(one))
		disk = disk.Kill()
		b = newBench(t, disk)
		if b.j.size == 0 {
			t.Fatal("nothing was written")
		}
		b.run(one)
		b = newBench(t, disk.Crash(vfs.KeepNone))
		if got := where(t, b.j, string(one[0].ID), 0); len(got) != 1 || len(got[0]) != len(one) {
			t.Errorf("got %v", got)
		}
		b.close()
	})
}

// While no new file can be begun, what was written is found.
func TestNoNewFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		for n := range 3 {
			b.run(life(n, uint64(1+10*n), time.Now()))
		}
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".0001.jnl") {
				return errDisk
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := b.j.Run(ctx, batches(life(3, 100, time.Now()))); err != nil {
			t.Error(err)
		}
		if got := where(t, b.j, "sender@example.org", 0); len(got) != 3 || len(b.alarms) != 1 {
			t.Errorf("%d messages, alarms %q", len(got), b.alarms)
		}
		b.close()
	})
}

// A file that was given up after a sync that failed may come back longer than was
// known after a power cut: that is no damage, for the next file has it all.
func TestGivenUpThenPowerCut(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			b := newBench(t, disk)
			b.run(life(1, 1, time.Now()))
			var failing atomic.Bool
			failing.Store(true)
			disk.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync && failing.Swap(false) {
					return errDisk
				}
				return nil
			})
			two := life(2, 11, time.Now())
			b.run(two)
			if seed%2 == 1 { // somebody asks, for which an index is made
				if got := where(t, b.j, string(two[0].ID), 0); len(got) != 1 {
					t.Errorf("seed %d, before: %v", seed, got)
				}
			}
			rng := rand.New(rand.NewPCG(seed, 1))
			b = newBench(t, disk.Crash(vfs.KeepSome(rng, 0.5)))
			if len(b.alarms) > 0 {
				t.Errorf("seed %d: %q", seed, b.alarms)
			}
			if got := where(t, b.j, string(two[0].ID), 0); len(got) != 1 || len(got[0]) != len(two) {
				t.Errorf("seed %d: got %v", seed, got)
			}
			if len(b.alarms) > 0 {
				t.Errorf("seed %d, when it is asked: %q", seed, b.alarms)
			}
			b.close()
		})
	}
}
