package message

import (
	"bytes"
	"errors"
	"io"
	"net/mail"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestScanner(t *testing.T) {
	tests := []struct {
		name, in  string
		hops      int
		header    string // what HeaderSize covers
		done      bool
		eight     bool
		headEight bool
	}{
		{name: "empty"},
		{name: "no header", in: "\r\nbody\r\n", done: true},
		{name: "one field", in: "Subject: a\r\n\r\nb\r\n", header: "Subject: a\r\n", done: true},
		{name: "only a header", in: "Subject: a\r\n", header: "Subject: a\r\n"},
		{name: "hops", in: "Received: a\r\nreceived : b\r\nRECEIVED:\r\n\r\nReceived: no\r\n", hops: 3,
			header: "Received: a\r\nreceived : b\r\nRECEIVED:\r\n", done: true},
		{name: "other names", in: "Received-SPF: a\r\nX-Received: b\r\nReceive: c\r\n\r\n",
			header: "Received-SPF: a\r\nX-Received: b\r\nReceive: c\r\n", done: true},
		{name: "name in a continuation", in: "A: b\r\n Received: c\r\n\tReceived: d\r\n\r\n",
			header: "A: b\r\n Received: c\r\n\tReceived: d\r\n", done: true},
		{name: "continuation of nothing", in: " Received: c\r\nReceived: d\r\n\r\n", done: true},
		{name: "not a field", in: "A: b\r\nhello world\r\nReceived: d\r\n\r\n", header: "A: b\r\n", done: true},
		{name: "no colon", in: "A: b\r\nhello\r\nReceived: d\r\n\r\n", header: "A: b\r\n", done: true},
		{name: "bare LF", in: "Received: a\n\nReceived: b\n", hops: 1, header: "Received: a\n", done: true},
		{name: "CR alone on a line", in: "A: b\r\n\rX: y\r\n", header: "A: b\r\n", done: true},
		{name: "white line continues", in: "A: b\r\n \r\nReceived: c\r\n\r\n", hops: 1,
			header: "A: b\r\n \r\nReceived: c\r\n", done: true},
		{name: "8 bit in header", in: "A: \xfc\r\n\r\n", header: "A: \xfc\r\n", done: true, eight: true, headEight: true},
		{name: "8 bit in a name", in: "A: b\r\n\xfc: c\r\n\r\n", header: "A: b\r\n", done: true, eight: true},
		{name: "8 bit in body", in: "A: b\r\n\r\n12345678901234567890\x80", header: "A: b\r\n", done: true, eight: true},
		{name: "DEL in a name", in: "A\x7f: b\r\n", done: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Scanner
			io.WriteString(&s, tt.in)
			if s.Hops() != tt.hops || s.HeaderDone() != tt.done || s.EightBit() != tt.eight || s.HeaderEightBit() != tt.headEight {
				t.Errorf("hops %d done %v eight %v head eight %v", s.Hops(), s.HeaderDone(), s.EightBit(), s.HeaderEightBit())
			}
			if got := tt.in[:s.HeaderSize()]; got != tt.header {
				t.Errorf("header %q, want %q", got, tt.header)
			}
		})
	}
}

func TestScannerHugeInput(t *testing.T) {
	var s Scanner
	for range 10_000 {
		io.WriteString(&s, "Received: x\r\n")
	}
	long := bytes.Repeat([]byte("n"), 1<<20)
	s.Write(long)
	io.WriteString(&s, ": ")
	s.Write(long)
	if s.Hops() != 10_000 || s.HeaderDone() || s.HeaderSize() != 10_000*13+2<<20+2 {
		t.Fatalf("hops %d done %v size %d", s.Hops(), s.HeaderDone(), s.HeaderSize())
	}
	if n := testing.AllocsPerRun(10, func() { s.Write(long) }); n != 0 {
		t.Fatalf("%v allocations a write", n)
	}
}

