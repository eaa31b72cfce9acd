package message

import (
	"io"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// looked is what Addresses says of a header section, "" or a fault, and the domains that
// it asked about.
func looked(r io.Reader, utf8 bool) (a *Addresses, fault string, domains []string) {
	a = &Addresses{UTF8: utf8, Domain: func(d string) bool {
		domains = append(domains, d)
		return strings.ContainsAny(d, ".[")
	}}
	s := Scanner{Addresses: a}
	_, _ = io.Copy(&s, r)
	if err := a.End(); err != nil {
		fault = err.Error()
	}
	return a, fault, domains
}

// Each row is the value of a field To, and what is wrong with it.
var addressTests = []struct{ in, fault string }{
	{"", ""},
	{"  ", ""},
	{"bob@b.example", ""},
	{"<bob@b.example>", ""},
	{"Bob <bob@b.example>, Carol <carol@c.example>", ""},
	{"bob@b.example,\r\n\tcarol@c.example", ""},
	{"Bob B. Baker <bob@b.example>", ""},
	{`"Baker, Bob \"B\"" <bob@b.example>`, ""},
	{"=?UTF-8?Q?B=C3=B6b?= <bob@b.example>", ""},
	{"B\xf6b <bob@b.example>", ""},
	{"Bob (of (the) \\) b) <bob (b) @ (b) b.example> (b)", ""},
	{"bob@b.example (Bob)", ""},
	{`"bob b"@b.example`, ""},
	{"bob . b @ b . example", ""},
	{"bob+tag=x'y@b.example", ""},
	{"bob@[192.0.2.1], bob@[IPv6:2001:db8::1]", ""},
	{"<@x.example,@y.example:bob@b.example>", ""},
	{"undisclosed-recipients:;", ""},
	{"undisclosed-recipients: ;, bob@b.example", ""},
	{"undisclosed-recipients:", ""},
	{"<Undisclosed-Recipient:;>", ""},
	{"Friends: bob@b.example;, undisclosed-recipients:", ""},
	{`Bob (a \( b) <bob@b.example>`, ""},
	{"Friends: bob@b.example, Carol <carol@c.example>;, dan@d.example", ""},
	{"Friends: bob@b.example,;", ""},
	{", bob@b.example, ,carol@c.example,", ""},
	{"bob@b.example <bob@b.example>", ""},
	{"Bob @ Home [b] <bob@b.example>", ""},
	{"'bob@b.example' <bob@b.example>", ""},

	{"bob", "To: bob: an address needs an @ and a domain"},
	{"<bob>", "To: <bob>: an address needs an @ and a domain"},
	{"Baker, Bob <bob@b.example>", "To: Baker: an address needs an @ and a domain"},
	{"bob@b", "To: bob@b: its domain is not fully qualified"},
	{"carol@c.example, Bob <bob@b>", "To: Bob <bob@b>: its domain is not fully qualified"},
	{"Friends: bob@b;", "To: Friends: bob@b: its domain is not fully qualified"},
	{"bob@", "To: bob@: it is no address"},
	{"@b.example", "To: @b.example: it is no address"},
	{"bob@b.example.", "To: bob@b.example.: it is no address"},
	{"bob@b..example", "To: bob@b..example: it is no address"},
	{"bob..b@b.example", "To: bob..b@b.example: it is no address"},
	{"<.bob@b.example>", "To: <.: it is no address"},
	{"<bob@b.example.>", "To: <bob@b.example.>: it is no address"},
	{"<bob b@b.example>", "To: <bob b: it is no address"},
	{"<bob@b@b.example>", "To: <bob@b@: it is no address"},
	{"<>", "To: <>: there is no address between < and >"},
	{"<bob@b.example", "To: <bob@b.example: a < is not closed"},
	{"bob b@b.example", "To: bob b@b.example: it is no address"},
	{"bob@b.example Bob", "To: bob@b.example Bob: it is no address"},
	{"<bob@b.example> <carol@c.example>", "To: <bob@b.example> <: a comma is missing between two addresses"},
	{"<bob@b.example> carol", "To: <bob@b.example> c: a comma is missing between two addresses"},
	{"bob@b.example; carol@c.example", "To: bob@b.example: a semicolon ends groups alone: write a comma between addresses"},
	{"mailto:bob@b.example", "To: mailto:bob@b.example: a group is not closed by a semicolon"},
	{"Friends: bob@b.example,", "To: : a group is not closed by a semicolon"},
	{`"Bob <bob@b.example>`, `To: "Bob <bob@b.example>: a quotation mark or bracket is not closed`},
	{"Bob (b <bob@b.example>", "To: Bob (b <bob@b.example>: a quotation mark or bracket is not closed"},
	{"bob@[192.0.2.1", "To: bob@[192.0.2.1: a quotation mark or bracket is not closed"},
	{"bob@[[192.0.2.1]", "To: bob@[[: it is no address"},
	{"b\x00b@b.example", "To: b?: there is a control character in it"},
	{"b\xc3\xb6b@b.example", "To: b??b@b.example: it is not ASCII, which needs SMTPUTF8"},
	{"bob@b\xc3\xbccher.example", "To: bob@b??cher.example: it is not ASCII, which needs SMTPUTF8"},
	{"bob@" + strings.Repeat("b.", 127) + "example", "To: bob@" + strings.Repeat("b.", 28) + ": its domain is too long"},
}

// RFC 6409 4.2: "it MUST ensure that all domains in address header fields are fully
// qualified." 5.1: "it SHOULD reject messages with illegal address syntax in address
// header fields."
func TestAddresses(t *testing.T) {
	for _, tt := range addressTests {
		in := "Subject: x\r\nTo: " + tt.in + "\r\nX: bob@\r\n\r\nTo: bob\r\n"
		if _, got, _ := looked(strings.NewReader(in), false); got != strings.Replace(tt.fault, "To: : ", "To: ", 1) {
			t.Errorf("%q:\n%s\nwant\n%s", tt.in, got, tt.fault)
		}
	}
}

// With SMTPUTF8 an address may be beyond ASCII, but no octets that are no UTF-8.
func TestAddressesUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"b\xc3\xb6b@b\xc3\xbccher.example": "", "\"b\xc3\xb6 b\"@b.example": "", "bob@b\xfccher.example": "To: bob@b?cher.example: its domain is not UTF-8",
	} {
		if _, got, _ := looked(strings.NewReader("To: "+in+"\r\n\r\n"), true); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		if _, got, _ := looked(strings.NewReader("To: "+in+"\r\n\r\n"), false); got == "" {
			t.Errorf("%q needs no SMTPUTF8", in)
		}
	}
}

