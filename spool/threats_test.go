package spool

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// A spool of another format is refused, with both formats named, and not an octet
// of it is touched: the program that wrote it finds all of its mail.
func TestOtherFormat(t *testing.T) {
	for _, version := range []uint32{0, segmentVersion + 1, 1 << 31} {
		fsys := vfs.NewMem()
		b := newBench(t, fsys)
		id := b.add([]byte("mail"), "a@x.example")
		b.s.Close(context.Background())
		name := "data/spool/seg/0000000001.seg"
		raw, err := vfs.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		write := func(version uint32) {
			binary.LittleEndian.PutUint32(raw[8:], version)
			binary.LittleEndian.PutUint32(raw[40:], checksum(raw[:40]))
			f, err := fsys.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(raw[:segmentHeaderLen], 0); err != nil {
				t.Fatal(err)
			}
		}
		write(version)
		before := listing(t, fsys)
		s, err := Open(context.Background(), testOptions(fsys))
		if err == nil {
			s.Close(context.Background())
			t.Fatalf("format %d was opened", version)
		}
		if text := err.Error(); !strings.Contains(text, fmt.Sprintf("format %d,", version)) || !strings.Contains(text, fmt.Sprintf("format %d:", segmentVersion)) {
			t.Errorf("the error is %q", err)
		}
		if after := listing(t, fsys); after != before {
			t.Errorf("before:\n%safter:\n%s", before, after)
		}
		write(segmentVersion)
		b.open()
		if _, err := b.s.Open(context.Background(), id); err != nil {
			t.Error(err)
		}
		b.s.Close(context.Background())
	}
}

// listing is every file of the spool with a checksum of its octets, the lock left out.
func listing(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	var all strings.Builder
	var walk func(dir string)
	walk = func(dir string) {
		list, err := fsys.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			name := dir + "/" + e.Name()
			if e.IsDir() {
				walk(name)
				continue
			}
			raw, err := vfs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "%s %d %08x\n", name, len(raw), checksum(raw))
		}
	}
	walk("data/spool")
	return all.String()
}
