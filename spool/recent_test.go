package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// Readers are told what was written and is durable, each record whole, once and in
// order, or are sent to the log: never past a record that is not there.
func TestRecentIsItsModel(t *testing.T) {
	for seed := range uint64(300) {
		m := &recentModel{rng: rand.New(rand.NewPCG(seed, 1)), written: 7, synced: 7}
		m.c.begin(7)
		m.c.most = 1 << m.rng.IntN(9)
		readers := []*follower{{read: 7}, {read: 7}, {read: 3}}
		for range 400 {
			if m.step(readers[m.rng.IntN(len(readers))]); m.wrong == "" && (m.c.n > m.c.most || len(m.c.readers) == 0 && m.c.n > 0) {
				m.wrong = fmt.Sprintf("%d events are kept for %d readers", m.c.n, len(m.c.readers))
			}
			if m.wrong != "" {
				t.Fatalf("seed %d: %s", seed, m.wrong)
			}
		}
	}
}

// A recentModel knows what a recent was told.
type recentModel struct {
	rng             *rand.Rand
	c               recent
	log             []uint64 // LSN of each event
	written, synced uint64
	cut             uint64 // LSN of the last record that is read from the log
	wrong           string
}

func (m *recentModel) step(f *follower) {
	switch m.rng.IntN(8) {
	case 0:
		if !slices.Contains(m.c.readers, f) {
			m.c.join(f)
		}
	case 1:
		if m.rng.IntN(4) == 0 {
			m.c.leave(f)
		}
	case 2, 3:
		m.group()
	case 4:
		m.synced = m.written
		m.c.durable(m.synced, nil, 0)
	case 5:
		m.c.rest()
		if m.rng.IntN(4) == 0 {
			m.c.abandon()
			m.log = slices.DeleteFunc(m.log, func(lsn uint64) bool { return lsn > m.synced })
		}
	default:
		m.read(f)
	}
}

// group writes some records.
func (m *recentModel) group() {
	var items []*item
	for range 1 + m.rng.IntN(9)*m.rng.IntN(9) {
		lsn := m.written + uint64(len(items)) + 1
		it := &item{kind: kindState, state: &state{}, meta: make([]byte, 1)}
		for range 1 + m.rng.IntN(3) {
			it.state.changes, it.state.news = append(it.state.changes, postrider.Change{}), append(it.state.news, true)
			it.state.tos, it.state.dests = append(it.state.tos, smtp.Path{}), append(it.state.dests, "")
			m.log = append(m.log, lsn)
		}
		switch m.rng.IntN(300) {
		case 0:
			it.meta, m.cut = make([]byte, recentMeta+1), lsn
		case 1:
			it.again, m.cut = true, lsn
		}
		items = append(items, it)
	}
	m.c.hear(m.written+1, items)
	m.written += uint64(len(items)) + 1
}

// read lets a reader read on, here or in the log.
func (m *recentModel) read(f *follower) {
	was, most, covered := f.read, 1+m.rng.IntN(6), m.c.covers(f.read)
	evs, more := m.c.recall(f, nil, most)
	var told, want []uint64
	for i := range evs {
		told = append(told, evs[i].LSN)
	}
	for _, lsn := range m.log {
		if lsn > was && lsn <= f.read {
			want = append(want, lsn)
		}
	}
	switch full := len(told) > 0 && f.read < m.synced; {
	case covered != more || more && was < m.cut || !more && (f.read != was || len(evs) > 0):
		m.wrong = fmt.Sprintf("%v, %v, from %d to %d, %d events", covered, more, was, f.read, len(evs))
	case !slices.Equal(told, want) || f.read > m.synced || full && len(told) < most || more && f.read == was:
		m.wrong = fmt.Sprintf("from %d to %d of %d it tells %v, want %v", was, f.read, m.synced, told, want)
	case !more && was < m.synced: // the log
		f.read = m.synced
	}
}

// A reader that keeps up is told the same as one that reads the log, field by field.
func TestFeedTellsWhatTheLogSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		ctx, cancel := context.WithCancel(context.Background())
		var told []postrider.Event
		b.s.mu.Lock()
		b.s.reader("from the log") // for which it stays
		b.s.mu.Unlock()
		done := make(chan error)
		go func() {
			for evs, err := range b.s.Batches(ctx, "keeps up") {
				if err != nil {
					done <- err
					return
				}
				told = append(told, evs...)
			}
		}()
		b.someOfAll(ctx, 40)
		time.Sleep(time.Second)
		var read []postrider.Event
		for ev, err := range b.s.Feed(ctx, "from the log") {
			if err != nil {
				t.Fatal(err)
			}
			if read = append(read, ev); len(read) == len(told) {
				break
			}
		}
		if len(told) < 40*3 || !reflect.DeepEqual(told, read) {
			t.Errorf("it was told %d events, and the log has %d others", len(told), len(read))
			for i := range min(len(told), len(read)) {
				if !reflect.DeepEqual(told[i], read[i]) {
					t.Fatalf("event %d: told\n%+v\nread\n%+v", i, told[i], read[i])
				}
			}
		}
		if b.s.recent.n != 0 || len(b.s.recent.ring) > recentIdle {
			t.Errorf("%d events are kept in room for %d, and nobody needs them", b.s.recent.n, len(b.s.recent.ring))
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		b.s.Close(context.Background())
	})
}

