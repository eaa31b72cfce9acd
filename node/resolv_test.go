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
	begin := time.Now().Add(-time.Hour)
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
			if at := begin.Add(time.Duration(i) * time.Second); os.Chtimes(c.file, at, at) != nil {
				t.Fatal("no time")
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
