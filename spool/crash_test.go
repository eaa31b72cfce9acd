package spool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A fate is what the model knows of one recipient.
type fate struct {
	state    postrider.State
	reported bool
	maybe    bool // the last change may or may not have survived: it was lazy, or in flight
}

// A mirror is the model of a spool: what must be there after a crash, what must
// not, and what may.
type mirror struct {
	bodies map[postrider.ID][]byte
	acked  map[postrider.ID]bool // Commit returned nil
	tried  map[postrider.ID]bool // Commit was called
	fates  map[postrider.ID][]fate
	// pairs: a report is there if, and only if, its message is reported.
	pairs map[postrider.ID]postrider.ID
}

func newMirror() *mirror {
	return &mirror{bodies: map[postrider.ID][]byte{}, acked: map[postrider.ID]bool{}, tried: map[postrider.ID]bool{},
		fates: map[postrider.ID][]fate{}, pairs: map[postrider.ID]postrider.ID{}}
}

// A script runs against a spool and a mirror until it ends or the disk dies.
type script struct {
	b    *bench
	m    *mirror
	dead bool
}

func (s *script) add(size int, rcpts ...string) postrider.ID {
	if s.dead {
		return ""
	}
	body := bytes.Repeat([]byte(fmt.Sprintf("%07d\r\n", len(s.m.tried))), size/9+1)
	a, err := addition(s.b.s, "", body, time.Now(), rcpts...)
	if err != nil {
		s.dead = true
		return ""
	}
	id := a.Message.ID
	s.m.bodies[id], s.m.tried[id], s.m.fates[id] = body, true, make([]fate, len(rcpts))
	if err := s.b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
		s.dead = true
		a.Draft.Discard()
		return ""
	}
	s.m.acked[id] = true
	return id
}

// step claims what is due and settles it with the change that f makes.
func (s *script) step(lazy bool, f func(i int) postrider.Change) {
	if s.dead {
		return
	}
	l, ok := s.b.claim()
	if !ok {
		return
	}
	set := postrider.Settlement{Lease: l}
	if c, err := s.b.s.Open(context.Background(), l.ID); err == nil {
		c.Close()
	} else {
		s.dead = true
		return
	}
	for _, i := range l.Rcpts {
		c := f(i)
		set.Changes = append(set.Changes, c)
		s.m.fates[l.ID][i] = fate{c.State, c.Reported, true}
	}
	err := s.b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: lazy})
	if err != nil {
		s.dead = true
		return
	}
	if !lazy {
		s.sure(l.ID)
	}
}

func (s *script) sure(id postrider.ID) {
	for i := range s.m.fates[id] {
		s.m.fates[id][i].maybe = false
	}
}

// report reports what is owed, with a message of its own in the same batch.
func (s *script) report() {
	if s.dead {
		return
	}
	l, ok := s.b.claim()
	if !ok || l.Why != postrider.Wake {
		return
	}
	a, err := addition(s.b.s, "", []byte("report\r\n"), time.Now(), "from@report.example")
	if err != nil {
		s.dead = true
		return
	}
	id := a.Message.ID
	s.m.bodies[id], s.m.tried[id], s.m.fates[id] = []byte("report\r\n"), true, make([]fate, 1)
	s.m.pairs[l.ID] = id
	set := postrider.Settlement{Lease: l}
	for _, i := range l.Rcpts {
		c := failed(i)
		c.Reported = true
		set.Changes = append(set.Changes, c)
		s.m.fates[l.ID][i] = fate{c.State, true, true}
	}
	batch := postrider.Batch{Add: []postrider.Addition{a}, Settle: []postrider.Settlement{set}}
	if err := s.b.s.Commit(context.Background(), batch); err != nil {
		s.dead = true
		return
	}
	s.m.acked[id] = true
	s.sure(l.ID)
}

// run does a bit of everything: small and large messages, settlements lazy and
// not, reports, amendments, moves out of old segments, restarts.
func (s *script) run() {
	held := s.add(500, "a@held.example")
	for round := range 6 {
		s.add(700, "a@x.example", "b@x.example", "c@y.example")
		s.add(5000, "a@x.example") // in its own file
		s.step(true, delivered)
		s.step(true, func(i int) postrider.Change { return deferred(i, time.Now()) })
		s.step(true, failed)
		if !s.dead && round%2 == 0 {
			time.Sleep(100 * time.Millisecond) // the lazy sync comes
		}
		s.step(false, delivered)
		s.report()
		s.step(true, delivered)
		if !s.dead && held != "" {
			amend := postrider.Batch{Amend: []postrider.Amendment{{ID: held, Due: time.Now()}}}
			s.dead = s.b.s.Commit(context.Background(), amend) != nil
		}
		s.add(1500, "d@z.example")
		s.step(true, delivered)
		if !s.dead && round == 3 {
			err := s.b.s.Close(context.Background())
			if s.dead = err != nil || s.b.fs.Dead(); !s.dead {
				o := testOptions(s.b.fs)
				s.b.opened++
				o.Rand = rand.New(rand.NewPCG(1, s.b.opened))
				next, err := Open(context.Background(), o)
				if s.dead = err != nil; !s.dead {
					s.b.s = next
					next.Rekey(destOf)
				}
			}
		}
	}
}

