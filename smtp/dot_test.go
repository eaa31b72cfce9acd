package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// endings are what has been taken for the end of the data by one server or
// another, and never is.
var endings = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r.\n", "\n.\r", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n",
	"\r\n.\r\r\n", "\r\r\n.\r\r\n", "\n\r.\r\n", "\r\n.\n\r", "\r\n.\r\x00\n",
	".\n", ".\r", "\n.\r\n", ".\r\r\n", ".\x00\r\n", "\x00.\r\n",
}

func TestDotReader(t *testing.T) {
	x := strings.Repeat
	for _, c := range []struct {
		in   string
		want string
		rest string
		err  error
	}{
		{in: ".\r\nNOOP", rest: "NOOP"}, // "the no mail data case"
		{in: "a\r\n.\r\nNOOP", want: "a\r\n", rest: "NOOP"},
		{in: "\r\n.\r\n", want: "\r\n"},
		{in: "..\r\n.\r\n", want: ".\r\n"},
		{in: "...\r\n.\r\n", want: "..\r\n"},
		{in: ".a\r\nb.\r\n.\r\n", want: "a\r\nb.\r\n"},
		{in: "a.\r\n\r\n..\r\n.\r\n", want: "a.\r\n\r\n.\r\n"},
		{in: "\xff\x80\x01\t\r\n.\r\n", want: "\xff\x80\x01\t\r\n"},
		{in: x("x", DefaultLineMax-2) + "\r\n.\r\n.", want: x("x", DefaultLineMax-2) + "\r\n", rest: "."},
		{in: "." + x(".", DefaultLineMax-2) + "\r\n.\r\n", want: x(".", DefaultLineMax-2) + "\r\n"},
		{in: x("x", DefaultLineMax-1) + "\r\n.\r\nQ", err: ErrLineTooLong, rest: "Q"},
		{in: "a\rb\r\n.\r\nQ", err: ErrBareCR, rest: "Q"},
		{in: "a\nb\r\n.\r\nQ", err: ErrBareLF, rest: "Q"},
		{in: "a\x00b\r\n.\r\nQ", err: ErrNUL, rest: "Q"},
		{in: "", err: io.ErrUnexpectedEOF},
		{in: "a\r\n.\r", err: io.ErrUnexpectedEOF},
		{in: "a\r\n", err: io.ErrUnexpectedEOF},
		{in: "a\nb", err: io.ErrUnexpectedEOF},
	} {
		got, rest, err := readDots(strings.NewReader(c.in), 4096, 0)
		if err != c.err || rest != c.rest {
			t.Errorf("%.30q: %v, rest %q; want %v, rest %q", c.in, err, rest, c.err, c.rest)
		}
		if c.err == nil && got != c.want {
			t.Errorf("%.30q: %.30q, want %.30q", c.in, got, c.want)
		}
		for _, n := range []int{0, 1, 2, 3, 5, 4096} {
			if next, rest, err := nextDots([]byte(c.in), n); next != got || err != c.err || rest != c.rest {
				t.Errorf("%.30q in blocks of %d: %.30q, %v, rest %q; want %.30q, %v, rest %q", c.in, n, next, err, rest, got, c.err, c.rest)
			}
		}
	}
}

// RFC 5321 4.1.1.4: "In particular, the sequence "<LF>.<LF>" (bare line feeds,
// without carriage returns) MUST NOT be treated as equivalent to <CRLF>.<CRLF>
// as the end of mail data indication."
func TestDotReaderFalseEndings(t *testing.T) {
	for _, e := range endings {
		for _, before := range []string{"", "a", "a\r\n", "a\r\n..b"} {
			in := before + e + "MAIL FROM:<b@c>\r\n.\r\nQUIT\r\n"
			_, rest, err := readDots(strings.NewReader(in), 4096, 0)
			if rest != "QUIT\r\n" || !errors.Is(err, ErrBareCR) && !errors.Is(err, ErrBareLF) && !errors.Is(err, ErrNUL) {
				t.Errorf("%q: %v, rest %q", in, err, rest)
			}
		}
	}
}