func TestHeader(t *testing.T) {
	tests := []struct {
		name, in string
		limit    int
		want     string
	}{
		{"whole", "A: b\r\nC: d\r\n\r\nbody", 100, "A: b\r\nC: d\r\n"},
		{"exact", "A: b\r\nC: d\r\n\r\nbody", 12, "A: b\r\nC: d\r\n"},
		{"one octet less", "A: b\r\nC: d\r\n\r\nbody", 11, "A: b\r\n"},
		{"folded field goes whole", "A: b\r\nC: d\r\n e\r\n\r\n", 14, "A: b\r\n"},
		{"folded by a tab it does too", "A: b\r\nC: d\r\n\te\r\n\r\n", 14, "A: b\r\n"},
		{"one field over the limit", "C: d\r\n e\r\n f\r\n\r\n", 11, "C: d\r\n e\r\n"},
		{"one line over the limit", "C: dddddddd\r\n\r\n", 5, ""},
		{"nothing", "", 5, ""},
		{"no limit left", "A: b\r\n\r\n", 0, ""},
		{"no empty line", "A: b\r\nC: d", 100, "A: b\r\nC: d"},
		{"cut name", "A: b\r\nCde", 100, "A: b\r\n"},
		{"cut end", "A: b\r\n\r", 100, "A: b\r\n"},
		{"body first", "hello world\r\nA: b\r\n", 100, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in)),
				iotest.DataErrReader(strings.NewReader(tt.in))} {
				got, err := Header(r, tt.limit)
				if err != nil || string(got) != tt.want {
					t.Errorf("Header(%q, %d) = %q, %v; want %q", tt.in, tt.limit, got, err, tt.want)
				}
			}
		})
	}
	boom := errors.New("boom")
	got, err := Header(io.MultiReader(strings.NewReader("A: b\r\n"), iotest.ErrReader(boom)), 100)
	if !errors.Is(err, boom) || string(got) != "A: b\r\n" {
		t.Errorf("after a read error: %q, %v", got, err)
	}
}

func TestHeaderStopsReading(t *testing.T) {
	r := &countReader{}
	got, err := Header(r, 1000)
	if err != nil || len(got) != 994 || r.n > 2*headerChunk {
		t.Fatalf("%d octets, %v, %d read", len(got), err, r.n)
	}
}

// A countReader is a header section without end.
type countReader struct{ n int }

func (r *countReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "ab:cde\n"[r.n%7]
		r.n++
	}
	return len(p), nil
}

func TestAppendDate(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", -(8*3600+1800)))
	if got := string(AppendDate(nil, at)); got != "Fri, 02 Jan 2026 03:04:05 -0830" {
		t.Fatal(got)
	}
}

var when = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestReceived(t *testing.T) {
	tests := []struct {
		name string
		in   Received
		want string
	}{
		{"plain", Received{Hello: "a.example", Addr: netip.MustParseAddr("192.0.2.1"), By: "mx.example.org",
			Protocol: "ESMTP", ID: "0abc", For: "bob@example.org", Time: when},
			"Received: from a.example ([192.0.2.1])\r\n\tby mx.example.org with ESMTP id 0abc\r\n" +
				"\tfor <bob@example.org>; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"IPv6 with a name, no for", Received{Hello: "[IPv6:2001:db8::1]", PTR: "h.example.", Addr: netip.MustParseAddr("2001:db8::1"),
			By: "mx", Protocol: "SMTP", ID: "0", Time: when},
			"Received: from [IPv6:2001:db8::1] (h.example [IPv6:2001:db8::1])\r\n\tby mx with SMTP id 0; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"mapped address, zone", Received{Hello: "x", Addr: netip.MustParseAddr("::ffff:192.0.2.1"), By: "mx", Protocol: "SMTP", Time: when},
			"Received: from x ([192.0.2.1])\r\n\tby mx with SMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"an address of this link", Received{Hello: "x", Addr: netip.MustParseAddr("fe80::1%eth0"), By: "mx", Protocol: "SMTP", Time: when},
			"Received: from x ([IPv6:fe80::1])\r\n\tby mx with SMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"no connection, no name", Received{By: "mx", Protocol: "ESMTP", Time: when},
			"Received: from unknown\r\n\tby mx with ESMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"a user of this machine", Received{Hello: "mx", Local: "uid 1000", By: "mx", Protocol: "ESMTP", Time: when},
			"Received: from mx (uid 1000)\r\n\tby mx with ESMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"a user who closes the comment", Received{Hello: "mx", Local: "uid)\r\nX: (", By: "mx", Protocol: "ESMTP", Time: when},
			"Received: from mx (uid? X: ?)\r\n\tby mx with ESMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"injection", Received{Hello: "a)\r\nX: y\x00(\xff", By: "mx", Protocol: "ESMTP", For: "a\r\nX: y@b", Time: when},
			"Received: from a???X:?y???\r\n\tby mx with ESMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"UTF-8 for", Received{Hello: "a", By: "mx", Protocol: "UTF8SMTP", For: "jörg@example.org", Time: when},
			"Received: from a\r\n\tby mx with UTF8SMTP\r\n\tfor <jörg@example.org>; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"TLS", Received{Hello: "a", By: "mx", Protocol: "ESMTPSA", ID: "0", For: "b@c", TLS: "TLS_AES_128_GCM_SHA256", Time: when},
			"Received: from a\r\n\tby mx with ESMTPSA id 0\r\n\tfor <b@c>\r\n\ttls TLS_AES_128_GCM_SHA256; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"priority", Received{Hello: "a", By: "mx", Protocol: "ESMTP", ID: "0", Priority: -9, Time: when},
			"Received: from a\r\n\tby mx with ESMTP id 0\r\n\tPRIORITY -9; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"TLS that is no name", Received{Hello: "a", By: "mx", Protocol: "ESMTPS", TLS: "x;\r\n(", Time: when},
			"Received: from a\r\n\tby mx with ESMTPS\r\n\ttls x____; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
		{"UTF-8 for without leave", Received{Hello: "a", By: "mx", Protocol: "ESMTP", For: "jörg@example.org", Time: when},
			"Received: from a\r\n\tby mx with ESMTP; Sat, 21 Nov 2026 12:00:00 +0000\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.in.Append(nil)); got != tt.want {
				t.Errorf("got\n%q\nwant\n%q", got, tt.want)
			}
		})
	}
}

