package smtp

import (
	"math"
	"strings"
	"testing"
)

const allExt = ExtPipelining | ExtSize | Ext8BitMIME | ExtSMTPUTF8 | ExtEnhancedStatusCodes | ExtDSN | ExtStartTLS | ExtAuth

func TestParseCommand(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Command
		no   string
	}{
		{in: "NOOP", want: Command{"NOOP", ""}},
		{in: "noop \t ", want: Command{"NOOP", ""}},
		{in: "Mail From:<a@b> ", want: Command{"MAIL", "From:<a@b>"}},
		{in: "NOOP  x", want: Command{"NOOP", " x"}},
		{in: "HELO j\xc3\xbc", want: Command{"HELO", "jü"}},
		{in: "", no: "500 5.5.2"},
		{in: " NOOP", no: "500 5.5.2"},
		{in: "NO\x00OP", no: "500 5.5.2"},
		{in: "NOOP\r", no: "500 5.5.2"},
		{in: "NOOP\nQUIT", no: "500 5.5.2"},
		{in: "NOOP\rQUIT", no: "500 5.5.2"},
		{in: "NOOP\tx", no: "500 5.5.2"},
		{in: "NOOP \x7f", no: "500 5.5.2"},
		{in: "N00P", no: "500 5.5.2"},
		{in: "\xffNOOP", no: "500 5.5.2"},
	} {
		got, no := ParseCommand([]byte(c.in))
		if c.no != "" {
			if no == nil || !strings.HasPrefix(no.String(), c.no) {
				t.Errorf("ParseCommand(%q) = %v, %v; want %s", c.in, got, no, c.no)
			}
			continue
		}
		if no != nil || got != c.want {
			t.Errorf("ParseCommand(%q) = %v, %v; want %v", c.in, got, no, c.want)
		}
	}
}

