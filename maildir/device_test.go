package maildir_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// An oddDisk takes its time to open a file system, which may come to be another one.
type oddDisk struct {
	counted
	slow    time.Duration
	another bool
}

func (d oddDisk) OpenDevice(dir string) (vfs.Device, error) {
	dev, err := d.counted.OpenDevice(dir)
	time.Sleep(d.slow)
	if err == nil && d.another {
		dev = anotherDevice{dev}
	}
	return dev, err
}

type anotherDevice struct{ vfs.Device }

func (d anotherDevice) Number() uint64 { return d.Device.Number() + 1 }

// Several open a file system at the same moment, and one of them is first: nothing stays
// open of the others. All deliver.
func TestVolumeIsOpenedBySeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		m := vfs.NewMem()
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncFS {
				return time.Minute // so that all are there at the same time
			}
			return 0
		})
		tr := transport(oddDisk{counted: counted{m, &open}, slow: time.Second})
		for _, o := range crowd(t.Context(), tr, 5) {
			if o.Result != postrider.ResultDelivered {
				t.Error(o.Reply)
			}
		}
		if n := open.Load(); n != 0 {
			t.Errorf("%d are open", n)
		}
	})
}

// Another file system comes to lie over a folder while mail is delivered there. It is not
// delivered, as nobody knows what a sync would be of; and nothing stays open, so that what
// is there can be unmounted.
func TestFolderOnAnotherVolume(t *testing.T) {
	var open atomic.Int64
	m := vfs.NewMem()
	tr := transport(oddDisk{counted: counted{m, &open}, another: true})
	if o := tr.Deliver(t.Context(), delivery("box", "bob@example.org"))[0]; o.Result != postrider.ResultDeferred {
		t.Errorf("%v", o.Result)
	}
	if n := open.Load(); n != 0 || m.Opened() != 0 {
		t.Errorf("%d devices and %d files are open", n, m.Opened())
	}
	if got := len(contents(t, m, "box")) + len(read(t, m, "box/tmp")); got != 0 {
		t.Errorf("%d files are left", got)
	}
}