// However long the names are that a client gives, no line of the field is longer than RFC 5322
// 2.1.1 lets lines be, and no path with control characters, those beyond ASCII among them,
// stands in it.
func TestReceivedIsBounded(t *testing.T) {
	long := strings.Repeat("n", 4*LineMax)
	full := Received{Hello: long, PTR: long, Addr: netip.MustParseAddr("2001:db8::1"), By: long, Protocol: long, ID: long, For: long, TLS: long, Time: when}
	local := Received{Hello: "a", Local: "uid " + long, By: "mx", Protocol: "ESMTP", Time: when}
	for _, r := range []Received{full, local} {
		for line := range strings.SplitSeq(string(r.Append(nil)), "\r\n") {
			if len(line)+len("\r\n") > LineMax {
				t.Errorf("a line of %d octets: %.30q", len(line), line)
			}
		}
	}
	// RFC 5321 4.5.3.1.3: a path has 256 octets with its brackets.
	for n, want := range map[int]bool{254: true, 255: false} {
		r := Received{Hello: "a", By: "mx", Protocol: "ESMTP", For: strings.Repeat("b", n), Time: when}
		if got := string(r.Append(nil)); strings.Contains(got, "<"+r.For+">") != want {
			t.Errorf("a path of %d octets: %q", n, got)
		}
	}
	for _, c := range []string{"\x00", "\r\n\t", "\x1b", "\x7f", "\u0080", "\u0085", "\u009f", "\xff"} {
		r := Received{Hello: "a", By: "mx", Protocol: "UTF8SMTP", For: "b" + c + "@example.org", Time: when}
		if got := string(r.Append(nil)); strings.Contains(got, "for <") {
			t.Errorf("%q", got)
		}
	}
}

