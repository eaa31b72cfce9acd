package spool

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// benchBody is a content of 4 KiB.
var benchBody = bytes.Repeat([]byte("0123456789012345678901234567890123456789012345678901234567890\r\n"), 64)

func openBench(b *testing.B, fsys vfs.FS, dir string) *Spool {
	b.Helper()
	s, err := Open(context.Background(), Options{FS: fsys, Dir: dir, MinFree: 1, MaxRecipients: 1 << 30, Alarm: func(text string) { b.Error(text) }})
	if err != nil {
		b.Fatal(err)
	}
	s.Rekey(destOf)
	b.Cleanup(func() { s.Close(context.Background()) })
	return s
}

// accept is what receive does with a message.
func accept(s *Spool, body []byte, due time.Time, to smtp.Path) error {
	d, err := s.Create(context.Background(), "")
	if err != nil {
		return err
	}
	if _, err := d.Write(body); err != nil {
		return err
	}
	m := &postrider.Message{ID: d.ID(), From: addr("sender@origin.example"), Arrived: due, Size: int64(len(body)), HeaderID: "1234567890@origin.example",
		Source:     postrider.Source{Listener: "mx", Hello: "client.example", Protocol: "ESMTP"},
		Recipients: []postrider.Recipient{{To: to, Due: due}}}
	return s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m, Head: benchBody[:300], Wake: due.Add(time.Hour)}}})
}

// share does n things in so many goroutines.
func share(b *testing.B, workers, n int, do func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A message is accepted: written and synced, 4 KiB each.
func BenchmarkCommit(b *testing.B) {
	for _, workers := range []int{1, 20, 100} {
		for _, disk := range []string{"disk", "memory"} {
			b.Run(fmt.Sprintf("%s/%d", disk, workers), func(b *testing.B) {
				var fsys vfs.FS = vfs.OS()
				dir := b.TempDir() + "/spool"
				if disk == "memory" {
					fsys, dir = vfs.NewMem(), "data/spool"
				}
				s := openBench(b, fsys, dir)
				now := time.Now()
				b.ReportAllocs()
				b.ResetTimer()
				share(b, workers, b.N, func(i int) error {
					return accept(s, benchBody, now, addr(fmt.Sprintf("user%d@d%d.example", i, i%1000)))
				})
			})
		}
	}
}

// A slowDisk takes its time for each sync of a file.
type slowDisk struct {
	vfs.FS
	sync  time.Duration
	syncs atomic.Int64
}

type slowFile struct {
	vfs.File
	d *slowDisk
}

func (d *slowDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return slowFile{f, d}, nil
}

func (f slowFile) Sync() error {
	f.d.syncs.Add(1)
	<-time.After(f.d.sync)
	return nil
}

// A hundred sessions on a disk that takes 5 ms for a sync, each of which sends its
// next message when the last was accepted: groups fill.
func BenchmarkCommitSlowSync(b *testing.B) {
	disk := &slowDisk{FS: vfs.OS(), sync: 5 * time.Millisecond}
	s := openBench(b, disk, b.TempDir()+"/spool")
	now := time.Now()
	before := disk.syncs.Load()
	b.ResetTimer()
	share(b, 100, b.N, func(i int) error {
		return accept(s, benchBody, now, addr(fmt.Sprintf("user%d@d%d.example", i, i%1000)))
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(b.N)/float64(disk.syncs.Load()-before), "msg/sync")
}

// A parcel is claimed, opened, and settled as delivered, by so many attempts at once.
func BenchmarkDeliver(b *testing.B) {
	for _, workers := range []int{1, 20} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			s := openBench(b, vfs.OS(), b.TempDir()+"/spool")
			now := time.Now()
			share(b, 64, b.N, func(i int) error {
				return accept(s, benchBody, now, addr(fmt.Sprintf("user%d@d%d.example", i, i%1000)))
			})
			b.ReportAllocs()
			b.ResetTimer()
			share(b, workers, b.N, func(int) error { return deliverOne(s) })
		})
	}
}

func deliverOne(s *Spool) error {
	l, err := s.Claim(context.Background(), 100)
	if err != nil {
		return err
	}
	c, err := s.Open(context.Background(), l.ID)
	if err != nil {
		return err
	}
	if _, err := c.Reader().Read(make([]byte, 1024)); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	set := postrider.Settlement{Lease: l}
	for _, i := range l.Rcpts {
		set.Changes = append(set.Changes, delivered(i))
		set.Changes[len(set.Changes)-1].Reported = true
	}
	return s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: true})
}

// The feed is read, 4096 events at once.
func BenchmarkFeed(b *testing.B) {
	s := openBench(b, vfs.OS(), b.TempDir()+"/spool")
	now := time.Now()
	share(b, 64, b.N, func(i int) error {
		return accept(s, benchBody[:512], now, addr(fmt.Sprintf("user%d@d%d.example", i, i%1000)))
	})
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for evs, err := range s.Batches(b.Context(), "log") {
		if err != nil {
			b.Fatal(err)
		}
		if n += len(evs); n >= b.N {
			return
		}
	}
}

// What a queued recipient holds in memory: deferred once, in 10,000 domains.
func BenchmarkIndex(b *testing.B) {
	const domains = 10_000
	before := inUse()
	s := openBench(b, vfs.OS(), b.TempDir()+"/spool")
	now := time.Now()
	share(b, 64, b.N, func(i int) error {
		return accept(s, benchBody[:256], now, addr(fmt.Sprintf("user%d@dead%d.example", i, i%domains)))
	})
	share(b, 64, b.N, func(i int) error {
		l, err := s.Claim(context.Background(), 100)
		if err != nil {
			return err
		}
		c := deferred(l.Rcpts[0], now.Add(time.Hour))
		c.Reply.Text = fmt.Sprintf("%s does not answer", l.Dest)
		return s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{c}}}, Lazy: true})
	})
	b.StopTimer()
	b.ReportMetric(float64(inUse()-before)/float64(b.N), "B/recipient")
	began := time.Now()
	s.Stat()
	b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/stat")
	began = time.Now()
	for _, err := range s.ScanDomains(b.Context(), func(d string) bool { return d == "dead7.example" }) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/domain")
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// BenchmarkTally counts 200,000 recipients of 10,000 domains, a fifth of what a
// million costs.
func BenchmarkTally(b *testing.B) {
	s := openBench(b, vfs.NewMem(), "q")
	due := time.Now().Add(time.Hour)
	const most, domains = 200_000, 10_000
	for i := 0; i < most; i += 1000 {
		d, err := s.Create(b.Context(), "")
		if err != nil {
			b.Fatal(err)
		}
		m := &postrider.Message{ID: d.ID(), From: addr("sender@origin.example"), Arrived: due, Size: 1}
		for k := range 1000 {
			m.Recipients = append(m.Recipients, postrider.Recipient{To: smtp.Path{Local: "x", Domain: fmt.Sprintf("d%d.example", (i+k)%domains)}, Due: due,
				Tries: 1, Reply: smtp.Reply{Code: 451, Text: fmt.Sprintf("later, %d", k%3)}})
		}
		if err := s.Commit(b.Context(), postrider.Batch{Add: []postrider.Addition{{Draft: d, Message: m, Wake: due}}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if all := s.Tally(); len(all) != domains {
			b.Fatal(len(all))
		}
	}
}
