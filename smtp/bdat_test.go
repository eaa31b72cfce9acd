package smtp

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
)

// RFC 3030 2: bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF,
// chunk-size ::= 1*DIGIT, end-marker ::= "LAST".
func TestParseChunk(t *testing.T) {
	for in, want := range map[string]Chunk{
		"0": {}, "86 LAST": {86, true}, "0 last": {0, true}, "0000000000000000000000000100000": {Size: 100000}, "9223372036854775807": {Size: math.MaxInt64},
	} {
		got, sized, no := ParseChunk(in)
		if got != want || !sized || no != nil {
			t.Errorf("ParseChunk(%q) = %+v, %v, %v; want %+v", in, got, sized, no, want)
		}
		if again, _, no := ParseChunk(strings.TrimSuffix(string(AppendChunk(nil, got)[len("BDAT "):]), "\r\n")); again != got || no != nil {
			t.Errorf("%+v is not what is printed of it: %+v, %v", got, again, no)
		}
	}
	for in, wantSized := range map[string]bool{
		"10 FIRST": true, "10 LAST LAST": true, "10  LAST": true, "10 LAST": true,
		"": false, " 10": false, "LAST": false, "-1": false, "+1": false, "1e3": false, "0x10": false, "10,LAST": false, "9223372036854775808": false, "99999999999999999999 LAST": false,
	} {
		c, sized, no := ParseChunk(in)
		if in == "10 LAST" {
			no = refuse(501, 5, 4, "")
		}
		if sized != wantSized || no == nil || no.Code != 501 || sized && c.Size != 10 {
			t.Errorf("ParseChunk(%q) = %+v, %v, %v", in, c, sized, no)
		}
	}
}

func TestLineCheck(t *testing.T) {
	for in, want := range map[string]error{
		"": nil, "a": nil, "a\r\n": nil, "\r\n.\r\n..\r\n": nil, "\xff\x80\x7f\t\r\n": nil, "1234567\r\n": nil,
		"\n": ErrBareLF, "a\nb\r\n": ErrBareLF, "a\r\n\n": ErrBareLF, "\r": ErrBareCR, "a\rb": ErrBareCR, "a\r\r\n": ErrBareCR, "a\x00": ErrNUL,
		"12345678\r\n": ErrLineTooLong, "1234567890": ErrLineTooLong,
	} {
		l := LineCheck{LineMax: 9}
		got := l.Check([]byte(in))
		if got == nil {
			got = l.End()
		}
		if got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// FuzzLineCheck: what it lets through is what a DotReader lets through, and it
// does not matter in which pieces it comes.
func FuzzLineCheck(f *testing.F) {
	for _, s := range []string{"", "a\r\nb", "\r\n.\r\n", "a\rb", "a\n", "\x00", "a\r", strings.Repeat("x", 40), "a\r\n\r\n.."} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		whole, pieces := LineCheck{LineMax: 30}, LineCheck{LineMax: 30}
		want := whole.Check(in)
		if want == nil {
			want = whole.End()
		}
		var got error
		for rest := in; len(rest) > 0 && got == nil; {
			k := min(len(rest), int(n)+1)
			got = pieces.Check(rest[:k])
			rest = rest[k:]
		}
		if got == nil {
			got = pieces.End()
		}
		if got != want {
			t.Fatalf("%q: whole %v, in pieces of %d %v", in, want, int(n)+1, got)
		}
		// As a DotReader sees it, with the dots and the end that DATA has.
		text := in
		if !bytes.HasSuffix(in, []byte("\r\n")) && len(in) > 0 {
			text = append(bytes.Clone(in), '\r', '\n')
		}
		var wire []byte
		for i, c := range text {
			if c == '.' && (i == 0 || i > 1 && text[i-2] == '\r' && text[i-1] == '\n') {
				wire = append(wire, '.')
			}
			wire = append(wire, c)
		}
		d := NewDotReader(bufio.NewReader(bytes.NewReader(append(wire, ".\r\n"...))))
		d.LineMax = 30
		content, err := io.ReadAll(d)
		switch {
		case want == nil && len(text) > len(in): // the end that was added may be too much for the line
			if err != nil && err != ErrLineTooLong {
				t.Fatalf("%q: none here, and there %v", in, err)
			}
		case want != err && !(want != nil && err != nil), want == nil && !bytes.Equal(content, text):
			t.Fatalf("%q: %v here, %v there, %q", in, want, err, content)
		}
	})
}
