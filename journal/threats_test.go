package journal

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A journal of another format is refused, with both named, and not cut off as if
// all of it were torn. Octets that are no format are torn, as ever, and one record
// whose magic has rotted does not make another format.
func TestOtherFormat(t *testing.T) {
	for _, c := range []struct {
		magic   string
		records int // that have it, of two
		refused bool
	}{{"PRJ2", 2, true}, {"PRJ0", 2, true}, {"PRJ\x00", 2, true}, {"\x00\x00\x00\x00", 2, false}, {"QRJ2", 2, false}, {"PRJ3", 1, false}} {
		fsys := vfs.NewMem()
		ev := postrider.Event{LSN: 1, Kind: postrider.EventAccepted, ID: "00000000000000000001"}
		b := newBench(t, fsys)
		if err := b.j.Run(context.Background(), batches([]postrider.Event{ev}, []postrider.Event{{LSN: 2, Kind: ev.Kind, ID: ev.ID}})); err != nil {
			t.Fatal(err)
		}
		if err := b.j.Close(); err != nil {
			t.Fatal(err)
		}
		name := ""
		list, err := fsys.ReadDir("data/journal")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if strings.HasSuffix(e.Name(), ".jnl") {
				name = "data/journal/" + e.Name()
			}
		}
		f, err := fsys.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := vfs.ReadFile(fsys, name)
		if n := strings.Count(string(raw), "PRJ1"); n != 2 {
			t.Fatal(n, err)
		}
		if _, err := f.WriteAt([]byte(strings.Replace(string(raw), "PRJ1", c.magic, c.records)), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		before, err := vfs.ReadFile(fsys, name)
		if err != nil || len(before) == 0 {
			t.Fatal(len(before), err)
		}
		for _, readOnly := range []bool{true, false} {
			j, err := Open(context.Background(), Options{FS: fsys, Dir: "data/journal", ReadOnly: readOnly})
			if err == nil {
				j.Close()
			}
			if (err != nil) != c.refused || err != nil && (!strings.Contains(err.Error(), `"PRJ1"`) || !strings.Contains(err.Error(), "PRJ")) {
				t.Errorf("%q, read only %v: %v", c.magic, readOnly, err)
			}
		}
		if after, err := vfs.ReadFile(fsys, name); err != nil || c.refused && string(after) != string(before) {
			t.Errorf("%q: %d octets became %d, %v", c.magic, len(before), len(after), err)
		}
	}
}
