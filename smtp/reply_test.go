package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReplyAppendTo(t *testing.T) {
	for _, c := range []struct {
		r    Reply
		wire string
		line string
	}{
		{Reply{}, "451 4.3.0 Something went wrong here, try again later\r\n", "451 4.3.0 Something went wrong here, try again later"},
		{OK, "250 2.0.0 OK\r\n", "250 2.0.0 OK"},
		{Reply{Code: 354, Text: "go"}, "354 go\r\n", "354 go"},
		{Reply{Code: 250, Text: "a\nSIZE 5"}, "250-a\r\n250 SIZE 5\r\n", "250 a SIZE 5"},
		{Reply{Code: 550, Status: Status{5, 1, 1}, Text: "a\nb"}, "550-5.1.1 a\r\n550 5.1.1 b\r\n", "550 5.1.1 a b"},
		{Reply{Code: 221, Status: Status{2, 0, 0}}, "221 2.0.0 \r\n", "221 2.0.0"},
		{Reply{Code: 550, Status: Status{5, 1, 1}, Text: "a\rb\x00\x1b[2Jü"}, "550 5.1.1 a b??[2J??\r\n", "550 5.1.1 a b??[2J??"},
		// Codes and status that do not agree.
		{Reply{Code: 450, Status: Status{5, 1, 1}, Text: "x"}, "450 4.0.0 x\r\n", "450 4.0.0 x"},
		{Reply{Code: 354, Status: Status{2, 0, 0}, Text: "x"}, "354 x\r\n", "354 x"},
		{Reply{Code: 99, Text: "x"}, "451 4.3.0 x\r\n", "451 4.3.0 x"},
		{Reply{Code: 600, Text: "x"}, "451 4.3.0 x\r\n", "451 4.3.0 x"},
	} {
		if got := string(c.r.AppendTo(nil)); got != c.wire {
			t.Errorf("%+v: %q, want %q", c.r, got, c.wire)
		}
		if got := c.r.String(); got != c.line {
			t.Errorf("%+v: %q, want %q", c.r, got, c.line)
		}
	}
}

// RFC 5321 4.5.3.1.5: "The maximum total length of a reply line including the
// reply code and the <CRLF> is 512 octets."
func TestReplyFolds(t *testing.T) {
	for _, text := range []string{strings.Repeat("word ", 400), strings.Repeat("x", 2000), strings.Repeat("y", 502), strings.Repeat("y", 503)} {
		wire := Reply{Code: 550, Status: Status{5, 1, 1}, Text: text}.AppendTo(nil)
		lines := strings.SplitAfter(string(wire), "\r\n")
		for _, l := range lines[:len(lines)-1] {
			if len(l) > ReplyMax {
				t.Errorf("line of %d octets", len(l))
			}
		}
		r, err := ReadReply(bufio.NewReader(bytes.NewReader(wire)))
		strip := strings.NewReplacer(" ", "", "\n", "")
		if err != nil || strip.Replace(r.Text) != strip.Replace(text) {
			t.Errorf("%d octets of text came back as %d, %v", len(text), len(r.Text), err)
		}
		if text[0] == 'w' && strings.ReplaceAll(r.Text, "\n", " ") != text { // folded at a space, which the end of the line stands for
			t.Errorf("came back as %q", r.Text)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Reply
		err  error
	}{
		{in: "250 OK\r\n", want: Reply{Code: 250, Text: "OK"}},
		{in: "250 2.1.5 OK\r\n", want: Reply{Code: 250, Status: Status{2, 1, 5}, Text: "OK"}},
		{in: "250\r\n", want: Reply{Code: 250}},
		{in: "250 \r\n", want: Reply{Code: 250}},
		{in: "250-a\r\n250-SIZE 1\r\n250 B\r\n", want: Reply{Code: 250, Text: "a\nSIZE 1\nB"}},
		{in: "250-a\r\n250\r\n", want: Reply{Code: 250, Text: "a\n"}},
		{in: "550-5.1.1 a\r\n550 5.1.1 b\r\n", want: Reply{Code: 550, Status: Status{5, 1, 1}, Text: "a\nb"}},
		{in: "550-5.1.1 a\r\n550 b\r\n", want: Reply{Code: 550, Status: Status{5, 1, 1}, Text: "a\nb"}},
		{in: "450 5.1.1 a\r\n", want: Reply{Code: 450, Text: "5.1.1 a"}}, // class and code disagree
		{in: "550 5.01.1 a\r\n", want: Reply{Code: 550, Text: "5.01.1 a"}},
		{in: "550 5.999.999 a\r\n", want: Reply{Code: 550, Status: Status{5, 999, 999}, Text: "a"}},
		{in: "354 3.0.0 go\r\n", want: Reply{Code: 354, Text: "3.0.0 go"}},
		{in: "999 what\r\n", want: Reply{Code: 999, Text: "what"}},
		{in: "550 \x1b[2J\x00\xc3\xbc\tx\r\n", want: Reply{Code: 550, Text: "?[2J??? x"}},
		{in: "250-a\r\n251 b\r\n", err: ErrReplySyntax},
		{in: "250 a\n", err: ErrReplySyntax},
		{in: "551 5.1.6 try <j\u00f6rg@new.example>\x1b\xff\u202e\r\n", want: Reply{551, Status{5, 1, 6}, "try <j\u00f6rg@new.example>?????"}},
		{in: "251 <\u00f6>\r\n", want: Reply{251, Status{}, "<\u00f6>"}},
		{in: "550 <\u00f6>\r\n", want: Reply{550, Status{}, "<??>"}},
		{in: "25 a\r\n", err: ErrReplySyntax},
		{in: "250x\r\n", err: ErrReplySyntax},
		{in: "HTTP/1.1 400\r\n", err: ErrReplySyntax},
		{in: "\r\n", err: ErrReplySyntax},
		{in: "", err: io.EOF},
		{in: "250 a", err: io.ErrUnexpectedEOF},
		{in: "250-a\r\n", err: io.ErrUnexpectedEOF},
		{in: "250 " + strings.Repeat("x", 200_000) + "\r\n", err: ErrReplyTooLong},
		{in: strings.Repeat("250-x\r\n", 255) + "250 x\r\n", want: Reply{Code: 250, Text: strings.Repeat("x\n", 255) + "x"}},
		{in: strings.Repeat("250-x\r\n", 256) + "250 x\r\n", err: ErrReplyTooLong},
		{in: strings.Repeat("250-x\r\n", 60_000) + "250 x\r\n", err: ErrReplyTooLong},
		{in: strings.Repeat("250-"+strings.Repeat("x", 4000)+"\r\n", 20) + "250 x\r\n", err: ErrReplyTooLong},
	} {
		got, err := ReadReply(bufio.NewReader(strings.NewReader(c.in)))
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("ReadReply(%.40q) = %+v, %v; want %+v, %v", c.in, got, err, c.want, c.err)
		}
	}
}

