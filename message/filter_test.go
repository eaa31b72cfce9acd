package message

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// filtered returns what a Filter makes of writes.
func filtered(t *testing.T, writes ...string) string {
	t.Helper()
	var out bytes.Buffer
	f := NewFilter(&out, "Bcc", "resent-bcc")
	for _, w := range writes {
		if n, err := io.WriteString(f, w); n != len(w) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFilter(t *testing.T) {
	long := strings.Repeat("n", 5000)
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"no such field", "To: a\r\n b\r\n\r\nBcc: c\r\n", "To: a\r\n b\r\n\r\nBcc: c\r\n"},
		{"first", "Bcc: a\r\nTo: b\r\n\r\nx", "To: b\r\n\r\nx"},
		{"last", "To: b\r\nBcc: a\r\n\r\nx", "To: b\r\n\r\nx"},
		{"only", "bcc: a\r\n\r\nx", "\r\nx"},
		{"all of several", "Bcc: a\r\nTo: b\r\nBCC: c\r\nResent-Bcc: d\r\n\r\n", "To: b\r\n\r\n"},
		{"folded", "Bcc: a,\r\n\tb,\r\n \r\n c\r\nTo: d\r\n e\r\n\r\n", "To: d\r\n e\r\n\r\n"},
		{"empty", "Bcc:\r\nTo: b\r\n\r\n", "To: b\r\n\r\n"},
		{"white space before the colon", "Bcc \t : a\r\nTo: b\r\n\r\n", "To: b\r\n\r\n"},
		{"other names", "Bccc: a\r\nBc: b\r\nX-Bcc: c\r\n\r\n", "Bccc: a\r\nBc: b\r\nX-Bcc: c\r\n\r\n"},
		{"bare LF", "Bcc: a\n b\nTo: b\n\nBcc: c\n", "To: b\n\nBcc: c\n"},
		{"in a continuation", "To: a\r\n Bcc: b\r\n\r\n", "To: a\r\n Bcc: b\r\n\r\n"},
		{"body begins without an empty line", "Bcc: a\r\nhello world\r\nBcc: b\r\n", "hello world\r\nBcc: b\r\n"},
		{"two words before the colon", "A b: c\r\nBcc: d\r\n", "A b: c\r\nBcc: d\r\n"},
		{"only a body", "hello\r\nBcc: b\r\n", "hello\r\nBcc: b\r\n"},
		{"blank first", " x\r\nBcc: b\r\n", " x\r\nBcc: b\r\n"},
		{"cut in the name", "To: a\r\nBc", "To: a\r\nBc"},
		{"cut in the value", "To: a\r\nBcc: b", "To: a\r\n"},
		{"8 bit and NUL", "Bcc: \xff\x00\r\nA: \xff\x00\r\n\r\n\x00", "A: \xff\x00\r\n\r\n\x00"},
		{"a long name", long + ": x\r\nBcc: a\r\n\r\n", long + ": x\r\n\r\n"},
		{"a long line that is no field", long + "\r\nBcc: a\r\n", long + "\r\nBcc: a\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := filtered(t, tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := filtered(t, strings.Split(tt.in, "")...); got != tt.want {
				t.Errorf("octet by octet %q, want %q", got, tt.want)
			}
		})
	}
}

// RFC 5322 3.6.3: "the "Bcc:" line is removed", however long its lines are and however
// they come; and of a field that stays nothing is.
func TestFilterOfLongLines(t *testing.T) {
	for _, width := range []int{1, 78, 899, 900, 901, LineMax - 1, LineMax, LineMax + 1, 4095, 4096, 4097, 32 << 10, 64<<10 + 1} {
		list := strings.Repeat("b", width)
		before, after := "To: a\r\n", "Cc: "+list+"\r\n\t"+list+"\r\n\r\nBcc: "+list+"\r\n"
		in := before + "Bcc: " + list + "\r\n " + list + "\r\n\t" + list + "\r\n" + after
		for _, size := range []int{1, 7, 512, 4096, 32 << 10, len(in)} {
			if size*10_000 < len(in) {
				continue // it takes long, and says no more
			}
			var writes []string
			for piece := range slices.Chunk([]byte(in), size) {
				writes = append(writes, string(piece))
			}
			if got := filtered(t, writes...); got != before+after {
				t.Errorf("lines of %d octets in writes of %d: %d octets are left, want %d", width, size, len(got), len(before+after))
			}
		}
	}
}

// What is kept back is bounded, whatever comes.
func TestFilterIsBounded(t *testing.T) {
	f := NewFilter(io.Discard, "Bcc")
	io.WriteString(f, "Bcc")
	for range 10_000 {
		io.WriteString(f, strings.Repeat(" ", 100))
	}
	if len(f.held) > heldMax || cap(f.held) > 4*heldMax {
		t.Errorf("%d octets are held", cap(f.held))
	}
}

