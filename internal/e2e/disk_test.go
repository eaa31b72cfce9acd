package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of its own over a folder, until the test ends.
func smallDisk(t *testing.T, dir, options string) {
	t.Helper()
	if os.Getuid() != 0 {
		miss(t, "only root may mount a file system")
	}
	need(t, "mount", "umount")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, status := output(t, t.TempDir(), "mount", "-t", "tmpfs", "-o", options, "postrider-test", dir); status != 0 {
		miss(t, "no file system can be mounted here: %s", out)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// fill takes what is left of a disk, octets or names, and returns what gives it
// back.
func fill(t *testing.T, dir string, inodes bool) (free func()) {
	t.Helper()
	dir = filepath.Join(dir, "ballast")
	if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	var err error
	if inodes {
		for i := 0; err == nil; i++ {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
		}
	} else {
		var f *os.File
		if f, err = os.Create(filepath.Join(dir, "octets")); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1 << 20, 4096, 1} {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
		f.Close()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	return func() { os.RemoveAll(dir) }
}

// A disk filled to its last octet, or its last name, under load: clients are told
// to come back, the process lives, and with room again it takes mail at once.
// Nothing that was acknowledged is lost.
func TestDiskFull(t *testing.T) {
	for _, inodes := range []bool{false, true} {
		kind := map[bool]string{false: "octets", true: "names"}[inodes]
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			p := w.peer("mx.b.example")
			w.zone.MX("b.example", 10, "mx.b.example")
			a := newServer(t, "a.example", w.relay()+"limits { min_free = \"1KiB\" }\n")
			smallDisk(t, filepath.Join(a.dir, "data"), "size=64m,nr_inodes=2000")
			a.start()
			l := &ledger{acked: map[string]bool{}}
			stop := make(chan struct{})
			var all sync.WaitGroup
			for i := range loaders {
				all.Go(func() { l.load(a.addr(), i, stop) })
			}
			for range full(3, 1) {
				before := l.promised()
				eventually(t, says("no message was accepted"), func() bool { return l.promised() > before+20 })
				free := fill(t, filepath.Join(a.dir, "data"), inodes)
				refused(t, a)
				a.empty() // what was taken goes out, on a full disk too
				full := l.begun()
				eventually(t, says("the clients do not come back"), func() bool { return l.begun() > full+100 })
				free()
				began, before := time.Now(), l.promised()
				eventually(t, says("no message is accepted with room again"), func() bool { return l.promised() > before })
				t.Logf("service is back after %v", time.Since(began).Round(time.Millisecond))
			}
			close(stop)
			all.Wait()
			a.empty()
			a.stop()
			var far [][]byte
			for _, d := range p.taken() {
				far = append(far, d.body)
			}
			l.check(t, "the next hop", far)
			if n := l.check(t, "the mailbox", a.maildir("a.example", "local")); n > 0 {
				t.Errorf("the mailbox holds %d messages twice", n)
			}
		})
	}
}

// begun returns how many transactions were begun.
func (l *ledger) begun() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// refused wants a message refused for a time, and the reply with status 4.
func refused(t *testing.T, s *server) {
	t.Helper()
	var r reply
	var err error
	eventually(t, func() string { return fmt.Sprintf("with a full disk mail is answered %v, %v", r, err) }, func() bool {
		r, err = submit(s.addr(), mail{"s@a.example", []string{"probe@a.example"}, message("probe", 100_000)})
		if r.code >= 500 {
			t.Errorf("a full disk is no permanent failure: %v", r)
		}
		return err != nil && r.code/100 == 4
	})
}