func FuzzReceived(f *testing.F) {
	f.Add("a.example", "", []byte{192, 0, 2, 1}, "mx", "ESMTP", "0", "bob@example.org", int64(0))
	f.Add(strings.Repeat("h", 500), strings.Repeat("p.", 300), make([]byte, 16), "mx", "UTF8SMTP", "0", strings.Repeat("x ", 120), int64(1<<40))
	f.Fuzz(func(t *testing.T, hello, ptr string, addr []byte, by, protocol, id, to string, unix int64) {
		a, _ := netip.AddrFromSlice(addr)
		r := Received{Hello: hello, PTR: ptr, Addr: a, By: by, Protocol: protocol, ID: id, For: to, TLS: id,
			Time: time.Unix(unix%(1<<33), 0).UTC()}
		out := r.Append([]byte("before"))
		if !bytes.HasPrefix(out, []byte("before")) {
			t.Fatal("Append changed what was there")
		}
		out = out[len("before"):]
		lines := bytes.SplitAfter(out, []byte("\r\n"))
		if len(lines[len(lines)-1]) != 0 {
			t.Fatalf("no CRLF at the end: %q", out)
		}
		for i, line := range lines[:len(lines)-1] {
			line = line[:len(line)-2]
			if len(line) > LineMax || bytes.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("bad line %q", line)
			}
			if i > 0 && (line[0] != '\t' || len(line) < 2 || line[1] == ' ' || line[1] == '\t') {
				t.Fatalf("line does not continue: %q", line)
			}
		}
		var s Scanner
		s.Write(out)
		s.Write([]byte("\r\n"))
		if s.Hops() != 1 || !s.HeaderDone() || s.HeaderSize() != int64(len(out)) {
			t.Fatalf("not one field: %q", out)
		}
	})
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte("Received: a\r\nB: c\r\n d\r\n\r\nbody\xff"), uint(3))
	f.Add([]byte("Received : a\nnot a field\nReceived: b"), uint(1))
	f.Add([]byte(" x\r\n\r"), uint(0))
	f.Add([]byte("a:\r\r\n\r\r\n"), uint(5))
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		var whole, split Scanner
		whole.Write(in)
		at := int(cut % uint(len(in)+1))
		split.Write(in[:at])
		for _, c := range in[at:] {
			split.Write([]byte{c})
		}
		if whole != split {
			t.Fatalf("split differs: %+v and %+v", whole, split)
		}
		header, hops := plainHeader(in)
		if whole.Hops() != hops {
			t.Fatalf("%d hops, want %d", whole.Hops(), hops)
		}
		got, err := Header(bytes.NewReader(in), len(in))
		if err != nil || !bytes.Equal(got, header) {
			t.Fatalf("Header = %q, %v; want %q", got, err, header)
		}
		limit := at
		if got, _ := Header(bytes.NewReader(in), limit); len(got) > limit || !bytes.HasPrefix(header, got) {
			t.Fatalf("Header(%d) = %q of %q", limit, got, header)
		}
		eight := bytes.IndexFunc(in, func(r rune) bool { return r >= 0x80 }) >= 0
		if whole.EightBit() != eight {
			t.Fatalf("EightBit %v, want %v", whole.EightBit(), eight)
		}
	})
}

// plainHeader finds the header section line by line, and counts its Received
// fields: the same answer as the Scanner's in a slower way.
func plainHeader(in []byte) (header []byte, hops int) {
	end, fields := 0, false
	for _, line := range bytes.SplitAfter(in, []byte("\n")) {
		name, _, colon := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		switch {
		case fields && len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
		case !colon || len(name) == 0 || bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) >= 0:
			return in[:end], hops
		default:
			fields = true
			if strings.EqualFold(string(name), "received") {
				hops++
			}
		}
		end += len(line)
	}
	return in[:end], hops
}

// FuzzAgainstNetMail holds the Scanner to what package net/mail reads, for the
// messages that net/mail can read.
func FuzzAgainstNetMail(f *testing.F) {
	f.Add([]byte("Received: a\r\nB: c\r\n d\r\n\r\nbody"))
	f.Add([]byte("received: a\r\nReceived: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := mail.ReadMessage(bytes.NewReader(in))
		if err != nil || bytes.Contains(in, []byte("\r\r")) {
			return
		}
		body, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		var s Scanner
		s.Write(in)
		if !s.HeaderDone() { // net/mail takes a header section that the end cuts short
			return
		}
		rest := in[s.HeaderSize():]
		rest = bytes.TrimPrefix(bytes.TrimPrefix(rest, []byte("\r")), []byte("\n"))
		if bytes.Equal(rest, body) && s.Hops() != len(m.Header["Received"]) {
			t.Fatalf("%d hops, net/mail says %d in %q", s.Hops(), len(m.Header["Received"]), in)
		}
	})
}

func TestAutomatic(t *testing.T) {
	for head, want := range map[string]bool{
		"Subject: x\r\n\r\nList-Id: <x>\r\n":     false,
		"List-ID: <x.example>\r\n\r\n":           true,
		"auto-submitted: auto-replied\r\n\r\n":   true,
		"Auto-Submitted-By: x\r\n\r\n":           false,
		"Precedence: bulk\r\nSubject: x\r\n\r\n": true,
	} {
		var s Scanner
		s.Write([]byte(head))
		if s.Automatic() != want {
			t.Errorf("%q: %v", head, s.Automatic())
		}
	}
}
