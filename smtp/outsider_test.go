package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

// RFC 6531 3.3 has U-labels in domains, and RFC 5892 A.1 to A.6 the characters that are
// no letters and stand in some of them all the same: who writes to such a domain is not
// told that there can be none. Full stops and signs that look like something else are
// refused.
func TestContextCharactersInDomains(t *testing.T) {
	for _, r := range "\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d" {
		if s := "l" + string(r) + "l.example"; !IsDomain(s) {
			t.Errorf("%+q is no domain", s)
		}
	}
	for _, r := range "\u3002\uff0e\u00a0\u2028\u2044\u200e\ufffd" {
		if s := "l" + string(r) + "l.example"; IsDomain(s) {
			t.Errorf("%+q is a domain", s)
		}
	}
}

// RFC 5321 4.5.3.1.2: "The maximum total length of a domain name or number is 255
// octets", also of one in brackets.
func TestLongestLiteral(t *testing.T) {
	for n, want := range map[int]bool{255: true, 256: false, 257: false} {
		if s := "[x:" + strings.Repeat("a", n-len("[x:]")) + "]"; IsLiteral(s) != want {
			t.Errorf("of %d octets: %v", len(s), !want)
		}
	}
	// 4.1.3: Standardized-tag = Ldh-str, which does not end in a hyphen.
	if !IsLiteral("[a-b:x]") || IsLiteral("[ab-:x]") {
		t.Error("the tag of a literal is no Ldh-str")
	}
}

// What goes out as a reply is one of RFC 5321 4.2 and RFC 3463 2, whatever a program of
// ours has put in: numbers of four digits and codes of 1yz are none.
func TestNormalReply(t *testing.T) {
	for _, tt := range []struct {
		r    Reply
		want string
	}{
		{Reply{150, Status{}, "words"}, "451 4.3.0 words"},
		{Reply{199, Status{2, 0, 0}, "words"}, "451 4.3.0 words"},
		{Reply{600, Status{5, 0, 0}, "words"}, "451 4.3.0 words"},
		{Reply{550, Status{5, 999, 999}, "words"}, "550 5.999.999 words"},
		{Reply{550, Status{5, 1000, 1}, "words"}, "550 5.0.0 words"},
		{Reply{550, Status{5, 1, 1000}, "words"}, "550 5.0.0 words"},
		{Reply{550, Status{4, 1, 1}, "words"}, "550 5.0.0 words"},
		{Reply{354, Status{3, 0, 0}, "words"}, "354 words"},
	} {
		if got := string(tt.r.AppendTo(nil)); got != tt.want+"\r\n" {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

// A message of SCRAM is as long as our bound says, whichever part of it is.
func TestLongestSCRAM(t *testing.T) {
	for n, want := range map[int]bool{scramMessageMax: true, scramMessageMax + 1: false} {
		message := "n,a=" + strings.Repeat("x", n-len("n,a=,n=user,r=x")) + ",n=user,r=x"
		if _, err := parseScramFirst(message); (err == nil) != want {
			t.Errorf("of %d octets: %v", len(message), err)
		}
	}
}

// RFC 5802 5: a server that has not shown our signature is not who it says; it has one
// try, and cannot mend it with another.
func TestSCRAMClientHearsOnce(t *testing.T) {
	const nonce = "rOprNGfwEbeRWgbNEkqO"
	m, err := parseScramFirst("n,,n=user,r=" + nonce)
	if err != nil {
		t.Fatal(err)
	}
	c := &scramClient{o: SCRAMClientOptions{User: "user", Password: "pencil"}, first: m, step: scramStepFinal}
	if _, err := c.Next([]byte("r=" + nonce + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next([]byte("v=AAAA")); !errors.Is(err, ErrServerUnproved) {
		t.Errorf("a wrong signature: %v", err)
	}
	if b, err := c.Next([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); !errors.Is(err, errChallenge) || c.Proved() {
		t.Errorf("the right one after it: %q, %v, proved: %v", b, err, c.Proved())
	}
}

// Much real mail has longer lines than the 1000 octets that RFC 5321 4.5.3.1.6 asks for, and is
// taken: up to 64 KiB where nobody has said otherwise, by DATA and by BDAT alike.
func TestDefaultLineMax(t *testing.T) {
	for n, want := range map[int]error{64 << 10: nil, 64<<10 + 1: ErrLineTooLong} {
		line := strings.Repeat("x", n-len("\r\n")) + "\r\n"
		var l LineCheck
		if err := l.Check([]byte(line)); !errors.Is(err, want) {
			t.Errorf("%d octets, LineCheck: %v", n, err)
		}
		if _, err := io.ReadAll(NewDotReader(bufio.NewReader(strings.NewReader(line + ".\r\n")))); !errors.Is(err, want) {
			t.Errorf("%d octets, DotReader: %v", n, err)
		}
	}
}
