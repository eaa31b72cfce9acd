package node

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// A keeper is a spool that a server has open, small enough that its log turns over.
type keeper struct {
	t      *testing.T
	fs     *vfs.Mem
	s      *spool.Spool
	n      int            // messages that came
	ids    []postrider.ID // of those that are there, oldest first
	alarms []string
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{t: t, fs: vfs.NewMem()}
	s, err := spool.Open(t.Context(), spool.Options{FS: k.fs, Dir: "data/spool", Rand: rand.New(rand.NewPCG(1, 2)),
		SegmentSize: 8 << 10, SmallMax: 2 << 10, Slack: 2 << 10, SnapshotEvery: 8 << 10,
		Alarm: func(text string) { k.alarms = append(k.alarms, text) }})
	if err != nil {
		t.Fatal(err)
	}
	k.s = s
	t.Cleanup(func() { s.Close(context.Background()) })
	return k
}

// add takes a message of so many octets in, for a recipient of its own.
func (k *keeper) add(size int) {
	k.t.Helper()
	ctx := k.t.Context()
	d, err := k.s.Create(ctx, "")
	if err != nil {
		k.t.Fatal(err)
	}
	k.n++
	d.Write(bytes.Repeat([]byte("x"), size))
	m := &postrider.Message{ID: d.ID(), From: mailbox(k.t, "s@x.example"), Arrived: time.Now(), Size: int64(size),
		Recipients: []postrider.Recipient{{To: mailbox(k.t, fmt.Sprintf("number%d@y.example", k.n)), Due: time.Now()}}}
	if err := k.s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m, Wake: time.Now().Add(time.Hour)}}}); err != nil {
		k.t.Fatal(err)
	}
	k.ids = append(k.ids, m.ID)
}

// drop ends the message at i.
func (k *keeper) drop(i int) {
	k.t.Helper()
	if err := k.s.Commit(k.t.Context(), postrider.Batch{Amend: []postrider.Amendment{{ID: k.ids[i], Do: postrider.AmendDrop}}}); err != nil {
		k.t.Fatal(err)
	}
	k.ids = slices.Delete(k.ids, i, i+1)
}

func (k *keeper) close() {
	k.t.Helper()
	if err := k.s.Close(context.Background()); err != nil {
		k.t.Error(err)
	}
	if len(k.alarms) > 0 {
		k.t.Errorf("the server says %q", k.alarms)
	}
}

// rot changes the octet of the log that a text begins with.
func (k *keeper) rot(text string) {
	k.t.Helper()
	list, err := k.fs.ReadDir("data/spool/seg")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range list {
		name := path.Join("data/spool/seg", e.Name())
		b, err := vfs.ReadFile(k.fs, name)
		if err != nil {
			k.t.Fatal(err)
		}
		at := bytes.Index(b, []byte(text))
		if at < 0 {
			continue
		}
		f, err := k.fs.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			k.t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b[at] ^ 0x20}, int64(at)); err != nil {
			k.t.Fatal(err)
		}
		return
	}
	k.t.Fatalf("no %q in the log", text)
}

func (k *keeper) check(fsys vfs.FS) SpoolCheck {
	k.t.Helper()
	found, err := CheckSpool(k.t.Context(), &config.Config{DataDir: "data"}, fsys)
	if err != nil {
		k.t.Fatal(err)
	}
	return found
}

// putOff lets the attempt at the oldest message come back with a reply.
func (k *keeper) putOff(reply string) {
	k.t.Helper()
	k.s.Rekey(func(smtp.Path) postrider.Dest { return "mx:y.example" })
	l, err := k.s.Claim(k.t.Context(), 1)
	if err != nil {
		k.t.Fatal(err)
	}
	later := postrider.Change{State: postrider.Waiting, Tries: 1, Due: time.Now().Add(time.Hour), Reply: smtp.Reply{Code: 450, Text: reply}}
	if err := k.s.Commit(k.t.Context(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{later}}}}); err != nil {
		k.t.Fatal(err)
	}
}

