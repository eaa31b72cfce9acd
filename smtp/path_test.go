package smtp

import (
	"net/netip"
	"strings"
	"testing"
)

var pathTests = []struct {
	in    string
	want  Path
	fails string // part of the error
}{
	{in: "", want: Path{}},
	{in: "a@b", want: Path{"a", "b"}},
	{in: "postmaster", want: Path{Local: "postmaster"}},
	{in: "PostMaster", want: Path{Local: "PostMaster"}},
	{in: "a.b+c=d!#$%&'*/?^_`{|}~-@ex-ample.org", want: Path{"a.b+c=d!#$%&'*/?^_`{|}~-", "ex-ample.org"}},
	{in: `"a b"@example.org`, want: Path{`"a b"`, "example.org"}},
	{in: `""@example.org`, want: Path{`""`, "example.org"}},
	{in: `"a@b\"\\>"@example.org`, want: Path{`"a@b\"\\>"`, "example.org"}},
	{in: "a@[192.0.2.1]", want: Path{"a", "[192.0.2.1]"}},
	{in: "a@[192.000.02.1]", want: Path{"a", "[192.000.02.1]"}},
	{in: "a@[IPv6:2001:db8::1]", want: Path{"a", "[IPv6:2001:db8::1]"}},
	{in: "a@[ipv6:::ffff:192.0.2.1]", want: Path{"a", "[ipv6:::ffff:192.0.2.1]"}},
	{in: "a@[x400:c=us>b]", want: Path{"a", "[x400:c=us>b]"}},
	{in: "@hosta.int,@jkl.org:userc@d.bar.org", want: Path{"userc", "d.bar.org"}},
	{in: "jürgen@bücher.example", want: Path{"jürgen", "bücher.example"}},
	{in: `"jürgen b"@пример.рф`, want: Path{`"jürgen b"`, "пример.рф"}},
	{in: strings.Repeat("a", 64) + "@b", want: Path{strings.Repeat("a", 64), "b"}},
	{in: "a@" + strings.Repeat(strings.Repeat("b", 62)+".", 3) + strings.Repeat("c", 62), want: Path{"a", strings.Repeat(strings.Repeat("b", 62)+".", 3) + strings.Repeat("c", 62)}},
	{in: "a@" + strings.Repeat("b", 63), want: Path{"a", strings.Repeat("b", 63)}},

	{in: "a@[IPv6:1:2:3:4::192.0.2.1]", want: Path{"a", "[IPv6:1:2:3:4::192.0.2.1]"}},
	{in: "a@" + strings.Repeat(strings.Repeat("b", 63)+".", 3) + strings.Repeat("c", 60), want: Path{"a", strings.Repeat(strings.Repeat("b", 63)+".", 3) + strings.Repeat("c", 60)}},

	{in: "a", fails: "needs an @"},
	{in: "@b", fails: "source route"},
	{in: "@b:postmaster", fails: "needs an @"},
	{in: `"postmaster"`, fails: "needs an @"},
	{in: ".a@b", fails: "dot at its start"},
	{in: "a..a@b", fails: "dot at its start or two in a row"},
	{in: "a.@b", fails: "ends in a dot"},
	{in: "a b@c", fails: "needs an @"},
	{in: "a@", fails: "domain is empty"},
	{in: "a@b.", fails: "dot at its end"},
	{in: "a@b..c", fails: "two in a row"},
	{in: "a@b_c", fails: "character that no domain has"},
	{in: "a@-b", fails: "hyphen"},
	{in: "a@b-.c", fails: "hyphen"},
	{in: "a@b c", fails: "follows the end"},
	{in: "a@b@c", fails: "character that no domain has"},
	{in: "a@b>", fails: "follows the end"},
	{in: "a@#123", fails: "character that no domain has"}, // RFC 5321 F.4
	{in: "a@b。c", fails: "character that no domain has"},
	{in: `"a@b`, fails: "no closing quote"},
	{in: `"a"b@c`, fails: "needs an @"},
	{in: `"a` + "\x00" + `"@b`, fails: "control character"},
	{in: `"a\` + "\r" + `"@b`, fails: "backslash"},
	{in: "a\xff@b", fails: "needs an @"},
	{in: "\xc0\x80@b", fails: "needs quotes"},     // overlong
	{in: "a\xed\xa0\x80@b", fails: "needs an @"},  // surrogate
	{in: "a\u0085@b", fails: "needs an @"},        // C1 control
	{in: "\"a\xff\"@b", fails: "not valid UTF-8"}, // in quotes too
	{in: "\"a\\\x7f\"@b", fails: "a backslash"},   // quoted-pairSMTP = %d92 %d32-126
	{in: "\"a\\\u00e4\"@b", fails: "a backslash"},
	{in: "a@b\xff", fails: "that no domain has"},    //
	{in: "a@[256.0.0.1]", fails: "address literal"}, //
	{in: "a@[1.2.3]", fails: "address literal"},
	{in: "a@[1.2.3.4", fails: "closing bracket"},
	{in: "a@[IPv6:1:2:3:4:5:6:7::]", fails: "address literal"}, // :: is two groups at least
	{in: "a@[IPv6:::1%eth0]", fails: "address literal"},
	{in: "a@[IPv6:192.0.2.1]", fails: "address literal"},
	{in: "a@[tag:]", fails: "address literal"},
	{in: "a@[IPv6:1:2:3:4:5::192.0.2.1]", fails: "address literal"},
	{in: "ab@" + strings.Repeat(strings.Repeat("b", 63)+".", 3) + strings.Repeat("c", 60), fails: "256 octets"},
	{in: strings.Repeat("a", 65) + "@b", fails: "64 octets"},
	{in: strings.Repeat("ä", 33) + "@b", fails: "64 octets"},
	{in: "a@" + strings.Repeat("b", 64), fails: "63 octets"},
	{in: "a@" + strings.Repeat("b.", 127) + "c", fails: "256 octets"},
	{in: "a@" + strings.Repeat("b.", 128) + "c", fails: "255 octets"},
}

func TestParsePath(t *testing.T) {
	for _, c := range pathTests {
		got, err := ParsePath(c.in)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("ParsePath(%q) = %+v, %v; want an error with %q", c.in, got, err, c.fails)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("ParsePath(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
}

func TestPathLiteral(t *testing.T) {
	for in, want := range map[string]string{
		"a@[192.0.2.1]":                 "192.0.2.1",
		"a@[010.0.0.1]":                 "10.0.0.1", // decimal, never octal
		"a@[IPv6:2001:DB8::1]":          "2001:db8::1",
		"a@[IPv6:1:2:3:4:5:6:7:8]":      "1:2:3:4:5:6:7:8",
		"a@[IPv6:::FFFF:192.0.02.1]":    "::ffff:192.0.2.1",
		"a@[IPv6:1:2:3:4:5:6:10.0.0.1]": "1:2:3:4:5:6:a00:1",
	} {
		p, err := ParsePath(in)
		got, ok := p.Literal()
		if err != nil || !ok || got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, %v, %v; want %s", in, got, ok, err, want)
		}
	}
	for _, in := range []string{"a@b", "a@[x:y]", "postmaster", ""} {
		p, err := ParsePath(in)
		if a, ok := p.Literal(); ok || err != nil {
			t.Errorf("%q: %v, %v; want no literal", in, a, err)
		}
	}
}

// RFC 5321 4.1.2: "all quoted forms MUST be treated as equivalent".
func TestMinimalLocal(t *testing.T) {
	for in, want := range map[string]string{
		`a`:           `a`,
		`"a"`:         `a`,
		`"\a\.\b"`:    `a.b`,
		`"a b"`:       `"a b"`,
		`"a\ b"`:      `"a b"`,
		`""`:          `""`,
		`"a..b"`:      `"a..b"`,
		`"\"\\\@"`:    `"\"\\@"`,
		`"jürgen"`:    `jürgen`,
		`"jürgen\ x"`: `"jürgen x"`,
	} {
		if got := (Path{in, "b"}).MinimalLocal(); got != want {
			t.Errorf("MinimalLocal(%s) = %s, want %s", in, got, want)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"", "a@b", "Postmaster", `"a b\""@[IPv6:::1]`, "@a,@b:c@d.e", "ü@ü.ü", "a@[1.2.3.4]", `""@[x:y]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		again, err := ParsePath(p.String())
		if err != nil || again != p {
			t.Fatalf("parse(print(%+v)) = %+v, %v", p, again, err)
		}
		if p.IsNull() {
			return
		}
		if i := strings.IndexFunc(p.String(), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }); i >= 0 {
			t.Fatalf("control character in %q", p)
		}
		m := Path{p.MinimalLocal(), p.Domain}
		if m.LocalUnquoted() != p.LocalUnquoted() || len(m.Local) > len(p.Local) {
			t.Fatalf("%q is not a minimal form of %q", m, p)
		}
		if again, err = ParsePath(m.String()); p.Domain != "" && (err != nil || again != m) {
			t.Fatalf("minimal form %+v parses as %+v, %v", m, again, err)
		}
		// What stands in a command is the same path.
		arg := "TO:<" + s + "> ORCPT=rfc822;x"
		if got, params, no := ParseRcpt(arg, ExtSMTPUTF8|ExtDSN); no != nil || got != p || params.ORcpt != "rfc822;x" {
			t.Fatalf("ParseRcpt(%q) = %+v, %v", arg, got, no)
		}
	})
}
