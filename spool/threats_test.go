package spool

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A spool of another format is refused, with both formats named, and not an octet
// of it is touched: the program that wrote it finds all of its mail.
func TestOtherFormat(t *testing.T) {
	for _, version := range []uint32{0, segmentVersion + 1, 1 << 31} {
		fsys := vfs.NewMem()
		b := newBench(t, fsys)
		id := b.add([]byte("mail"), "a@x.example")
		b.s.Close(context.Background())
		name := "data/spool/seg/0000000001.seg"
		raw, err := vfs.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		write := func(version uint32) {
			binary.LittleEndian.PutUint32(raw[8:], version)
			binary.LittleEndian.PutUint32(raw[40:], checksum(raw[:40]))
			f, err := fsys.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(raw[:segmentHeaderLen], 0); err != nil {
				t.Fatal(err)
			}
		}
		write(version)
		before := listing(t, fsys)
		s, err := Open(context.Background(), testOptions(fsys))
		if err == nil {
			s.Close(context.Background())
			t.Fatalf("format %d was opened", version)
		}
		if text := err.Error(); !strings.Contains(text, fmt.Sprintf("format %d,", version)) || !strings.Contains(text, fmt.Sprintf("format %d:", segmentVersion)) {
			t.Errorf("the error is %q", err)
		}
		if after := listing(t, fsys); after != before {
			t.Errorf("before:\n%safter:\n%s", before, after)
		}
		write(segmentVersion)
		b.open()
		if _, err := b.s.Open(context.Background(), id); err != nil {
			t.Error(err)
		}
		b.s.Close(context.Background())
	}
}

// listing is every file of the spool with a checksum of its octets, the lock left out.
func listing(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	var all strings.Builder
	var walk func(dir string)
	walk = func(dir string) {
		list, err := fsys.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			name := dir + "/" + e.Name()
			if e.IsDir() {
				walk(name)
				continue
			}
			raw, err := vfs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "%s %d %08x\n", name, len(raw), checksum(raw))
		}
	}
	walk("data/spool")
	return all.String()
}

// A disk that takes two seconds for a sync makes everybody wait for three of them
// and not for one of each: what comes meanwhile is the next group.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		o := testOptions(fsys)
		o.SegmentSize, o.SnapshotEvery = 1<<20, 1<<20 // as they are large
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey(destOf)
		syncs := 0
		var mu sync.Mutex
		fsys.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind != vfs.OpSync {
				return 0
			}
			mu.Lock()
			defer mu.Unlock()
			syncs++
			return 2 * time.Second
		})
		const n = 60
		begin, slowest := time.Now(), time.Duration(0)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 50 * time.Millisecond) // a new one comes while others wait
				came := time.Now()
				a, err := addition(s, "", []byte("x"), time.Now().Add(time.Hour), "a@held.example")
				if err == nil {
					err = s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
				}
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, time.Since(came))
			})
		}
		wg.Wait()
		if took := time.Since(begin); took > 8*time.Second || syncs > 4 || slowest > 6*time.Second {
			t.Errorf("%d messages took %v and %d syncs, the slowest %v", n, took, syncs, slowest)
		}
		s.Close(context.Background())
	})
}

// Two machines that begin from copies of one spool, at the same moment, never give
// one ID to two messages.
func TestClonesMakeOtherIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		old := b.add([]byte("mail"), "a@held.example")
		image := b.fs.Image(vfs.KeepAll)
		b.s.Close(context.Background())
		seen := map[postrider.ID]int{}
		for clone := range 3 {
			c := newBench(t, image.Image(vfs.KeepAll))
			c.s.Close(context.Background())
			c.opened = uint64(100 + clone) // as no two starts have the same random numbers
			c.open()
			if _, err := c.s.Open(context.Background(), old); err != nil {
				t.Error(err)
			}
			for range 20 {
				seen[c.add([]byte("new"), "a@held.example")]++
			}
			c.s.Close(context.Background())
		}
		if len(seen) != 60 || seen[old] > 0 {
			t.Errorf("%d IDs of 60 messages", len(seen))
		}
	})
}

