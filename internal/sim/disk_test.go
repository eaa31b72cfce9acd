package sim

import (
	"testing"

	"github.com/postrider/postrider/vfs"
)

// A bit turns only where the log itself says that it was durable: what was written
// before the last sync but one.
func TestProven(t *testing.T) {
	const six, seven = segments + "/0000000006.seg", segments + "/0000000007.seg"
	write := func(name string, off int64) vfs.Op { return vfs.Op{Kind: vfs.OpWrite, Name: name, Off: off} }
	sync := func(name string) vfs.Op { return vfs.Op{Kind: vfs.OpSync, Name: name} }
	for _, c := range []struct {
		what       string
		ops        []vfs.Op
		six, seven int64
	}{
		{"nothing was written since the start of the world", nil, 1000, 1000},
		{"the last sync covers two writes", []vfs.Op{write(six, 64), sync(six), write(six, 100), write(six, 200), sync(six)}, 100, 1000},
		{"a write that no sync covers may be lost, and with it the proof of the one before", []vfs.Op{write(six, 64), sync(six), write(six, 100), sync(six), write(six, 200)}, 100, 1000},
		{"a recovery writes again, and syncs twice", []vfs.Op{write(six, 64), sync(six), write(six, 100), sync(six), write(six, 100), sync(six), sync(six)}, 100, 1000},
		{"the header of the next segment proves the last group", []vfs.Op{write(six, 64), sync(six), write(seven, 0), sync(seven)}, 1000, 0},
		{"which is not durable yet", []vfs.Op{write(six, 64), sync(six), write(seven, 0)}, 64, 0},
		{"other files do not count", []vfs.Op{write(six, 64), write("/mail/x", 0), sync("/mail/x"), write(six, 100)}, 64, 1000},
	} {
		f := &diskFaults{}
		for _, op := range c.ops {
			f.see(op)
		}
		if got := f.provenTo(six, 1000); got != c.six {
			t.Errorf("%s: segment 6 is proven to %d, want %d", c.what, got, c.six)
		}
		if got := f.provenTo(seven, 1000); got != c.seven {
			t.Errorf("%s: segment 7 is proven to %d, want %d", c.what, got, c.seven)
		}
	}
}