// readDots reads to the end with reads of n octets (0: large ones), and returns
// the content, what follows it, and the error if it was not io.EOF.
func readDots(src io.Reader, buffer, n int) (content, rest string, err error) {
	r := bufio.NewReaderSize(src, buffer)
	d := NewDotReader(r)
	if n == 0 {
		n = 1 << 20
	}
	var out []byte
	p := make([]byte, n)
	for err == nil {
		var k int
		k, err = d.Read(p)
		out = append(out, p[:k]...)
	}
	if _, again := d.Read(p); again != err {
		return "", "", errors.New("the error is not lasting")
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	after, _ := io.ReadAll(r)
	return string(out), string(after), err
}

// nextDots reads the same by Next, in blocks of n octets (0: one), which are its own.
func nextDots(in []byte, n int) (content, rest string, err error) {
	var d DotReader
	var all strings.Builder
	if n == 0 {
		n = len(in)
	}
	for len(in) > 0 && err == nil {
		block := bytes.Clone(in[:min(n, len(in))])
		for len(block) > 0 && err == nil {
			var part []byte
			var used int
			part, used, err = d.Next(block)
			if used == 0 && err == nil {
				return "", "", errors.New("nothing was taken")
			}
			all.Write(part)
			block, in = block[used:], in[used:]
		}
	}
	content = all.String()
	if err == nil {
		return content, "", io.ErrUnexpectedEOF
	}
	if _, _, again := d.Next([]byte("x")); again != err {
		return "", "", errors.New("the error is not lasting")
	}
	if err == io.EOF {
		err = nil
	}
	return content, string(in), err
}

func TestDotWriter(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
		err  error
	}{
		{want: ".\r\n"},
		{in: []string{"a\r\n"}, want: "a\r\n.\r\n"},
		{in: []string{"a"}, want: "a\r\n.\r\n"},
		{in: []string{".\r\n"}, want: "..\r\n.\r\n"},
		{in: []string{"a\r", "\n", ".", "\r\n"}, want: "a\r\n..\r\n.\r\n"},
		{in: []string{"a\r\n.\r\nMAIL\r\n"}, want: "a\r\n..\r\nMAIL\r\n.\r\n"},
		{in: []string{"a\n.\n"}, err: ErrBareLF},
		{in: []string{"a\r", ".\r"}, err: ErrBareCR},
		{in: []string{"a\r"}, err: ErrBareCR},
		{in: []string{"a\r", "b\r\n"}, err: ErrBareCR},
		{in: []string{"a\rb\r\n"}, err: ErrBareCR},
		{in: []string{"a\x00"}, err: ErrNUL},
	} {
		var b bytes.Buffer
		d := NewDotWriter(&b)
		var err error
		for _, s := range c.in {
			if _, e := io.WriteString(d, s); e != nil {
				err = e
			}
		}
		if e := d.Close(); e != nil {
			err = e
		}
		if err != c.err || err == nil && b.String() != c.want {
			t.Errorf("%q: %q, %v; want %q, %v", c.in, b.String(), err, c.want, c.err)
		}
		if strings.HasSuffix(b.String(), ".\r\n") && err != nil {
			t.Errorf("%q: ended in spite of %v", c.in, err)
		}
		if _, e := d.Write([]byte("x")); e == nil {
			t.Errorf("%q: a write after Close", c.in)
		}
	}
	if err := NewDotWriter(iotest.TruncateWriter(failWriter{}, 0)).Close(); err != nil {
		t.Errorf("Close on a truncating writer: %v", err)
	}
	if err := NewDotWriter(failWriter{}).Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close on a failing writer: %v", err)
	}
}

// A failure of Close is kept too: the end is not sent by a second one, for nobody knows
// how much of it the peer has.
func TestDotWriterClosesOnce(t *testing.T) {
	w := &onceWriter{}
	d := NewDotWriter(w)
	if err := d.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close: %v", err)
	}
	if err := d.Close(); !errors.Is(err, io.ErrClosedPipe) || w.calls != 1 {
		t.Errorf("Close again: %v, after %d writes", err, w.calls)
	}
}

// A onceWriter fails the first time.
type onceWriter struct{ calls int }