// someOfAll commits so many messages, and what becomes of them, of all kinds.
func (b *bench) someOfAll(ctx context.Context, n int) {
	zone := time.FixedZone("there", 3600)
	for i := range n {
		a, err := addition(b.s, "", []byte("x"), time.Now().In(zone), "a@x.example", fmt.Sprintf("b%d@y.example", i))
		if err != nil {
			b.t.Fatal(err)
		}
		m := a.Message
		m.Arrived = time.Now().In(zone)
		m.HeaderID, m.Priority, m.Automatic = "1@y", int8(i-20), i%2 == 0
		m.Source = postrider.Source{Listener: "mx", Hello: "h", Protocol: "ESMTPS", Account: "me", TLS: "suite"}
		if i%2 == 0 {
			m.Source.Peer = netip.MustParseAddrPort("[fe80::1%eth0]:25")
		}
		m.Recipients[0].ORcpt, m.Recipients[1].Expanded = "rfc822;Was@x.example", i%3 == 0
		if i%10 == 9 {
			m.EnvID = strings.Repeat("e", recentMeta) // beyond what is kept
		}
		if err := b.s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
			b.t.Fatal(err)
		}
		l := b.mustClaim(postrider.Attempt, 0)
		c := deferred(0, time.Now().Add(time.Hour).In(zone))
		c.Reply, c.Remote = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 4, Detail: 700}, Text: "later"}, "mx.example"
		b.settle(l, c)
		if i%4 == 0 {
			b.amend(postrider.Amendment{ID: m.ID, Do: postrider.AmendDrop, Rcpts: []int{0}})
		}
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		if i%7 == 0 {
			time.Sleep(lazySyncTime)
		}
		time.Sleep(2 * feedGather)
		synctest.Wait()
	}
}

// Who keeps up needs no disk.
func TestFeedReadsNothingThatWasJustWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		reads := &readCounter{FS: b.fs}
		b.s.Close(context.Background())
		o := testOptions(reads)
		o.SegmentSize, o.Slack, o.SnapshotEvery = 1<<20, 1<<20, 1<<20 // nothing else is read
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey(destOf)
		b.s = s
		ctx, cancel := context.WithCancel(context.Background())
		told, done := 0, make(chan bool)
		go func() {
			for evs := range s.Batches(ctx, "log") {
				told += len(evs)
			}
			close(done)
		}()
		b.add([]byte("x"), "a@x.example") // it may begin with the log
		time.Sleep(2 * feedGather)
		synctest.Wait()
		before := reads.n
		for range 50 {
			b.add([]byte("x"), "a@x.example")
			time.Sleep(2 * feedGather)
			synctest.Wait()
		}
		if told != 51 || reads.n != before {
			t.Errorf("%d events were told with %d reads", told, reads.n-before)
		}
		reads.low = 1 << 40
		a, err := addition(s, "", []byte("x"), time.Now(), "a@x.example")
		if err != nil {
			t.Fatal(err)
		}
		a.Message.EnvID = strings.Repeat("e", recentMeta)
		end := s.active.end
		if err := s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * feedGather)
		synctest.Wait()
		if told != 52 || reads.low != end {
			t.Errorf("%d events were told, and of a log that ended at %d was read from %d on", told, end, reads.low)
		}
		cancel()
		<-done
		s.Close(context.Background())
	})
}

// A readCounter counts what is read of segments.
type readCounter struct {
	vfs.FS
	n   int
	low int64 // the first octet that was read
}

type countedFile struct {
	vfs.File
	c *readCounter
}

func (c *readCounter) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil || path.Base(path.Dir(name)) != "seg" {
		return f, err
	}
	return countedFile{f, c}, nil
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.n++
	f.c.low = min(f.c.low, off)
	return f.File.ReadAt(p, off)
}

// The ring grows wherever it begins, and gives its memory back in a lull.
func TestRecentGrowsAndRests(t *testing.T) {
	c, f := &recent{}, &follower{}
	c.begin(0)
	c.join(f)
	lsn := uint64(1)
	for _, n := range []int{50, 50, 50, recentIdle + 50, 3 * recentMost} {
		for left := n; left > 0; left -= 10 {
			var items []*item
			for range 10 {
				items = append(items, &item{kind: kindAccept, add: &accepted{msg: &postrider.Message{}}})
			}
			c.hear(lsn, items)
			lsn += 11
		}
		c.durable(lsn-1, nil, 0)
		if n > recentMost {
			break
		}
		var evs []postrider.Event
		for more := true; more; {
			evs, more = c.recall(f, evs, n)
		}
		if len(evs) < n || evs[0].LSN >= evs[len(evs)-1].LSN {
			t.Errorf("%d events, want %d", len(evs), n)
		}
	}
	if c.n != recentMost || len(c.ring) != recentMost {
		t.Errorf("%d events are kept in %d places", c.n, len(c.ring))
	}
	f.read = lsn
	if c.release(); c.n > 0 {
		t.Errorf("%d events are kept that were read", c.n)
	}
	if c.rest(); c.ring != nil {
		t.Error("nothing is given back")
	}
}
