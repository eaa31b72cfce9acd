package account

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// When an account was made stands in its line, through another password, and is
// another time when it is made again; lines of before have none, and stay as they are.
func TestSince(t *testing.T) {
	fs := vfs.NewMem()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	open := func() *Store {
		s, err := Open(fs, "accounts", Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice, bob := smtp.Path{Local: "Alice", Domain: "x.example"}, smtp.Path{Local: "bob", Domain: "x.example"}
	s := open()
	made := now
	if err := s.Add("alice@x.example", "open sesame", "*@lists.example"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if err := s.SetPassword("alice@x.example", "another one"); err != nil {
		t.Fatal(err)
	}
	if got := open().Since(alice); !got.Equal(made) {
		t.Errorf("made at %v, read %v", made, got)
	}
	if got := s.Since(bob); !got.IsZero() {
		t.Errorf("nobody is there since %v", got)
	}
	if err := s.Remove("alice@x.example"); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice@x.example", "open sesame"); err != nil {
		t.Fatal(err)
	}
	if got := open().Since(alice); !got.Equal(now) {
		t.Errorf("made again at %v, read %v", now, got)
	}

	text, err := vfs.ReadFile(fs, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	var line string
	for l := range strings.Lines(string(text)) {
		if strings.HasPrefix(l, "alice@") {
			line = strings.TrimSuffix(l, "\n")
		}
	}
	before := strings.TrimSuffix(line, ":2026-11-22T11:00:00Z")
	if before == line {
		t.Fatalf("no time in %q", line)
	}
	for text, ok := range map[string]bool{
		before: true, line: true, line + ":": false, before + ":": false, before + ":yesterday": false,
		strings.Join(strings.SplitN(before, ":", 4)[:2], ":") + ":::2026-11-22T11:00:00Z": true,
		strings.Join(strings.SplitN(before, ":", 4)[:2], ":") + "::":                      false,
	} {
		e, err := parseEntry(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if ok && e.String() != text {
			t.Errorf("%q becomes %q", text, e.String())
		}
	}
}