func (w *onceWriter) Write(p []byte) (int, error) {
	if w.calls++; w.calls == 1 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

type failWriter struct{}

func (failWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// modelDots is the definition of the dot stream over a whole input.
func modelDots(in string) (content, rest string, err error) {
	var out strings.Builder
	for {
		line, after, ok := strings.Cut(in, "\r\n")
		if !ok {
			return "", "", io.ErrUnexpectedEOF
		}
		in = after
		if line == "." {
			return out.String(), in, err
		}
		line = strings.TrimPrefix(line, ".")
		for i := 0; i < len(line) && err == nil; i++ {
			switch line[i] {
			case '\r':
				err = ErrBareCR
			case '\n':
				err = ErrBareLF
			case 0:
				err = ErrNUL
			}
		}
		if len(line)+2 > DefaultLineMax && err == nil {
			err = ErrLineTooLong
		}
		out.WriteString(line + "\r\n")
	}
}

// Whole input, one octet at a time, and the definition agree; and what a
// DotWriter sends, a DotReader reads as the same content and not one octet more.
func FuzzDot(f *testing.F) {
	for _, e := range endings {
		f.Add([]byte("a\r\n"+e+"b\r\n.\r\nNOOP\r\n"), uint8(1), uint8(1))
	}
	f.Add([]byte("..a\r\n.\r\n"), uint8(2), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, buffer, n uint8) {
		want, wantRest, wantErr := modelDots(string(in))
		got, rest, err := readDots(bytes.NewReader(in), 4096, 0)
		if err != wantErr || rest != wantRest || err == nil && got != want {
			t.Fatalf("%q: %q, %q, %v; want %q, %q, %v", in, got, rest, err, want, wantRest, wantErr)
		}
		if !strings.HasPrefix(want, got) && wantErr != io.ErrUnexpectedEOF {
			t.Fatalf("%q: gave out %q of %q", in, got, want)
		}
		got1, rest1, err1 := readDots(iotest.OneByteReader(bytes.NewReader(in)), int(buffer), int(n))
		if got1 != got || rest1 != rest || err1 != err {
			t.Fatalf("%q in pieces: %q, %q, %v; whole: %q, %q, %v", in, got1, rest1, err1, got, rest, err)
		}

		for _, size := range []int{0, 1, int(n)} {
			if next, rest2, err2 := nextDots(in, size); next != got || rest2 != rest || err2 != err {
				t.Fatalf("%q in blocks of %d: %q, %q, %v; want %q, %q, %v", in, size, next, rest2, err2, got, rest, err)
			}
		}

		var b, split bytes.Buffer
		d, ds := NewDotWriter(&b), NewDotWriter(&split)
		_, errW := d.Write(in)
		for i := range in {
			_, _ = ds.Write(in[i : i+1])
		}
		errC, errS := d.Close(), ds.Close()
		if (errC == nil) != (errS == nil) || errC == nil && b.String() != split.String() {
			t.Fatalf("%q: whole %q %v, split %q %v", in, b.String(), errC, split.String(), errS)
		}
		if errW != nil && errC == nil {
			t.Fatalf("%q: ended after %v", in, errW)
		}
		if errC != nil {
			return
		}
		content := string(in)
		if content != "" && !strings.HasSuffix(content, "\r\n") {
			content += "\r\n"
		}
		b.WriteString("QUIT")
		back, after, err := readDots(&b, 4096, 0)
		if back != content || after != "QUIT" || err != nil {
			t.Fatalf("%q came back as %q, %q, %v", in, back, after, err)
		}
	})
}

func BenchmarkDotReader(b *testing.B) {
	content := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1<<14) + ".\r\n")
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, NewDotReader(bufio.NewReaderSize(bytes.NewReader(content), 32<<10))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDotWriter(b *testing.B) {
	content := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1<<9))
	b.SetBytes(int64(len(content)))
	d := NewDotWriter(io.Discard)
	for b.Loop() {
		if _, err := d.Write(content); err != nil {
			b.Fatal(err)
		}
	}
}

// RFC 5321 4.5.3.1.6: "The maximum total length of a text line including the <CRLF> is
// 1000 octets (not counting the leading dot duplicated for transparency)." What is counted
// is each line by itself, however it begins and in whatever pieces it comes: short lines
// are no long one, as many as there may be, and behind them one that is too long is.
func TestLinesAreCountedOneByOne(t *testing.T) {
	x := strings.Repeat
	for _, line := range []string{"Some words, and a stop.\r\n", "..\r\n", "..a dot\r\n", ".no dot\r\n", "..\r\nNo dot, and then\r\n\r\n"} {
		many := x(line, 2*DefaultLineMax/len(line))
		plain := strings.ReplaceAll(strings.TrimPrefix("\r\n"+many, "\r\n."), "\r\n.", "\r\n")
		plain = strings.TrimPrefix(plain, "\r\n")
		for _, end := range []struct {
			octets int // of the last line
			err    error
		}{{1000, nil}, {DefaultLineMax, nil}, {DefaultLineMax + 1, ErrLineTooLong}} {
			last := x("x", end.octets-2) + "\r\n"
			in, want := many+last+".\r\nQ", plain+last
			for _, n := range []int{7, 16, 1000, 4096} { // octets of a piece
				got, rest, err := readDots(strings.NewReader(in), n, 0)
				if err != end.err || rest != "Q" || err == nil && got != want {
					t.Errorf("many of %q and a line of %d, %d at a time: %d octets, %v, rest %.20q", line, end.octets, n, len(got), err, rest)
				}
				got, rest, err = nextDots([]byte(in), n)
				if err != end.err || rest != "Q" || err == nil && got != want {
					t.Errorf("many of %q and a line of %d, in blocks of %d: %d octets, %v, rest %.20q", line, end.octets, n, len(got), err, rest)
				}
			}
		}
	}
}
