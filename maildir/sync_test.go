package maildir_test

import (
	"context"
	"fmt"
	"io/fs"
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

// Two messages come into one Maildir at once, and the sync of one fails: the name
// of the other may be lost with it, though its own sync comes back.
func TestFailedSyncIsOfAll(t *testing.T) {
	late := 0
	for wait := range 12 {
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			tr := transport(m)
			first := delivery("box", "bob@example.org")
			first.Message.ID = "first"
			wantDelivered(t, tr.Deliver(t.Context(), first))
			var failed atomic.Bool
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "box/tmp/") {
					time.Sleep(3 * time.Millisecond) // between the name and its sync
				}
				if op.Kind == vfs.OpSyncDir && op.Name == "box/new" {
					time.Sleep(5 * time.Millisecond)
					if failed.CompareAndSwap(false, true) {
						return syscall.EIO
					}
				}
				return nil
			})
			to := []string{"carl@example.org", "dora@example.org"}
			var outcomes [2]postrider.Outcome
			var wg sync.WaitGroup
			for i := range to {
				wg.Go(func() {
					time.Sleep(time.Duration(i*wait) * time.Millisecond)
					outcomes[i] = tr.Deliver(context.Background(), delivery("box", to[i]))[0]
				})
			}
			wg.Wait()
			got := contents(t, m.Crash(vfs.KeepNone), "box")
			for i, o := range outcomes {
				if o.Result != postrider.ResultDelivered {
					late++
				} else if !slices.Contains(got, want(to[i])) {
					t.Errorf("after %d ms: %s was told delivered, and is lost", wait, to[i])
				}
			}
			if len(got) == 0 {
				t.Error("what was delivered before is lost")
			}
		})
	}
	if late < 12 || late == 24 {
		t.Errorf("%d of 24 were put off: the test has lost its sense", late)
	}
}

// A name whose sync has failed, and which could not be taken back, because the
// disk did not let it, the process died, or the owner had moved it, is not
// durable, though a later sync succeeds: the name is made again.
func TestNotTakenBack(t *testing.T) {
	for _, how := range []string{"not removed", "killed", "moved"} {
		t.Run(how, func(t *testing.T) {
			m := vfs.NewMem()
			tr := transport(m)
			other := delivery("box", "cid@example.org")
			other.Message.ID = "other"
			wantDelivered(t, tr.Deliver(t.Context(), other))
			m.SetHook(func(op vfs.Op) error {
				switch {
				case op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "box/tmp/") && how == "moved":
					for name := range read(t, m, "box/new") {
						if !strings.Contains(name, "other") {
							if err := m.Rename("box/new/"+name, "box/cur/"+name+":2,S"); err != nil {
								t.Error(err)
							}
						}
					}
				case op.Kind == vfs.OpSyncDir:
					return syscall.EIO
				case op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "box/new/"):
					if how == "killed" {
						return vfs.ErrCrash
					}
					return syscall.EIO
				}
				return nil
			})
			d := delivery("box", "bob@example.org")
			if o := tr.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDeferred {
				t.Fatalf("the first: %v", o.Result)
			}
			m.SetHook(nil)
			if how == "killed" {
				m = m.Kill()
				tr = transport(m)
			}
			if n := len(contents(t, m, "box")); n != 2 {
				t.Fatalf("%d files: the test has lost its sense", n)
			}
			d.Again = true
			wantDelivered(t, tr.Deliver(t.Context(), d))
			names := fmt.Sprint(read(t, m, "box/cur"))
			if how == "moved" != strings.Contains(names, ".mx.example.org:2,S:") {
				t.Errorf("in cur: %s", names)
			}
			wantDelivered(t, tr.Deliver(t.Context(), d)) // and nobody has written that down
			if names := fmt.Sprint(read(t, m, "box/new")); (how != "moved") != strings.Contains(names, ".2.mx.example.org:") {
				t.Errorf("in new: %s", names)
			}
			if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 2 || !slices.Contains(got, want("bob@example.org")) {
				t.Errorf("%d files after the power cut", len(got))
			}
		})
	}
}

// Two recipients of one address are in two hands. One could not sync the name and
// is about to take it back; the other does not believe in it meanwhile.
func TestTakenBackUnderAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		tr := transport(m)
		other := delivery("box", "cid@example.org")
		other.Message.ID = "other"
		wantDelivered(t, tr.Deliver(t.Context(), other))
		var failed atomic.Bool
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		})
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "box/new/") {
				return time.Minute
			}
			return 0
		})
		hand := func(rcpt int) *postrider.Delivery {
			d := delivery("box", "bob@example.org", "bob@example.org")
			d.Rcpts = []int{rcpt}
			return d
		}
		first := make(chan []postrider.Outcome)
		go func() { first <- tr.Deliver(t.Context(), hand(0)) }()
		synctest.Wait()
		wantDelivered(t, tr.Deliver(t.Context(), hand(1)))
		if o := (<-first)[0]; o.Result != postrider.ResultDeferred {
			t.Errorf("the first: %v", o.Result)
		}
		if got := contents(t, m.Image(vfs.KeepNone), "box"); len(got) != 2 {
			t.Errorf("%d files after a power cut", len(got))
		}
		again := hand(0)
		again.Again = true
		wantDelivered(t, tr.Deliver(t.Context(), again))
		if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 2 {
			t.Errorf("%d files after the power cut", len(got))
		}
	})
}

// Who puts a file in the place of one that another has just taken back, and cannot sync
// its name, takes it back as well: the owner would have it twice else.
func TestTakenBackAfterAnother(t *testing.T) {
	m := vfs.NewMem()
	tr := transport(m)
	other := delivery("box", "cid@example.org")
	other.Message.ID = "other"
	wantDelivered(t, tr.Deliver(t.Context(), other))
	linked, failed := false, false
	m.SetHook(func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpLink && !linked: // the name of another, who is gone when it is looked at
			linked = true
			return fs.ErrExist
		case op.Kind == vfs.OpSyncDir && !failed:
			failed = true
			return syscall.EIO
		}
		return nil
	})
	d := delivery("box", "bob@example.org")
	if o := tr.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDeferred || !linked || !failed {
		t.Fatalf("%v, linked %v, failed %v", o.Result, linked, failed)
	}
	if names := read(t, m, "box/new"); len(names) != 1 {
		t.Errorf("in new: %v", names)
	}
	wantDelivered(t, tr.Deliver(t.Context(), d))
	if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 2 {
		t.Errorf("%d files after the power cut", len(got))
	}
}

// A folder that could neither be synced nor taken back is made again.
func TestFolderNotTakenBack(t *testing.T) {
	for _, bad := range []string{".", "mail", "mail/box"} {
		m := vfs.NewMem()
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && op.Name == bad || op.Kind == vfs.OpRemove {
				return syscall.EIO
			}
			return nil
		})
		tr := transport(m)
		for range 2 {
			if o := tr.Deliver(t.Context(), delivery("mail/box", "bob@example.org"))[0]; o.Result != postrider.ResultDeferred {
				t.Fatalf("%s: %v", bad, o.Result)
			}
		}
		m.SetHook(nil)
		wantDelivered(t, tr.Deliver(t.Context(), delivery("mail/box", "bob@example.org")))
		if got := contents(t, m.Crash(vfs.KeepNone), "mail/box"); len(got) != 1 {
			t.Errorf("%s: %d files after the power cut", bad, len(got))
		}
	}
}
