package maildir_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// crowd delivers n messages at once, a box for each, and returns what came of each.
func crowd(ctx context.Context, tr postrider.Transport, n int) []postrider.Outcome {
	outcomes := make([]postrider.Outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d := delivery(fmt.Sprintf("mail/%d", i), "bob@example.org")
			d.Message.ID = postrider.ID(fmt.Sprintf("%020d", i))
			outcomes[i] = tr.Deliver(ctx, d)[0]
		})
	}
	wg.Wait()
	return outcomes
}

// boxes makes n Maildirs, empty.
func boxes(t *testing.T, m *vfs.Mem, tr postrider.Transport, n int) {
	for i := range n {
		dir := fmt.Sprintf("mail/%d", i)
		wantDelivered(t, tr.Deliver(t.Context(), delivery(dir, "bob@example.org")))
		for name := range read(t, m, dir+"/new") {
			if err := m.Remove(dir + "/new/" + name); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.SyncDir(dir + "/new"); err != nil {
			t.Fatal(err)
		}
	}
}

// Those who come together share the syncs of the file system: a hundred make two,
// and few more for those who came first. A power cut at any of them loses nothing
// that was told delivered.
func TestGroups(t *testing.T) {
	const many = 100
	for crash := range 5 {
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			tr := transport(m)
			boxes(t, m, tr, many)
			var whole, single atomic.Int64
			m.SetHook(func(op vfs.Op) error {
				switch op.Kind {
				case vfs.OpSync, vfs.OpSyncDir:
					single.Add(1)
				case vfs.OpSyncFS:
					if whole.Add(1) == int64(crash) {
						return vfs.ErrCrash
					}
				}
				return nil
			})
			m.SetDelay(func(op vfs.Op) time.Duration {
				if op.Kind == vfs.OpSyncFS {
					return 10 * time.Millisecond
				}
				return time.Microsecond
			})
			outcomes := crowd(t.Context(), tr, many)
			if !m.Dead() && (whole.Load() > 6 || single.Load() > 6) {
				t.Errorf("%d syncs of the file system and %d of a file or folder for %d messages", whole.Load(), single.Load(), many)
			}
			after, told := m.Crash(vfs.KeepNone), 0
			for i, o := range outcomes {
				if o.Result != postrider.ResultDelivered {
					continue
				}
				told++
				if got := contents(t, after, fmt.Sprintf("mail/%d", i)); !slices.Equal(got, []string{want("bob@example.org")}) {
					t.Errorf("crash %d: message %d was told delivered, and its box holds %d files", crash, i, len(got))
				}
			}
			if crash == 0 && told != many {
				t.Errorf("%d of %d were delivered", told, many)
			}
		})
	}
}

// A sync of the file system that fails has lost what anybody was writing there,
// whoever asked for it: all of them are put off, and come again.
func TestFailedGroup(t *testing.T) {
	const many = 50
	for bad := range 3 {
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			tr := transport(m)
			boxes(t, m, tr, many)
			var n atomic.Int64
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSyncFS && n.Add(1) == int64(bad+1) {
					return syscall.EIO
				}
				return nil
			})
			m.SetDelay(func(op vfs.Op) time.Duration {
				if op.Kind == vfs.OpSyncFS {
					return 10 * time.Millisecond
				}
				return time.Microsecond
			})
			put := 0
			outcomes := crowd(t.Context(), tr, many)
			disk := m.Image(vfs.KeepNone)
			for i, o := range outcomes {
				got := contents(t, disk, fmt.Sprintf("mail/%d", i))
				switch {
				case o.Result == postrider.ResultFailed:
					t.Errorf("message %d: failed for ever", i)
				case o.Result == postrider.ResultDeferred:
					put++
				case !slices.Equal(got, []string{want("bob@example.org")}):
					t.Errorf("sync %d fails: message %d was told delivered, and its box holds %d files", bad, i, len(got))
				}
			}
			if put == 0 {
				t.Errorf("sync %d fails: nobody was put off", bad)
			}
			m.SetHook(nil)
			for i := range many {
				d := delivery(fmt.Sprintf("mail/%d", i), "bob@example.org")
				d.Message.ID, d.Again = postrider.ID(fmt.Sprintf("%020d", i)), true
				outcome := tr.Deliver(t.Context(), d)
				if outcome[0].Result != postrider.ResultDelivered { // the folder tells once what it has lost
					outcome = tr.Deliver(t.Context(), d)
				}
				wantDelivered(t, outcome)
			}
			after := m.Crash(vfs.KeepNone)
			for i := range many {
				if got := contents(t, after, fmt.Sprintf("mail/%d", i)); !slices.Equal(got, []string{want("bob@example.org")}) {
					t.Errorf("sync %d fails: in the end box %d holds %d files", bad, i, len(got))
				}
			}
		})
	}
}

