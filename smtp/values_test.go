package smtp

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const everyExt = allExt | ExtChunking | ExtBinaryMIME | ExtDeliverBy | ExtFutureRelease | ExtMTPriority | ExtRRVS | ExtNoSoliciting

func date(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

// A value is one parameter of MAIL, and what is made of it.
type value struct {
	in string
	p  MailParams
	no string
}

func checkMail(t *testing.T, ext Extensions, list []value) {
	t.Helper()
	for _, c := range list {
		_, p, no := ParseMail("FROM:<a@b> "+c.in, ext)
		if c.no != "" {
			if no == nil || !strings.HasPrefix(no.String(), c.no) {
				t.Errorf("%.60s: %+v, %v; want %s", c.in, p, no, c.no)
			}
			continue
		}
		if no != nil || p != c.p {
			t.Errorf("%.60s: %+v, %v; want %+v", c.in, p, no, c.p)
			continue
		}
		wire := AppendMail(nil, Path{"a", "b"}, p)
		_, again, no := ParseMail(string(wire[len("MAIL "):len(wire)-2]), ext)
		if no != nil || again != p {
			t.Errorf("%.60s: printed as %q, which is %+v, %v", c.in, wire, again, no)
		}
	}
}

// Where an extension is not offered its parameter is not known. RFC 5321 4.1.1.11:
// "it will return code 555".
func TestParamsNotOffered(t *testing.T) {
	for ext, in := range map[Extensions]string{
		ExtBinaryMIME: "BODY=BINARYMIME", ExtAuth: "AUTH=<>", ExtDeliverBy: "BY=120;R", ExtMTPriority: "MT-PRIORITY=3", ExtNoSoliciting: "SOLICIT=org.example:ADV",
	} {
		checkMail(t, everyExt&^ext, []value{{in: in, no: "555 5.5.4"}})
	}
	checkMail(t, everyExt&^ExtFutureRelease, []value{{in: "HOLDFOR=1", no: "555 5.5.4"}, {in: "HOLDUNTIL=2026-11-22T00:00:00Z", no: "555 5.5.4"}})
	if _, _, no := ParseRcpt("TO:<a@b> RRVS=2014-04-03T23:01:00Z", everyExt&^ExtRRVS); no == nil || no.Code != 555 {
		t.Errorf("RRVS: %v", no)
	}
}

// RFC 3030 3: body-value ::= "7BIT" / "8BITMIME" / "BINARYMIME".
func TestParamBody(t *testing.T) {
	checkMail(t, everyExt, []value{
		{in: "BODY=7bit", p: MailParams{Body: Body7Bit}},
		{in: "BODY=8BITMIME", p: MailParams{Body: Body8BitMIME}},
		{in: "body=BinaryMime", p: MailParams{Body: BodyBinaryMIME}},
		{in: "BODY=BINARY", no: "501 5.5.4"},
		{in: "BODY", no: "501 5.5.4"},
	})
}

// RFC 4954 8: "The decoded form of the xtext MUST be either a <mailbox> or the two
// characters "<>"". The examples are those of RFC 4954 5.1.
func TestParamAuth(t *testing.T) {
	checkMail(t, everyExt, []value{
		{in: "AUTH=<>", p: MailParams{Auth: "<>"}},
		{in: "AUTH=+3C+3E", p: MailParams{Auth: "<>"}},
		{in: "AUTH=e+3Dmc2@example.com", p: MailParams{Auth: "e=mc2@example.com"}},
		{in: "AUTH=+22a+20b+22@example.com", p: MailParams{Auth: `"a b"@example.com`}},
		{in: "AUTH=" + strings.Repeat("x", 64) + "@" + strings.Repeat("x.", 90) + "x", p: MailParams{Auth: strings.Repeat("x", 64) + "@" + strings.Repeat("x.", 90) + "x"}},
		{in: "AUTH=" + strings.Repeat("+78", 64) + "@" + strings.Repeat("+78+2E", 52) + "x", no: "501 5.5.4"}, // over 500
		{in: "AUTH=a+3d@b", no: "501 5.5.4"},
		{in: "AUTH=+00", no: "501 5.5.4"},
		{in: "AUTH=a@b+0D+0ARCPT", no: "501 5.5.4"},
		{in: "AUTH=user", no: "501 5.5.4"},
		{in: "AUTH=postmaster", no: "501 5.5.4"},
		{in: "AUTH=", no: "501 5.5.4"},
		{in: "AUTH", no: "501 5.5.4"},
	})
}

// RFC 2852 4: by-value = by-time";"by-mode[by-trace], by-time = ["-" / "+"]1*9digit.
func TestParamBy(t *testing.T) {
	by := func(n int32, m ByMode, trace bool) MailParams { return MailParams{By: DeliverBy{n, m, trace}} }
	checkMail(t, everyExt, []value{
		{in: "BY=120;R", p: by(120, ByReturn, false)}, // RFC 2852 6
		{in: "BY=98;R", p: by(98, ByReturn, false)},
		{in: "by=+120;nt", p: by(120, ByNotify, true)},
		{in: "BY=-12;N", p: by(-12, ByNotify, false)},
		{in: "BY=0;NT", p: by(0, ByNotify, true)},
		{in: "BY=999999999;RT", p: by(999_999_999, ByReturn, true)},
		{in: "BY=-999999999;N", p: by(-999_999_999, ByNotify, false)},
		{in: "BY=000000001;R", p: by(1, ByReturn, false)},
		{in: "BY=0;R", no: "501 5.5.4"}, // "a zero or negative by-time is a syntax error"
		{in: "BY=-1;RT", no: "501 5.5.4"},
		{in: "BY=1000000000;N", no: "501 5.5.4"},
		{in: "BY=0000000001;N", no: "501 5.5.4"}, // ten digits
		{in: "BY=120", no: "501 5.5.4"},
		{in: "BY=;R", no: "501 5.5.4"},
		{in: "BY=+;R", no: "501 5.5.4"},
		{in: "BY=+-1;N", no: "501 5.5.4"},
		{in: "BY=1.5;R", no: "501 5.5.4"},
		{in: "BY=120;T", no: "501 5.5.4"},
		{in: "BY=120;RN", no: "501 5.5.4"},
		{in: "BY=120;RTT", no: "501 5.5.4"},
		{in: "BY=120;", no: "501 5.5.4"},
		{in: "BY", no: "501 5.5.4"}, // "the BY esmtp-keyword MUST have an associated esmtp-value"
		{in: "BY=1;R BY=2;R", no: "501 5.5.4"},
	})
}

// RFC 4865 3: future-release-integer = %x31-39 *8DIGIT, and a date-time in UTC.
func TestParamHold(t *testing.T) {
	checkMail(t, everyExt, []value{
		{in: "HOLDFOR=1", p: MailParams{Hold: Hold{For: time.Second}}},
		{in: "holdfor=999999999", p: MailParams{Hold: Hold{For: 999_999_999 * time.Second}}},
		{in: "HOLDUNTIL=2026-11-22T10:00:00Z", p: MailParams{Hold: Hold{Until: date("2026-11-22T10:00:00Z")}}},
		{in: "HOLDUNTIL=2026-11-22t10:00:00z", p: MailParams{Hold: Hold{Until: date("2026-11-22T10:00:00Z")}}},
		{in: "HOLDUNTIL=2026-11-22T10:00:00.00Z", p: MailParams{Hold: Hold{Until: date("2026-11-22T10:00:00Z")}}},
		{in: "HOLDUNTIL=2026-11-22T10:00:00.01Z", p: MailParams{Hold: Hold{Until: date("2026-11-22T10:00:01Z")}}},
		{in: "HOLDUNTIL=2026-11-22T10:00:00.000000001Z", p: MailParams{Hold: Hold{Until: date("2026-11-22T10:00:01Z")}}},
		{in: "HOLDUNTIL=2026-12-31T23:59:60Z", p: MailParams{Hold: Hold{Until: date("2027-01-01T00:00:00Z")}}},
		{in: "HOLDFOR=0", no: "501 5.5.4"},
		{in: "HOLDFOR=01", no: "501 5.5.4"},
		{in: "HOLDFOR=-1", no: "501 5.5.4"},
		{in: "HOLDFOR=1000000000", no: "501 5.5.4"},
		{in: "HOLDFOR", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-11-22T10:00:00+01:00", no: "501 5.5.4"}, // not in UTC
		{in: "HOLDUNTIL=2026-11-22T10:00:00", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-11-22T10:00:00.Z", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-11-22T10:00:00,5Z", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-02-29T10:00:00Z", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-11-22T9:00:00Z", no: "501 5.5.4"},
		{in: "HOLDUNTIL=Z", no: "501 5.5.4"},
		// RFC 4865 4.2: "more than one hold-param".
		{in: "HOLDFOR=1 HOLDUNTIL=2026-11-22T10:00:00Z", no: "501 5.5.4"},
		{in: "HOLDUNTIL=2026-11-22T10:00:00Z HOLDFOR=1", no: "501 5.5.4"},
		{in: "HOLDFOR=1 HOLDFOR=1", no: "501 5.5.4"},
	})
}

// RFC 3461 5.4: "ENVID parameter: 100 characters", as they stand in the command.
func TestParamEnvID(t *testing.T) {
	most := strings.Repeat("+41", 33)
	checkMail(t, everyExt, []value{
		{in: "ENVID=" + strings.Repeat("a", 100), p: MailParams{EnvID: strings.Repeat("a", 100)}},
		{in: "ENVID=" + most + "a", p: MailParams{EnvID: strings.Repeat("A", 33) + "a"}},
		{in: "ENVID=" + strings.Repeat("a", 101), no: "501 5.5.4"},
		{in: "ENVID=" + most + "aa", no: "501 5.5.4"},
		{in: "ENVID=a+0Ab", no: "501 5.5.4"},
	})
}

// RFC 6710 7: priority-value = (["-"] NZDIGIT) / "0".
func TestParamPriority(t *testing.T) {
	checkMail(t, everyExt, []value{
		{in: "MT-PRIORITY=9", p: MailParams{Priority: 9}},
		{in: "mt-priority=-9", p: MailParams{Priority: -9}},
		{in: "MT-PRIORITY=0"},
		{in: "MT-PRIORITY=10", no: "501 5.5.2"},
		{in: "MT-PRIORITY=-0", no: "501 5.5.2"},
		{in: "MT-PRIORITY=+1", no: "501 5.5.2"},
		{in: "MT-PRIORITY=01", no: "501 5.5.2"},
		{in: "MT-PRIORITY=", no: "501 5.5.4"}, // no esmtp-param at all
		{in: "MT-PRIORITY", no: "501 5.5.2"},
		{in: "MT-PRIORITY=1 MT-PRIORITY=1", no: "501 5.5.4"},
	})
}

// RFC 3865 2.2: Solicitation-keywords = word 0*("," word), "length of this string is
// limited to <= 1000 characters", word = ALPHA 0*(wordchar).
func TestParamSolicit(t *testing.T) {
	long := strings.Repeat("a", 1000)
	checkMail(t, everyExt, []value{
		{in: "SOLICIT=org.example:ADV:ADLT", p: MailParams{Solicit: "org.example:ADV:ADLT"}},
		{in: "SOLICIT=net.example:ADV,org.example:ADV-x_1", p: MailParams{Solicit: "net.example:ADV,org.example:ADV-x_1"}},
		{in: "SOLICIT=" + long, p: MailParams{Solicit: long}},
		{in: "SOLICIT=" + long + "a", no: "501 5.5.4"},
		{in: "SOLICIT=1a", no: "501 5.5.4"},
		{in: "SOLICIT=a,", no: "501 5.5.4"},
		{in: "SOLICIT=,a", no: "501 5.5.4"},
		{in: "SOLICIT=a/b", no: "501 5.5.4"},
		{in: "SOLICIT", no: "501 5.5.4"},
	})
}

// RFC 7293 3.1: rrvs-param = "RRVS=" date-time [ ";" ( "C" / "R" ) ].
func TestParamRRVS(t *testing.T) {
	at := date("2014-04-03T23:01:00Z")
	for in, want := range map[string]RRVS{
		"2014-04-03T23:01:00Z": {Since: at}, "2014-04-03T23:01:00Z;R": {Since: at}, "2014-04-03T23:01:00Z;C": {at, true},
		"2014-04-03T23:01:00z;c": {at, true}, "2014-04-03T23:01:00z;r": {Since: at}, "2014-04-04T01:01:00+02:00": {Since: at}, "2014-04-03T00:01:00-23:00;C": {at, true}, "2014-04-03T23:01:00-00:00": {Since: at},
		"2014-04-03T23:01:00.0Z": {}, "2014-04-03T23:01:00": {}, "2014-04-03T23:01:00Z;": {}, "2014-04-03T23:01:00Z;X": {}, "2014-04-03T23:01:00Z;RC": {},
		"2014-04-03 23:01:00Z": {}, "2014-04-03T23:01Z": {}, "2014-13-03T23:01:00Z": {}, "2014-04-03T24:01:00Z": {}, "2014-04-03T23:01:61Z": {},
		"2014-04-03T23:01:00+24:00": {}, "2014-04-03T23:01:00+00:60": {}, "2014-04-03T23:01:00+0000": {}, "0001-01-01T00:00:00+23:59": {}, "9999-12-31T23:59:59-00:01": {}, "": {}, "R": {},
	} {
		_, p, no := ParseRcpt("TO:<a@b> RRVS="+in, everyExt)
		if p.RRVS != want || (no == nil) != (want != RRVS{}) || no != nil && !strings.HasPrefix(no.String(), "501 5.5.4") {
			t.Errorf("RRVS=%s: %+v, %v; want %+v", in, p, no, want)
			continue
		}
		wire := AppendRcpt(nil, Path{"a", "b"}, p)
		if _, again, no := ParseRcpt(string(wire[len("RCPT "):len(wire)-2]), everyExt); no != nil || again != p {
			t.Errorf("RRVS=%s: printed as %q, which is %+v, %v", in, wire, again, no)
		}
	}
}

// RFC 9422 3.7: a wrong parameter is ignored as a whole, a wrong limit alone.
func TestParseLimits(t *testing.T) {
	for in, want := range map[string]Limits{
		"RCPTMAX=20 MAILMAX=5":           {MailMax: 5, RcptMax: 20}, // RFC 9422 5
		"rcptdomainmax=1":                {RcptDomainMax: 1},
		"RCPTMAX=999999":                 {RcptMax: 999999},
		"RCPTMAX=1000000 MAILMAX=5":      {MailMax: 5},
		"RCPTMAX=0 MAILMAX=05 X-Y_Z=a=b": {},
		"RCPTMAX NEW=\x7e MAILMAX=5":     {MailMax: 5},
		"MAILMAX=5 RCPTMAX=":             {},
		"MAILMAX=5 A.B=1":                {},
		"MAILMAX=5  RCPTMAX=6":           {},
		"MAILMAX=5 NEW=;":                {},
		"":                               {},
	} {
		got := ParseLimits(in)
		if got != want {
			t.Errorf("ParseLimits(%q) = %+v, want %+v", in, got, want)
		}
		if again := ParseLimits(got.String()); again != got {
			t.Errorf("%+v printed as %q, which is %+v", got, got.String(), again)
		}
	}
}

func TestParseEHLOParams(t *testing.T) {
	for in, want := range map[string]int32{"": 0, "120": 120, "0": 0, "999999999": 999_999_999, "1000000000": -1, "-1": -1, "1 2": -1, "120,x": 120, ",x": 0, "x,1": -1} {
		if got, ok := ParseByMin(in); ok != (want >= 0) || ok && got != want {
			t.Errorf("ParseByMin(%q) = %d, %v", in, got, ok)
		}
	}
	for in, want := range map[string]int64{"": 0, "0": 0, "1000": 1000, "1k": -1, "1 2": -1} {
		if got, ok := ParseSizeLimit(in); ok != (want >= 0) || ok && got != want {
			t.Errorf("ParseSizeLimit(%q) = %d, %v", in, got, ok)
		}
	}
	// What cannot be said is left out, and no interval at all is none that RFC 4865 3 has.
	if got := (Limits{MailMax: 1_000_000, RcptMax: 999_999}).String(); got != "RCPTMAX=999999" {
		t.Errorf("a limit of seven digits: %q", got)
	}
	if got, _, _ := strings.Cut(FutureRelease{Max: time.Millisecond}.String(), " "); got != "1" {
		t.Errorf("the longest interval is %q", got)
	}
	future := FutureRelease{7 * 24 * time.Hour, date("2026-11-29T10:00:00Z")}
	for in, want := range map[string]bool{
		future.String(): true, "604800 2026-11-29T10:00:00Z": true, "604800": false, "": false, "2026-11-29T10:00:00Z 604800": false, "604800 soon": false,
	} {
		if got, ok := ParseFutureRelease(in); ok != want || ok && got != future {
			t.Errorf("ParseFutureRelease(%q) = %+v, %v", in, got, ok)
		}
	}
	if got := ParseMechanisms(" plain  SCRAM-SHA-256"); !slices.Equal(got, []string{"PLAIN", "SCRAM-SHA-256"}) {
		t.Errorf("ParseMechanisms: %q", got)
	}
	for in, want := range map[string]bool{"MIXER": true, "a-b_c.1": true, strings.Repeat("a", 20): true, strings.Repeat("a", 21): false, "": false, "a b": false} {
		if IsPriorityProfile(in) != want {
			t.Errorf("IsPriorityProfile(%q) is %v", in, !want)
		}
	}
	if words, ok := ParseSolicit("net.example:ADV,org.example:ADV:ADLT"); !ok || len(words) != 2 {
		t.Errorf("ParseSolicit: %q, %v", words, ok)
	}
}
