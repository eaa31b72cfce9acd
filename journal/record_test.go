package journal

import (
	"bytes"
	"context"
	"hash/fnv"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// Every field of an event comes back.
func TestEventRoundTrip(t *testing.T) {
	full := postrider.Event{Kind: postrider.EventAmended, ID: "x", Amend: postrider.AmendBounce, Next: time.Unix(1, 2), Rcpt: 3, To: addr("a@b"), Dest: "mx:b",
		Reply: smtp.Reply{Code: 554, Status: smtp.Status{Class: 5, Subject: 7, Detail: 1}, Text: "a\nb"}}
	for _, ev := range append(life(1, 0, time.Unix(9, 9)), full, postrider.Event{}) {
		got, err := decodeEvent(&record{seq: seq{ev.LSN, 0}, payload: appendEvent(nil, &ev)})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "event", []postrider.Event{got}, []postrider.Event{ev})
	}
}

// A payload that decodes is that of an event which comes back, and what precedes
// and follows a record changes nothing of it.
func FuzzRecord(f *testing.F) {
	for _, ev := range life(1, 1, time.Unix(9, 9)) {
		f.Add(appendEvent(nil, &ev), []byte("torn end"))
	}
	f.Fuzz(func(t *testing.T, payload, after []byte) {
		ev, err := decodeEvent(&record{payload: payload})
		if err == nil {
			again, err := decodeEvent(&record{payload: appendEvent(nil, &ev)})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "again", []postrider.Event{again}, []postrider.Event{ev})
		}
		before := make([]byte, align)
		b := append(appendRecord(bytes.Clone(before), seq{7, 8}, 9, payload), after...)
		sc := &scanner{f: bytes.NewReader(b), size: int64(len(b))}
		r, err := sc.next()
		if err != nil || r.off != align || r.seq != (seq{7, 8}) || r.synced != 9 || !bytes.Equal(r.payload, payload) {
			t.Fatalf("%+v, %v", r, err)
		}
		b[align+headerLen-1] ^= 1 // of the CRC
		torn := &scanner{f: bytes.NewReader(b), size: int64(len(b))}
		if _, err := torn.read(align); err == nil {
			t.Fatal("a record with a wrong CRC is believed")
		}
	})
}

// An index finds each of its hashes, over the borders of blocks, and no other.
func TestIndex(t *testing.T) {
	var all entries
	spread := func(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 } // over all parts
	for i := range 3 * blockEntries {
		all.add([]entry{{spread(i / 500 * 7), uint32(5000 - i)}})
	}
	var out bytes.Buffer
	wrote, err := encodeIndex(&out, &all, 77)
	b := out.Bytes()
	if err != nil || wrote != int64(len(b)) || len(b)%blockLen != 0 {
		t.Fatalf("wrote %d of %d octets, %v", wrote, len(b), err)
	}
	if _, err := openIndex(bytes.NewReader(b), 78); err == nil {
		t.Error("the index of another size fits")
	}
	x, err := openIndex(bytes.NewReader(b), 77)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		want, _ := all.lookup(spread(i))
		slices.Sort(want)
		got, err := x.lookup(spread(i))
		if err != nil || !slices.Equal(got, want) || i%7 == 0 && i < 21 && len(got) == 0 {
			t.Errorf("hash %d: %d offsets, want %d, %v", i, len(got), len(want), err)
		}
	}
	b[blockLen+3] ^= 1
	if x, err = openIndex(bytes.NewReader(b), 77); err == nil {
		_, err = x.lookup(0)
	}
	if err == nil {
		t.Error("a damaged index is believed")
	}
}

// With a real spool: the journal follows, and what it has not yet when the
// process dies is read from the log.
func TestWithSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t, vfs.NewMem())
		s, err := spool.Open(ctx, spool.Options{FS: b.fs, Dir: "data/spool", SegmentSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		s.Rekey(func(smtp.Path) postrider.Dest { return postrider.DestHold })
		add := func() postrider.ID {
			d, err := s.Create(ctx, "")
			if err != nil {
				t.Fatal(err)
			}
			d.Write([]byte("x"))
			m := &postrider.Message{ID: d.ID(), From: addr("a@b.example"), Arrived: time.Now(), Size: d.Size(), Recipients: []postrider.Recipient{{To: addr("c@d.example")}}}
			if err := s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m}}}); err != nil {
				t.Fatal(err)
			}
			return m.ID
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- b.j.Run(run, s.Batches(run, "journal")) }()
		first := add()
		time.Sleep(time.Second)
		if got := where(t, b.j, string(first), 0); len(got) != 1 {
			t.Fatalf("got %v", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		second := add()
		ro := b.open(true)
		log, err := spool.Open(ctx, spool.Options{FS: b.fs, Dir: "data/spool", ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := ro.Run(ctx, log.Batches(ctx, "journal")); err != nil {
			t.Error(err)
		}
		for _, id := range []postrider.ID{first, second} {
			if got := where(t, ro, string(id), 0); len(got) != 1 || len(got[0]) != 1 {
				t.Errorf("got %v", got)
			}
		}
		log.Close(ctx)
		ro.Close()
		s.Close(ctx)
		b.close()
	})
}

// The hashes are those that the indexes of all versions hold.
func TestHashes(t *testing.T) {
	std := func(kind byte, key string) uint64 {
		h := fnv.New64a()
		h.Write([]byte{kind})
		h.Write([]byte(key))
		return h.Sum64()
	}
	for _, key := range []string{"", "a", "0123456789abcdefghij", "x@y.example", "\xff\x00"} {
		if got := hashOf(keyID, key); got != std(keyID, key) {
			t.Errorf("%q: %x", key, got)
		}
	}
	for _, p := range []smtp.Path{{}, {Local: "postmaster"}, {Local: "Bob", Domain: "Example.ORG"}, {Local: `"Bob Q"`, Domain: "example.org"}, {Local: `"Bob"`, Domain: "EXAMPLE.org"},
		{Local: "JÖRG", Domain: "example.org"}, {Local: "a", Domain: "BÜCHER.example"}, {Local: `"`, Domain: "x"}, {Local: "K\u212A", Domain: "x"}} {
		if got, want := hashAddress(p), std(keyAddress, addressKey(p)); got != want {
			t.Errorf("%v: %x, want %x", p, got, want)
		}
	}
}

// Entries are kept by their hashes, and what was taken down of them stays as it was.
func TestEntries(t *testing.T) {
	var all, before entries
	const n, first = 3 * entryBlockLen, entryBlockLen + 9
	for i := range n {
		for part := range uint64(3) {
			all.add([]entry{{part<<(64-entryPartBits) + uint64(i%2), uint32(i)}})
		}
		if i == first-1 {
			before = all
		}
	}
	for _, of := range []struct {
		entries *entries
		n       int
	}{{&all, n}, {&before, first}} {
		if got := of.entries.count(); got != 3*of.n {
			t.Errorf("%d entries, want %d", got, 3*of.n)
		}
		for hash := range uint64(3) {
			var want []uint32
			for i := range of.n {
				if uint64(i%2) == hash {
					want = append(want, uint32(i))
				}
			}
			got, err := of.entries.lookup(2<<(64-entryPartBits) + hash)
			if slices.Sort(got); err != nil || !slices.Equal(got, want) {
				t.Errorf("hash %d: %d of %d offsets, %v", hash, len(got), len(want), err)
			}
		}
	}
}