func TestParseMail(t *testing.T) {
	ab := Path{"a", "b"}
	for _, c := range []struct {
		in   string
		ext  Extensions
		from Path
		p    MailParams
		no   string
	}{
		{in: "FROM:<a@b>", from: ab},
		{in: "from:<>"},
		{in: "FROM:<> RET=hdrs", ext: allExt, p: MailParams{Ret: RetHeaders}},
		{in: "FROM:<@x,@y:a@b>", from: ab},
		{in: `FROM:<">"@[x:>]> SIZE=1`, ext: allExt, from: Path{`">"`, "[x:>]"}, p: MailParams{Size: 1}},
		{in: "FROM:<a@b> size=10 BODY=8bitmime SMTPUTF8 ret=FULL envid=a+2Bb", ext: allExt, from: ab,
			p: MailParams{Size: 10, Body: Body8BitMIME, UTF8: true, Ret: RetFull, EnvID: "a+b"}},
		{in: "FROM:<a@b> SIZE=99999999999999999999", ext: allExt, from: ab, p: MailParams{Size: math.MaxInt64}},
		{in: "FROM:<ü@b> SMTPUTF8", ext: allExt, from: Path{"ü", "b"}, p: MailParams{UTF8: true}},
		{in: "FROM:<a@b> ENVID=(a)", ext: allExt, from: ab, p: MailParams{EnvID: "(a)"}}, // RFC 3461 4: no comment
		{in: "FROM:<a@b> ENVID=" + strings.Repeat("x", 100), ext: allExt, from: ab, p: MailParams{EnvID: strings.Repeat("x", 100)}},

		{in: "", no: "501 5.5.4"},
		{in: "TO:<a@b>", no: "501 5.5.4"},
		{in: "FROM <a@b>", no: "501 5.5.4"},
		{in: "FROM: <a@b>", no: "501 5.5.4"}, // RFC 5321 3.3
		{in: " FROM:<a@b>", no: "501 5.5.4"},
		{in: "FROM:a@b", no: "501 5.5.4"},
		{in: "FROM:<a@b", no: "501 5.1.7"},
		{in: "FROM:<a>", no: "501 5.1.7"},
		{in: "FROM:<postmaster>", no: "501 5.1.7"},
		{in: "FROM:<a@b.>", no: "501 5.1.7"},
		{in: "FROM:<a@b>SIZE=1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b>  SIZE=1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE=1", no: "555 5.5.4"},
		{in: "FROM:<a@b> FOO=1", ext: allExt, no: "555 5.5.4"},
		{in: "FROM:<a@b> SIZE=1 SIZE=1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> size=1 SIZE=2", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE=", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE=-1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE=+1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SIZE=100000000000000000000", ext: allExt, no: "501 5.5.4"}, // 21 digits
		{in: "FROM:<a@b> BODY=9BIT", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> SMTPUTF8=1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> RET=SOME", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> RET", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> RET=FULL RET=FULL", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> ENVID=x ENVID=x", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> ENVID", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> ENVID=a+0D+0Ab", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> ENVID=a+2b", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> ENVID=" + strings.Repeat("x", 101), ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<a@b> -X=1", ext: allExt, no: "501 5.5.4"},
		{in: "FROM:<ü@b>", ext: allExt, no: "550 5.6.7"},
		{in: "FROM:<ü@b>", no: "550 5.6.7"},
		{in: "FROM:<\xff@b> SMTPUTF8", ext: allExt, no: "501 5.1.7"},
	} {
		from, p, no := ParseMail(c.in, c.ext)
		if c.no != "" {
			if no == nil || !strings.HasPrefix(no.String(), c.no) {
				t.Errorf("ParseMail(%q) = %v, %v, %v; want %s", c.in, from, p, no, c.no)
			}
			continue
		}
		if no != nil || from != c.from || p != c.p {
			t.Errorf("ParseMail(%q) = %+v, %+v, %v; want %+v, %+v", c.in, from, p, no, c.from, c.p)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	ab := Path{"a", "b"}
	ascii := allExt &^ ExtSMTPUTF8
	for _, c := range []struct {
		in  string
		ext Extensions
		to  Path
		p   RcptParams
		no  string
	}{
		{in: "TO:<a@b>", to: ab},
		{in: "to:<Postmaster>", to: Path{Local: "Postmaster"}},
		{in: "TO:<@hosta.int,@jkl.org:userc@d.bar.org>", to: Path{"userc", "d.bar.org"}},
		{in: "TO:<a@b> NOTIFY=success,Failure,DELAY ORCPT=rfc822;a+2Bb@c", ext: ascii, to: ab,
			p: RcptParams{Notify: NotifySuccess | NotifyFailure | NotifyDelay, ORcpt: "rfc822;a+2Bb@c"}},
		{in: "TO:<a@b> NOTIFY=never", ext: ascii, to: ab, p: RcptParams{Notify: NotifyNever}},
		{in: `TO:<a@b> ORCPT=utf-8;j\x{FC}rgen@b`, ext: ascii, to: ab, p: RcptParams{ORcpt: `utf-8;j\x{FC}rgen@b`}},
		{in: "TO:<a@b> ORCPT=UTF-8;jürgen@b", ext: allExt, to: ab, p: RcptParams{ORcpt: "UTF-8;jürgen@b"}},
		{in: "TO:<ü@ü>", ext: allExt, to: Path{"ü", "ü"}},
		{in: "TO:<a@b> ORCPT=rfc822;" + strings.Repeat("x", 493), ext: ascii, to: ab, p: RcptParams{ORcpt: "rfc822;" + strings.Repeat("x", 493)}},

		{in: "TO:<>", no: "501 5.1.3"},
		{in: "TO:<a>", no: "501 5.1.3"},
		{in: "TO: <a@b>", no: "501 5.5.4"},
		{in: "FROM:<a@b>", no: "501 5.5.4"},
		{in: "TO:<a@b> NOTIFY=NEVER", no: "555 5.5.4"},
		{in: "TO:<a@b> SIZE=1", ext: ascii, no: "555 5.5.4"},
		{in: "TO:<a@b> NOTIFY=NEVER,DELAY", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> NOTIFY=NEVER,never", ext: ascii, no: "501 5.5.4"}, // RFC 3461 4.1: it "MUST appear by itself"
		{in: "TO:<a@b> NOTIFY=DELAY,,SUCCESS", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> NOTIFY=SOON", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> NOTIFY", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc822;x ORCPT=rfc822;x", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=a@b", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc822;", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=;a", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc822;a+0Ab", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc822;a+C3+BC", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc(2);a", ext: ascii, no: "501 5.5.4"},
		{in: `TO:<a@b> ORCPT=utf-8;a\x{0A}b`, ext: ascii, no: "501 5.5.4"},
		{in: `TO:<a@b> ORCPT=utf-8;a\x{D800}b`, ext: ascii, no: "501 5.5.4"},
		{in: `TO:<a@b> ORCPT=utf-8;a\b}`, ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=utf-8;ü", ext: ascii, no: "501 5.5.4"},
		{in: "TO:<a@b> ORCPT=rfc822;" + strings.Repeat("x", 494), ext: ascii, no: "501 5.5.4"},
		{in: "TO:<ü@b>", ext: ascii, no: "553 5.6.7"},
	} {
		to, p, no := ParseRcpt(c.in, c.ext)
		if c.no != "" {
			if no == nil || !strings.HasPrefix(no.String(), c.no) {
				t.Errorf("ParseRcpt(%q) = %v, %v, %v; want %s", c.in, to, p, no, c.no)
			}
			continue
		}
		if no != nil || to != c.to || p != c.p {
			t.Errorf("ParseRcpt(%q) = %+v, %+v, %v; want %+v, %+v", c.in, to, p, no, c.to, c.p)
		}
	}
}

func TestParseExtension(t *testing.T) {
	for in, want := range map[string]Extensions{
		"PIPELINING": ExtPipelining, "size 1000": ExtSize, "SIZE": ExtSize, "8BitMime": Ext8BitMIME,
		"SMTPUTF8": ExtSMTPUTF8, "ENHANCEDSTATUSCODES ": ExtEnhancedStatusCodes, "DSN": ExtDSN, "starttls": ExtStartTLS, "AUTH PLAIN": ExtAuth,
		"": 0, "SIZES": 0, "X-SIZE": 0,
	} {
		got, params := ParseExtension(in)
		if got != want || (in == "size 1000" || in == "AUTH PLAIN") != (params != "") {
			t.Errorf("ParseExtension(%q) = %v, %q; want %v", in, got, params, want)
		}
	}
	if _, params := ParseExtension(" SIZE  1000 "); params != "1000" {
		t.Errorf("between blanks the parameter is %q", params)
	}
}

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{"": "", "a b": "a+20b", "+=": "+2B+3D", "ü": "+C3+BC", "a@b": "a@b"} {
		if got := EncodeXtext(in); got != want {
			t.Errorf("EncodeXtext(%q) = %q, want %q", in, got, want)
		}
		if got, ok := DecodeXtext(want); !ok || got != in {
			t.Errorf("DecodeXtext(%q) = %q, %v; want %q", want, got, ok, in)
		}
	}
	for _, in := range []string{"+", "+2", "+2b", "a b", "=", "+GG", "ü"} {
		if got, ok := DecodeXtext(in); ok {
			t.Errorf("DecodeXtext(%q) = %q, want none", in, got)
		}
	}
}

// What we print, we and everyone else read as the same command.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		"NOOP", "MAIL FROM:<a@b> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+20b", "RCPT TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;x",
		"mail from:<>", "MAIL FROM:<a@b> BODY=binarymime AUTH=a+2Bb@c BY=-5;nt HOLDFOR=60 MT-PRIORITY=-3 SOLICIT=org.example:ADV",
		"MAIL FROM:<a@b> AUTH=<> BY=+000000120;R HOLDUNTIL=2026-11-22T23:59:60.5Z MT-PRIORITY=9", "RCPT TO:<a@b> RRVS=2014-04-03t23:01:00-23:59;c", `RCPT TO:<"a b"@[1.2.3.4]> NOTIFY=SUCCESS,DELAY`, "MAIL FROM:<ü@ü> SMTPUTF8", "rcpt to:<postmaster>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		cmd, no := ParseCommand(line)
		if no != nil {
			if !no.Permanent() || no.Text == "" {
				t.Fatalf("%q refused with %v", line, no)
			}
			return
		}
		if strings.ContainsAny(cmd.Arg, "\r\n\x00") {
			t.Fatalf("%q let %q through", line, cmd.Arg)
		}
		if cmd.Verb == "MAIL" {
			from, p, no := ParseMail(cmd.Arg, everyExt)
			if no != nil {
				return
			}
			wire := AppendMail(nil, from, p)
			again, _ := ParseCommand(wire[:len(wire)-2])
			from2, p2, no := ParseMail(again.Arg, everyExt)
			if no != nil || from2 != from || p2 != p {
				t.Fatalf("%q printed as %q, parsed as %+v %+v %v", line, wire, from2, p2, no)
			}
		}
		if cmd.Verb == "RCPT" {
			to, p, no := ParseRcpt(cmd.Arg, everyExt)
			if no != nil {
				return
			}
			wire := AppendRcpt(nil, to, p)
			again, _ := ParseCommand(wire[:len(wire)-2])
			to2, p2, no := ParseRcpt(again.Arg, everyExt)
			if no != nil || to2 != to || p2 != p {
				t.Fatalf("%q printed as %q, parsed as %+v %+v %v", line, wire, to2, p2, no)
			}
		}
	})
}