func TestFilterPassesErrors(t *testing.T) {
	boom := errors.New("boom")
	for _, in := range []string{"To: b\r\n", "\r\nbody", "B"} {
		f := NewFilter(errWriter{boom}, "Bcc")
		_, err := io.WriteString(f, in)
		if err == nil {
			err = f.Flush()
		}
		if !errors.Is(err, boom) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

// However the octets are cut, the same comes out, and it is the input without the
// lines of the dropped fields.
func FuzzFilter(f *testing.F) {
	f.Add([]byte("To: a\r\nBcc: a,\r\n b\r\nResent-BCC : c\r\n\r\nBcc: x\r\n"), uint(9))
	f.Add([]byte("Bcc"), uint(1))
	f.Add([]byte("Bcc: a\n\rBcc: b"), uint(7))
	f.Add([]byte("A:\r\r\n\tBcc:\r\r\n"), uint(2))
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		at := int(cut % uint(len(in)+1))
		whole := filtered(t, string(in))
		if two := filtered(t, string(in[:at]), string(in[at:])); two != whole {
			t.Fatalf("cut at %d: %q and %q", at, two, whole)
		}
		if all := filtered(t, strings.Split(string(in), "")...); all != whole {
			t.Fatalf("%q and %q", all, whole)
		}
		if len(in) > heldMax {
			return // a name that is too long to be looked at
		}
		if want := plainFilter(in); whole != string(want) {
			t.Fatalf("%q becomes %q, want %q", in, whole, want)
		}
	})
}

// plainFilter drops the fields line by line: the same answer in a slower way.
func plainFilter(in []byte) []byte {
	header, _ := plainHeader(in)
	var out []byte
	dropping := false
	for _, line := range bytes.SplitAfter(header, []byte("\n")) {
		if len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			dropping = slices.Contains([]string{"bcc", "resent-bcc"}, strings.ToLower(string(bytes.TrimRight(name, " \t"))))
		}
		if !dropping {
			out = append(out, line...)
		}
	}
	return append(out, in[len(header):]...)
}

func TestMessageID(t *testing.T) {
	for _, tt := range []struct {
		in, id       string
		hasID, hasDt bool
	}{
		{"Message-ID: <a@b>\r\nDate: x\r\n\r\n", "a@b", true, true},
		{"message-id :\r\n\t<a@\r\n b>\r\n (c) <d>\r\n\r\n", "a@b", true, false},
		{"Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n", "a@b", true, false},
		{"Message-ID: a@b \r\n\r\n", "a@b", true, false},
		{"Message-ID: <a@b", "a@b", true, false},
		{"Message-ID: <a@b\r\nSubject: c>\r\n\r\n", "a@b", true, false},
		{"Message-ID:\r\nMessage-ID: <c@d>\r\n\r\n", "", true, false},
		{"Message-ID: <a\x00\xff\u0085@b>\r\n\r\n", "a?@b", true, false},
		{"Subject: Message-ID: <a@b>\r\n Message-ID: <c>\r\n\r\nMessage-ID: <a@b>\r\nDate: x\r\n", "", false, false},
		{"Message-IDs: <a@b>\r\nMessage-I: <a@b>\r\nDates: x\r\nDat: x\r\n\r\n", "", false, false},
		{"Message-ID: <" + strings.Repeat("x", 900) + "\r\n " + strings.Repeat("y", 900) + ">\r\n\r\n", strings.Repeat("x", 900) + strings.Repeat("y", 96), true, false},
		{"Message-ID: <" + strings.Repeat("x", 5000) + "@y>\r\nDATE: x\r\n\r\n", strings.Repeat("x", 996), true, true},
	} {
		for _, pieces := range [][]string{{tt.in}, strings.Split(tt.in, "")} {
			var s Scanner
			for _, p := range pieces {
				io.WriteString(&s, p)
			}
			if s.MessageID() != tt.id || s.HasMessageID() != tt.hasID || s.HasDate() != tt.hasDt {
				t.Errorf("%.60q: %q %v %v", tt.in, s.MessageID(), s.HasMessageID(), s.HasDate())
			}
		}
	}
}

// A body that begins with a blank, a space or a tab, would go on with the field that is put in
// front of it (RFC 5322 2.2.3).
func TestIndented(t *testing.T) {
	for in, want := range map[string]bool{" x\r\n": true, "\tx\r\n": true, "x\r\n": false, "\r\n x\r\n": false, "A: b\r\n c\r\n": false, "\n\tx": false, "": false} {
		var s Scanner
		io.WriteString(&s, in)
		if s.Indented() != want {
			t.Errorf("%q: %v", in, s.Indented())
		}
	}
}

func TestNoHeader(t *testing.T) {
	for in, want := range map[string]bool{"": false, "hello\r\n": true, " x\r\n": true, "hello world\r\n": true, "\r\nx\r\n": false, "\nx": false,
		"A: b\r\n": false, "A: b\r\nhello\r\n": false, "\xff: b\r\n": true, ": b\r\n": true, "A b: c\r\n": true} {
		for _, pieces := range [][]string{{in}, strings.Split(in, "")} {
			var s Scanner
			for _, p := range pieces {
				io.WriteString(&s, p)
			}
			if s.NoHeader() != want {
				t.Errorf("%q: %v", in, s.NoHeader())
			}
		}
	}
}