// Who writes much beside us makes the syncs of the file system slow. Then each file
// is synced by itself, for a while.
func TestSlowGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		tr := transport(m)
		boxes(t, m, tr, 20)
		var whole atomic.Int64
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSyncFS {
				whole.Add(1)
				return time.Second
			}
			return time.Millisecond
		})
		stay := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { // somebody is always there
			d := delivery("mail/0", "bob@example.org")
			d.Content = &content{m: d.Message, body: "x", fail: context.Canceled, wait: stay}
			tr.Deliver(context.Background(), d)
		})
		for round, want := range []bool{true, false, true} {
			before := whole.Load()
			for _, o := range crowd(t.Context(), tr, 20) {
				if o.Result != postrider.ResultDelivered {
					t.Fatal(o.Reply)
				}
			}
			if got := whole.Load() > before; got != want {
				t.Errorf("round %d: syncs of the file system: %v, want %v", round, got, want)
			}
			if round == 1 {
				time.Sleep(time.Minute)
			}
		}
		close(stay)
		wg.Wait()
	})
}

// A file system that cannot sync as a whole has each file and folder synced.
func TestNoDevice(t *testing.T) {
	m := vfs.NewMem()
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncFS {
			t.Error("the whole file system is synced")
		}
		return nil
	})
	for i, o := range crowd(t.Context(), together(struct{ vfs.FS }{m}), 20) {
		if o.Result != postrider.ResultDelivered {
			t.Fatalf("message %d: %v", i, o.Reply)
		}
	}
	after := m.Crash(vfs.KeepNone)
	for i := range 20 {
		if got := contents(t, after, fmt.Sprintf("mail/%d", i)); len(got) != 1 {
			t.Errorf("box %d holds %d files after the power cut", i, len(got))
		}
	}
}

// On the disk of the machine, whatever it can sync.
func TestGroupOnDisk(t *testing.T) {
	box := filepath.Join(t.TempDir(), "bob")
	d := delivery(box, "bob@example.org", "eve@example.org", "cid@example.org")
	wantDelivered(t, together(vfs.OS()).Deliver(t.Context(), d))
	if got := contents(t, vfs.OS(), box); len(got) != 3 {
		t.Fatalf("%d files", len(got))
	}
	if left := read(t, vfs.OS(), box+"/tmp"); len(left) > 0 {
		t.Fatalf("left in tmp: %q", left)
	}
}

// BenchmarkDeliver is of messages of 4 KiB to 100 Maildirs, 128 deliveries at a time.
func BenchmarkDeliver(b *testing.B) {
	top := b.TempDir()
	text := strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 64)
	one := func(n int) *postrider.Delivery {
		d := delivery(fmt.Sprintf("%s/u%d", top, n%100), "bob@example.org")
		d.Message.ID = postrider.ID(fmt.Sprintf("%020d", n))
		d.Content.(*content).body = "Subject: x\r\n\r\n" + text
		return d
	}
	for _, fsys := range []struct {
		name string
		fs   vfs.FS
	}{{"one by one", struct{ vfs.FS }{vfs.OS()}}, {"in groups", vfs.OS()}} {
		b.Run(fsys.name, func(b *testing.B) {
			tr := transport(fsys.fs)
			for n := range 100 {
				tr.Deliver(b.Context(), one(n))
			}
			if err := os.RemoveAll(top); err != nil {
				b.Fatal(err)
			}
			tr = transport(fsys.fs)
			for n := range 100 {
				tr.Deliver(b.Context(), one(n))
			}
			var next atomic.Int64
			next.Store(100)
			b.SetBytes(int64(len(text)))
			b.SetParallelism(64)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if o := tr.Deliver(context.Background(), one(int(next.Add(1))))[0]; o.Result != postrider.ResultDelivered {
						b.Error(o.Reply)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