// What cannot be read any more is told, also where recovery would pass it over,
// and where a snapshot spares it the reading. Nothing is changed by it, and what can
// be read is counted.
func TestCheckSpool(t *testing.T) {
	for _, test := range []struct {
		rots     string // the octet that this text begins with
		snapshot bool
		lost     int    // messages that cannot be read
		says     string // empty: nothing is wrong
	}{
		{"", false, 0, ""},
		{"", true, 0, ""},
		{"number2", false, 1, "spool: 0000000001.seg is damaged: records before octet"},
		{"number2", true, 1, "message 0"},
		{"greylisted", false, 0, "spool: 0000000001.seg is damaged: records before octet"},
		{"greylisted", true, 0, "some of what was known of message"},
		{"xxx", false, 1, "is damaged on disk (content at octet 0)"},
		{"xxx", true, 1, "is damaged on disk (content at octet 0)"},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newKeeper(t)
			for range 3 {
				k.add(100)
			}
			k.putOff("greylisted")
			for range 8 {
				if k.add(100); test.snapshot {
					k.add(1000)
				}
			}
			synctest.Wait()
			k.close()
			if _, err := k.fs.Stat("data/spool/index.snap"); (err == nil) != test.snapshot {
				t.Fatalf("snapshot: %v", err)
			}
			if test.rots != "" {
				k.rot(test.rots)
			}
			before := k.image()
			found := k.check(k.fs)
			if found.Messages != len(k.ids)-test.lost || len(found.Aside) > 0 {
				t.Errorf("%+v: %+v", test, found)
			}
			all := strings.Join(found.Wrong, "\n")
			if (all == "") != (test.says == "") || !strings.Contains(all, test.says) || strings.Contains(all, "copy is kept") {
				t.Errorf("%+v: wrong is %q", test, found.Wrong)
			}
			if k.image() != before {
				t.Errorf("%+v: the check has changed something", test)
			}
		})
	}
}

// image is all that lies in the folder of the spool.
func (k *keeper) image() string {
	var all strings.Builder
	var walk func(dir string)
	walk = func(dir string) {
		list, err := k.fs.ReadDir(dir)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, e := range list {
			name := path.Join(dir, e.Name())
			if e.IsDir() {
				walk(name)
				continue
			}
			b, err := vfs.ReadFile(k.fs, name)
			fmt.Fprintf(&all, "%s %v %q\n", name, err, b)
		}
	}
	walk("data")
	return all.String()
}

// A meanwhile is a disk as a reader sees it, on which something happens before its
// operations.
type meanwhile struct {
	vfs.FS
	before func(n int) // of the operation n
	n      int
	looks  int
}

func (m *meanwhile) now() {
	m.n++
	m.before(m.n)
}

func (m *meanwhile) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	m.now()
	f, err := m.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &meanwhileFile{f, m}, nil
}

func (m *meanwhile) ReadDir(name string) ([]fs.DirEntry, error) {
	m.now()
	if path.Base(name) == "seg" {
		m.looks++
	}
	return m.FS.ReadDir(name)
}

type meanwhileFile struct {
	vfs.File
	m *meanwhile
}

func (f *meanwhileFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.now()
	return f.File.ReadAt(b, off)
}

// turn ends some mail, small and large, and takes other mail in, until the oldest
// segments are gone: what lived in them is elsewhere then.
func (k *keeper) turn() {
	for i := range 8 {
		k.drop(i)
		k.add(1000 + 2000*(i%2))
		k.add(1000)
		k.drop(len(k.ids) - 1)
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// A server goes on while its spool is read. What it has moved, ended or removed
// before any operation of the check, or before many, is not told as wrong.
func TestCheckSpoolBesideAServer(t *testing.T) {
	again := 0
	run := func(when string, times func(n int) bool) (last int) {
		synctest.Test(t, func(t *testing.T) {
			k := newKeeper(t)
			for i := range 40 {
				k.add(500 + 2000*(i%2))
			}
			m := &meanwhile{FS: k.fs}
			m.before = func(n int) {
				if times(n) {
					k.turn()
				}
			}
			if found := k.check(m); len(found.Wrong) > 0 {
				t.Errorf("%s: %q", when, found.Wrong)
			}
			if m.looks > 1 {
				again++
			}
			last = m.n
			m.before = func(int) {}
			if found := k.check(k.fs); len(found.Wrong) > 0 || found.Messages == 0 {
				t.Errorf("%s, afterwards: %+v", when, found)
			}
			k.close()
		})
		return last
	}
	for n, last := 1, 1; n <= last; n++ {
		last = run(fmt.Sprintf("operation %d", n), func(at int) bool { return at == n })
	}
	for n := 2; n < 150; n += 7 {
		run(fmt.Sprintf("each %d operations", n), func(at int) bool { return at%n == 0 })
	}
	if again < 50 {
		t.Error("the test has lost its sense: nothing looks wrong at the first look")
	}
}

// Before the first start nothing waits, and to look makes nothing.
func TestReadQueueOfNothing(t *testing.T) {
	disk := vfs.NewMem()
	for m, err := range ReadQueue(t.Context(), config.Builtin("data"), disk) {
		t.Errorf("%+v, %v", m, err)
	}
	if list, err := disk.ReadDir("."); err != nil || len(list) != 0 {
		t.Errorf("made: %v, %v", list, err)
	}
}