func TestAddressFields(t *testing.T) {
	for _, tt := range []struct {
		in               string
		authors, senders int
		fault            string
	}{
		{"Subject: x\r\n\r\nFrom: bob\r\n", 0, 0, ""},
		{"FROM : a@b.c, d@e.f\r\nsender: a@b.c\r\n", 2, 1, ""},
		{"From: Friends:;\r\n\r\n", 1, 0, ""},
		{"From:\r\n\r\n", 0, 0, "From: there is no address"},
		{"From: (x)\r\n\r\n", 0, 0, "From: (x): there is no address"},
		{"From: a@b.c\r\nFrom: a@b.c\r\n\r\n", 1, 0, "From: there is a second field of this name"},
		{"Sender: a@b.c, d@e.f\r\n\r\n", 0, 2, "Sender: d@e.f: there is more than one address"},
		{"To: a@b.c\r\nTo: d@e.f\r\n\r\n", 0, 0, ""},
		{"cc: a\r\nTo: b\r\n\r\n", 0, 0, "Cc: a: an address needs an @ and a domain"},
		{"Resent-Cc: a", 0, 0, "Resent-Cc: a: an address needs an @ and a domain"},
		{"Resent-From: a@b.c\r\nResent-Sender: a@b.c\r\nResent-To: a@b.c\r\nReply-To:\r\n\r\n", 0, 0, ""},
		{"Reply-To: a@b\r\n\r\n", 0, 0, "Reply-To: a@b: its domain is not fully qualified"},
		{"X-To: a\r\nTos: b\r\nSubject: c@\r\nTo", 0, 0, ""},
	} {
		a, fault, _ := looked(strings.NewReader(tt.in), false)
		if a.Authors() != tt.authors || a.Senders() != tt.senders || fault != tt.fault {
			t.Errorf("%q: %d authors, %d senders, %q", tt.in, a.Authors(), a.Senders(), fault)
		}
	}
}

// What is kept does not grow with the header section.
func TestAddressesHugeInput(t *testing.T) {
	s := Scanner{Addresses: &Addresses{}}
	_, _ = io.WriteString(&s, "To: bob@b.example")
	more := []byte(strings.Repeat(", Bob (b) <bob@b.example>", 10_000))
	if n := testing.AllocsPerRun(10, func() { s.Write(more) }); n != 0 || s.Addresses.End() != nil {
		t.Errorf("%v allocations a write, %v", n, s.Addresses.End())
	}
}

// FuzzAddresses: octet by octet is as in one piece, and what net/mail reads as a list is one
// here, of the same domains.
func FuzzAddresses(f *testing.F) {
	for _, tt := range addressTests {
		f.Add(tt.in, true)
		f.Add(tt.in, false)
	}
	f.Fuzz(func(t *testing.T, value string, utf8 bool) {
		in := "To: " + value + "\r\n\r\n"
		whole, fault, domains := looked(strings.NewReader(in), utf8)
		parts, again, same := looked(iotest.OneByteReader(strings.NewReader(in)), utf8)
		if fault != again || whole.list.mailboxes != parts.list.mailboxes || !slices.Equal(domains, same) {
			t.Fatalf("%q: %q in one piece, %q in parts", value, fault, again)
		}
		if strings.ContainsFunc(fault, func(r rune) bool { return r < ' ' || r > '~' }) || len(fault) > 200 {
			t.Errorf("%q is not for a reply", fault)
		}
		if strings.ContainsAny(value, "\r\n") {
			return
		}
		list, err := mail.ParseAddressList(value)
		if err != nil {
			return
		}
		var theirs []string
		for _, m := range list {
			theirs = append(theirs, m.Address[strings.LastIndexByte(m.Address, '@')+1:])
		}
		_, fault, domains = looked(strings.NewReader(in), true)
		switch {
		case strings.Contains(fault, "fully qualified"), strings.Contains(fault, "too long"):
		case fault != "":
			t.Errorf("%q: %s, and net/mail reads %v", value, fault, list)
		case !slices.Equal(domains, theirs):
			t.Errorf("%q: %q, and net/mail reads %q", value, domains, theirs)
		}
	})
}
