package maildir_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// halfDelivered returns a machine on which a file of bob's is in the box, whose name
// could be neither synced nor taken back: it goes with the power.
func halfDelivered(t *testing.T) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	other := delivery("box", "cid@example.org")
	other.Message.ID = "other"
	wantDelivered(t, transport(m).Deliver(t.Context(), other))
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir && op.Name == "box/new" || op.Kind == vfs.OpRemove && strings.HasPrefix(op.Name, "box/new/") {
			return syscall.EIO
		}
		return nil
	})
	if o := transport(m).Deliver(t.Context(), delivery("box", "bob@example.org"))[0]; o.Result != postrider.ResultDeferred {
		t.Fatalf("the first: %v", o.Result)
	}
	m.SetHook(nil)
	if n := len(contents(t, m, "box")); n != 2 || len(contents(t, m.Image(vfs.KeepNone), "box")) != 1 {
		t.Fatalf("%d files: the test has lost its sense", n)
	}
	return m
}

// A file that an earlier attempt has left counts as delivered when its name has been
// made anew and synced. Where either fails, its recipient is put off with the others of
// the attempt, and the mail comes again.
func TestFoundAndNotMadeDurable(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails vfs.OpKind
		err   error
		to    []string
		carl  postrider.Result // of one whose file is not there yet
	}{
		{"the sync of the folder, with a new letter", vfs.OpSyncDir, syscall.EIO, []string{"bob@example.org", "carl@example.org"}, postrider.ResultDeferred},
		{"the sync of the folder, alone", vfs.OpSyncDir, syscall.EIO, []string{"bob@example.org"}, 0},
		{"the renaming", vfs.OpRename, syscall.EIO, []string{"bob@example.org", "carl@example.org"}, postrider.ResultDelivered},
		{"the renaming, on a full disk", vfs.OpRename, syscall.ENOSPC, []string{"bob@example.org"}, 0},
		{"the renaming, over a quota", vfs.OpRename, syscall.EDQUOT, []string{"bob@example.org"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := halfDelivered(t)
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == c.fails && strings.HasPrefix(op.Name, "box/new") {
					return c.err
				}
				return nil
			})
			tr, d := transport(m), delivery("box", c.to...)
			d.Again = true
			outcomes := tr.Deliver(t.Context(), d)
			if o := outcomes[0]; o.Result != postrider.ResultDeferred {
				t.Errorf("who had a file: %v", o.Result)
			}
			if len(outcomes) > 1 && outcomes[1].Result != c.carl {
				t.Errorf("who had none: %v, want %v", outcomes[1].Result, c.carl)
			}
			m.SetHook(nil)
			left := contents(t, m.Image(vfs.KeepNone), "box")
			for k, o := range outcomes {
				if o.Result == postrider.ResultDelivered && !slices.Contains(left, want(c.to[k])) {
					t.Errorf("%s was told delivered, and is lost", c.to[k])
				}
			}
			wantDelivered(t, tr.Deliver(t.Context(), d))
			if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 1+len(c.to) {
				t.Errorf("%d files after it came again and the power cut", len(got))
			}
		})
	}
}

// Who shares a sync of the whole file system hears of the sync of his folder alone that
// failed for another meanwhile, and took his names with it.
func TestGroupBesideAFailedFolder(t *testing.T) {
	m := vfs.NewMem()
	tr := transport(m)
	other := delivery("box", "eve@example.org")
	other.Message.ID = "other"
	wantDelivered(t, tr.Deliver(t.Context(), other))
	whole, alone := 0, []postrider.Outcome(nil)
	m.SetHook(func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpSyncFS:
			if whole++; whole == 2 { // the names are there
				d := delivery("box", "fay@example.org")
				d.Message.ID = "alone"
				alone = tr.Deliver(t.Context(), d)
			}
		case vfs.OpSyncDir:
			return syscall.EIO
		}
		return nil
	})
	to := []string{"bob@example.org", "carl@example.org", "dora@example.org"}
	outcomes := tr.Deliver(t.Context(), delivery("box", to...))
	if whole != 2 || len(alone) != 1 || alone[0].Result != postrider.ResultDeferred {
		t.Fatalf("%d syncs of all, and %+v: the test has lost its sense", whole, alone)
	}
	got := contents(t, m.Crash(vfs.KeepNone), "box")
	for k, o := range outcomes {
		if o.Result == postrider.ResultDelivered && !slices.Contains(got, want(to[k])) {
			t.Errorf("%s was told delivered, and is lost", to[k])
		}
		if o.Result == postrider.ResultFailed {
			t.Errorf("%s: failed for ever", to[k])
		}
	}
}

// Two recipients of one address are in two hands, and the second begins while the first
// is about to bring its file into new: what is told delivered is whole, and durable.
func TestTwoHandsWriteAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		tr := transport(m)
		other := delivery("box", "cid@example.org")
		other.Message.ID = "other"
		wantDelivered(t, tr.Deliver(t.Context(), other))
		hand := func(rcpt int) *postrider.Delivery {
			d := delivery("box", "bob@example.org", "bob@example.org")
			d.Rcpts = []int{rcpt}
			return d
		}
		stop, second := make(chan struct{}), make(chan postrider.Outcome, 1)
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpLink {
				m.SetHook(nil)
				go func() { // which comes to half of the message, and no further
					d := hand(1)
					c := d.Content.(*content)
					c.fail, c.wait = syscall.EIO, stop
					second <- tr.Deliver(t.Context(), d)[0]
				}()
				synctest.Wait()
			}
			return nil
		})
		wantDelivered(t, tr.Deliver(t.Context(), hand(0)))
		if got := contents(t, m.Image(vfs.KeepNone), "box"); len(got) != 2 || !slices.Contains(got, want("bob@example.org")) {
			t.Errorf("told delivered, and after a power cut the box holds %q", got)
		}
		close(stop)
		if o := <-second; o.Result != postrider.ResultDeferred {
			t.Errorf("the second: %v", o.Result)
		}
		again := hand(1)
		again.Again = true
		wantDelivered(t, tr.Deliver(t.Context(), again))
		if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 2 || !slices.Contains(got, want("bob@example.org")) {
			t.Errorf("after both, and a power cut, the box holds %q", got)
		}
	})
}