// check compares what a recovered spool holds with the mirror.
func (m *mirror) check(s *Spool) error {
	seen := map[postrider.ID]*postrider.Message{}
	for msg, err := range s.Scan(context.Background()) {
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		seen[msg.ID] = msg
		if !m.tried[msg.ID] {
			return fmt.Errorf("message %s comes from nowhere", msg.ID)
		}
		c, err := s.Open(context.Background(), msg.ID)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(c.Reader())
		if err != nil {
			return err
		}
		c.Close()
		if want := append(bytes.Clone(c.Head()), m.bodies[msg.ID]...); !bytes.Equal(got, want) {
			return fmt.Errorf("message %s is torn", msg.ID)
		}
	}
	for id := range m.acked {
		if err := m.checkAcked(id, seen[id]); err != nil {
			return err
		}
	}
	for id, report := range m.pairs {
		msg := seen[id]
		reported := msg == nil
		if msg != nil {
			for _, r := range msg.Recipients {
				reported = reported || r.Reported && r.State == postrider.Failed
			}
		}
		_, there := seen[report]
		settledSince := m.fates[report][0].state == postrider.Delivered
		if m.acked[id] && reported != there && !(reported && settledSince) {
			return fmt.Errorf("message %s reported=%v, and its report %s is there=%v", id, reported, report, there)
		}
	}
	return nil
}

func (m *mirror) checkAcked(id postrider.ID, msg *postrider.Message) error {
	open, sure := false, true
	for i, f := range m.fates[id] {
		if f.maybe {
			sure = false
			continue
		}
		closed := f.state != postrider.Waiting && f.reported
		open = open || !closed
		if msg != nil && (msg.Recipients[i].State != f.state || msg.Recipients[i].Reported != f.reported) {
			return fmt.Errorf("message %s recipient %d is %v, and was durably %v", id, i, msg.Recipients[i].State, f.state)
		}
	}
	if open && msg == nil {
		return fmt.Errorf("message %s was acknowledged and is lost", id)
	}
	if sure && !open && msg != nil {
		return fmt.Errorf("message %s was durably done and is back", id)
	}
	return nil
}

// play runs the script on a disk with the hook, and returns what is left.
func play(t *testing.T, hook func(vfs.Op) error) (*vfs.Mem, *mirror, bool) {
	fsys := vfs.NewMem()
	fsys.SetHook(hook)
	b := &bench{t: t, fs: fsys, opened: 100}
	s := &script{b: b, m: newMirror()}
	sp, err := Open(context.Background(), testOptions(fsys))
	if err != nil {
		return fsys, s.m, true
	}
	b.s = sp
	sp.Rekey(destOf)
	s.run()
	b.s.Close(context.Background())
	return fsys, s.m, s.dead
}

// recovered opens the spool on a disk after a crash and holds it against m. Then
// it accepts, closes and opens once more: recovery must not eat its own work.
func recovered(t *testing.T, disk *vfs.Mem, m *mirror, seed uint64) error {
	o := testOptions(disk)
	o.Rand = rand.New(rand.NewPCG(7, seed))
	var alarms []string
	o.Alarm = func(text string) { alarms = append(alarms, text) }
	s, err := Open(context.Background(), o)
	if err != nil {
		return err
	}
	s.Rekey(destOf)
	err = m.check(s)
	if err == nil && len(alarms) > 0 {
		err = fmt.Errorf("false alarm: %q", alarms)
	}
	s.Close(context.Background())
	return err
}

// The disk dies before each operation that changes it, and then keeps any part
// of what was not synced.
func TestCrashAtEveryOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("exhaustive, and skipped with -short")
	}
	subsets, random := 24, 8
	crashes := 0
	var last atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		play(t, func(op vfs.Op) error { last.Store(int64(op.N)); return nil })
	})
	ops := int(last.Load()) + 1
	for n := range ops {
		synctest.Test(t, func(t *testing.T) {
			var skip atomic.Bool
			disk, m, dead := play(t, func(op vfs.Op) error {
				if op.N == n && !op.Kind.Changes() {
					skip.Store(true)
				}
				if op.N >= n && !skip.Load() {
					return vfs.ErrCrash
				}
				return nil
			})
			if skip.Load() || !dead {
				return
			}
			try := func(kind string, after *vfs.Mem) {
				crashes++
				if err := recovered(t, after, m, uint64(crashes)); err != nil {
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
	if ops < 150 || crashes < 500 {
		t.Fatalf("only %d operations and %d crashes: the script does not do what it says", ops, crashes)
	}
	t.Logf("%d operations, %d crash states", ops, crashes)
}
