package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestResolvConfChanges: the name servers of the system are known as soon as it knows
// them itself, and not only to those who start after that.
func TestResolvConfChanges(t *testing.T) {
	c := &resolvConf{file: filepath.Join(t.TempDir(), "resolv.conf")}
	local := []string{"127.0.0.1:53"}
	for i, step := range []struct {
		text string // empty: there is no file
		soon bool   // the file was looked at just now
		want []string
	}{
		{"", false, local},
		{"nameserver 192.0.2.1\n", true, local},
		{"nameserver 192.0.2.1\n", false, []string{"192.0.2.1:53"}},
		{"nameserver 192.0.2.2\n", true, []string{"192.0.2.1:53"}},
		{"nameserver 192.0.2.2\n", false, []string{"192.0.2.2:53"}},
		{"nameserver 192.0.2.3\nnameserver 2001:db8::1\n", false, []string{"192.0.2.3:53", "[2001:db8::1]:53"}},
		{"search example.org\n", false, local},
		{"nameserver 192.0.2.3\n", false, []string{"192.0.2.3:53"}},
		{"", false, local},
	} {
		os.Remove(c.file)
		if step.text != "" {
			if err := os.WriteFile(c.file, []byte(step.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !step.soon {
			c.looked = time.Time{}
		}
		if got := c.servers(); !slices.Equal(got, step.want) {
			t.Errorf("%d: %q, want %q", i, got, step.want)
		}
	}
}

// A file that is there and cannot be read for a moment, as where no more files may be
// open, changes nothing; and it is read when it can be.
func TestResolvConfUnreadable(t *testing.T) {
	dir := t.TempDir()
	c := &resolvConf{file: filepath.Join(dir, "resolv.conf")}
	write := func(text string) {
		if err := os.WriteFile(c.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(servers ...string) {
		t.Helper()
		c.looked = time.Time{}
		if got := c.servers(); !slices.Equal(got, servers) {
			t.Errorf("%q, want %q", got, servers)
		}
	}
	write("nameserver 192.0.2.1\n")
	want("192.0.2.1:53")
	readable := c.file
	c.file = filepath.Join(readable, "below a file") // ENOTDIR, and not "does not exist"
	want("192.0.2.1:53")
	c.file = readable
	write("nameserver 192.0.2.22\n")
	want("192.0.2.22:53")
	c.looking.Lock() // somebody reads it
	want("192.0.2.22:53")
	c.looking.Unlock()
	unread := &resolvConf{file: filepath.Join(readable, "below a file")}
	if got := unread.servers(); !slices.Equal(got, []string{"127.0.0.1:53"}) {
		t.Errorf("at the first look: %q", got)
	}
}
