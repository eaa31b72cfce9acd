package smtpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/smtp"
)

// cutAll cuts a content, and checks what holds of every chunk.
func cutAll(t *testing.T, r io.Reader, size int, text bool) (string, error) {
	t.Helper()
	k := cutter{r: r, size: size, text: text}
	var all strings.Builder
	for n := 0; ; n++ {
		chunk, last, err := k.next()
		if err != nil {
			return "", err
		}
		if len(chunk) > size+2 || !last && len(chunk) != size {
			t.Fatalf("chunk %d has %d octets, last %v", n, len(chunk), last)
		}
		all.Write(chunk)
		if last {
			return all.String(), nil
		}
	}
}

// A content that breaks off in the reader's own words is no shorter content: what the
// peer takes for whole we would forget.
func TestChunksOfTruncatedContent(t *testing.T) {
	for _, text := range []bool{false, true} {
		for size := 1; size < 8; size++ {
			for _, cause := range []error{io.ErrUnexpectedEOF, fmt.Errorf("read: %w", io.EOF)} {
				r := io.MultiReader(strings.NewReader("a\r\nb"), iotest.ErrReader(cause))
				if got, err := cutAll(t, r, size, text); !errors.Is(err, cause) {
					t.Errorf("in chunks of %d, text %v, after %v: %q, %v", size, text, cause, got, err)
				}
			}
		}
	}
}

func TestChunks(t *testing.T) {
	for _, c := range []struct {
		in   string
		text string // what goes out of a text
		err  error
	}{
		{"", "", nil},
		{"a\r\n", "a\r\n", nil},
		{"a", "a\r\n", nil},
		{"abcd", "abcd\r\n", nil},
		{"abc\r\n.\r\nd", "abc\r\n.\r\nd\r\n", nil},
		{"ab\r\n\r\n", "ab\r\n\r\n", nil},
		{"a\rb", "", smtp.ErrBareCR},
		{"abc\r", "", smtp.ErrBareCR},
		{"abc\r\r\n", "", smtp.ErrBareCR},
		{"\n", "", smtp.ErrBareLF},
		{"abcd\nefg", "", smtp.ErrBareLF},
		{"a\x00", "", smtp.ErrNUL},
	} {
		for size := 1; size < 12; size++ {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				if got, err := cutAll(t, r, size, true); !errors.Is(err, c.err) || err == nil && got != c.text {
					t.Errorf("%q as text in chunks of %d: %q, %v", c.in, size, got, err)
				}
			}
			if got, err := cutAll(t, strings.NewReader(c.in), size, false); err != nil || got != c.in {
				t.Errorf("%q as binary in chunks of %d: %q, %v", c.in, size, got, err)
			}
		}
	}
}

// FuzzChunks: a text goes in chunks as it goes by DATA, and is refused where that is.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("a\r\n.b\r\n"), 3)
	f.Add([]byte("a\rb\n\x00"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = 1 + (size&0xff)%64
		got, err := cutAll(t, bytes.NewReader(in), size, true)
		var wire bytes.Buffer
		w := smtp.NewDotWriter(&wire)
		_, werr := w.Write(in)
		if werr == nil {
			werr = w.Close()
		}
		if (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v in chunks, %v by DATA", in, err, werr)
		}
		if err != nil {
			return
		}
		want := strings.TrimSuffix(wire.String(), ".\r\n")
		var undone strings.Builder
		for line := range strings.SplitAfterSeq(want, "\r\n") {
			undone.WriteString(strings.TrimPrefix(line, "."))
		}
		if len(in) == 0 {
			return // by DATA it is ".", after which no line comes
		}
		if got != undone.String() {
			t.Fatalf("%q: %q in chunks, %q by DATA", in, got, undone.String())
		}
	})
}