// A reply that nobody can read is no reason to give up mail.
func TestReplyKinds(t *testing.T) {
	for code, want := range map[int]string{0: "T", 199: "T", 220: "P", 354: "I", 421: "T", 550: "F", 600: "T", 999: "T"} {
		r, got := Reply{Code: code}, ""
		for _, k := range []struct {
			is   bool
			name string
		}{{r.Positive(), "P"}, {r.Intermediate(), "I"}, {r.Temporary(), "T"}, {r.Permanent(), "F"}} {
			if k.is {
				got += k.name
			}
		}
		if got != want {
			t.Errorf("%d: %s, want %s", code, got, want)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 OK\r\n", "550-5.1.1 a\r\n550 5.1.1 b\r\n", "250\r\n", "354 go\r\n", "000 x\r\n", "451-4.3.0\r\n451 \r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := ReadReply(bufio.NewReaderSize(bytes.NewReader(in), 16))
		if err != nil {
			return
		}
		// The size of the reader's buffer does not matter.
		if r2, err := ReadReply(bufio.NewReader(bytes.NewReader(in))); err != nil || r2 != r {
			t.Fatalf("%q: %+v and %+v, %v", in, r, r2, err)
		}
		wire := r.AppendTo(nil)
		for l := range bytes.SplitSeq(bytes.TrimSuffix(wire, []byte("\r\n")), []byte("\r\n")) {
			if len(l)+2 > ReplyMax || bytes.ContainsFunc(l, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%q printed the line %q", in, l)
			}
		}
		again, err := ReadReply(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			t.Fatalf("%q printed as %q: %v", in, wire, err)
		}
		if r.Normal() == r && again.Code != r.Code {
			t.Fatalf("%+v came back as %+v", r, again)
		}
		if r.Normal() == r && !r.Status.IsZero() && len(r.Text) < 400 && again != r {
			t.Fatalf("%+v came back as %+v", r, again)
		}
	})
}

// RFC 6531 3.7.4: UTF-8 goes out where it is allowed, whole and printable, and
// nowhere else.
func TestReplyAppendUTF8(t *testing.T) {
	for _, c := range []struct{ text, wide, plain string }{
		{"<jörg@ö.example>", "<jörg@ö.example>", "<j??rg@??.example>"},
		{"a\x1bb\xffc\u202ed\u0085e\r\n550 x", "a?b?c???d??e \r\n251 550 x", "a?b?c???d??e \r\n251 550 x"},
		{"", "", ""},
	} {
		r := Reply{Code: 251, Text: c.text}
		wide, plain := string(r.AppendUTF8(nil)), string(r.AppendTo(nil))
		if wide[4:] != c.wide+"\r\n" || plain[4:] != c.plain+"\r\n" {
			t.Errorf("%q: %q and %q", c.text, wide, plain)
		}
	}
	for n := range 40 { // wherever a line is folded
		text := strings.Repeat("x", 480+n) + strings.Repeat("ö", 300)
		var got string
		for l := range strings.SplitSeq(string(Reply{Code: 250, Text: text}.AppendUTF8(nil)), "\r\n") {
			if len(l)+2 > ReplyMax || !utf8.ValidString(l) {
				t.Fatalf("%q", l)
			}
			got += l[min(4, len(l)):]
		}
		if got != text {
			t.Fatalf("%q came out as %q", text, got)
		}
	}
}