// Whatever octets pass for the meta of a record, they are decoded into what
// encodes and decodes to the same again, or refused; and nothing large is made of
// little.
func FuzzMeta(f *testing.F) {
	m := &postrider.Message{ID: "0000000000000000000a", EnvID: "env", Arrived: time.Unix(1, 0), Size: 3, HeaderID: "x@y",
		Recipients: []postrider.Recipient{{To: smtp.Path{Local: "a", Domain: "b"}, Due: time.Unix(2, 0), Tries: 1, Reply: smtp.Reply{Code: 451, Text: "later"}}}}
	c := changeOf(0, &m.Recipients[0])
	for kind, meta := range [][]byte{
		(&accepted{msg: m, head: []byte("Received: x\r\n"), wake: 1, size: 3, sums: []uint32{1}}).encode(),
		(&state{id: m.ID, at: 1, tos: []smtp.Path{m.Recipients[0].To}, dests: []postrider.Dest{"mx:b"}, changes: []postrider.Change{c}, news: []bool{true}}).encode(),
		(&amendment{id: m.ID, at: 1, do: postrider.AmendHold, rcpts: []int32{0}, tos: []smtp.Path{m.Recipients[0].To}, leased: []bool{true}}).encode(),
	} {
		f.Add(uint8(kind), meta)
		f.Add(uint8(kind), meta[:len(meta)/2])
	}
	f.Fuzz(func(t *testing.T, kind uint8, meta []byte) {
		var again func([]byte) ([]byte, int, error)
		switch kind % 3 {
		case 0:
			again = func(b []byte) ([]byte, int, error) {
				a, err := decodeAccepted(b)
				if err != nil {
					return nil, 0, err
				}
				return a.encode(), len(a.msg.Recipients) + len(a.sums) + len(a.head), nil
			}
		case 1:
			again = func(b []byte) ([]byte, int, error) {
				s, err := decodeState(b)
				if err != nil {
					return nil, 0, err
				}
				return s.encode(), len(s.changes), nil
			}
		case 2:
			again = func(b []byte) ([]byte, int, error) {
				a, err := decodeAmendment(b)
				if err != nil {
					return nil, 0, err
				}
				return a.encode(), len(a.rcpts), nil
			}
		}
		once, n, err := again(meta)
		if err != nil {
			return
		}
		if n > len(meta) {
			t.Fatalf("%d things of %d octets", n, len(meta))
		}
		twice, _, err := again(once)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%q became %q, then %q, %v", meta, once, twice, err)
		}
	})
}

// The memory for contents on their way in is bounded for all together: what comes
// beyond it goes to a file, and nothing of it is lost or refused.
func TestManyDrafts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(vfs.NewMem())
		o.DraftMemory = 20 << 10
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey(destOf)
		const n = 100
		var adds []postrider.Addition
		piece := strings.Repeat("0123456789", 50)
		for i := range n {
			a, err := addition(s, "", []byte(fmt.Sprintf("%03d", i)), time.Now().Add(time.Hour), "a@held.example")
			if err != nil {
				t.Fatal(err)
			}
			adds = append(adds, a)
		}
		for range 3 {
			for _, a := range adds {
				if _, err := a.Draft.Write([]byte(piece)); err != nil {
					t.Fatal(err)
				}
				if held := s.draftBytes.Load(); held > o.DraftMemory {
					t.Fatalf("%d octets are held in memory", held)
				}
			}
		}
		files, err := o.FS.ReadDir("data/spool/big")
		if err != nil || len(files) < n/2 || len(files) == n {
			t.Errorf("%d of %d contents are in files, %v", len(files), n, err)
		}
		for i, a := range adds {
			a.Message.Size = a.Draft.Size() + int64(len(a.Head))
			if err := s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
				t.Fatal(err)
			}
			c, err := s.Open(context.Background(), a.Message.ID)
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := io.ReadAll(c.Reader()); err != nil || !strings.HasSuffix(string(raw), fmt.Sprintf("%03d", i)+piece+piece+piece) {
				t.Errorf("message %d: %d octets, %v", i, len(raw), err)
			}
			c.Close()
		}
		if held := s.draftBytes.Load(); held != 0 {
			t.Errorf("%d octets are never given back", held)
		}
		s.Close(context.Background())
	})
}
