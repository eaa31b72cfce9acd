package smtpd

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// What each verb is answered in the phases refused, greeted, ready, mailing,
// rcpting, chunking and spoilt; 0: it is allowed.
var orderOf = map[string][nPhases]int{
	"EHLO":     {503, 0, 0, 0, 0, 0, 0},
	"HELO":     {503, 0, 0, 0, 0, 0, 0},
	"MAIL":     {503, 503, 0, 503, 503, 503, 503},
	"RCPT":     {503, 503, 503, 0, 0, 503, 503},
	"DATA":     {503, 503, 503, 554, 0, 503, 503},
	"BDAT":     {503, 503, 503, 554, 0, 0, 0},
	"LHLO":     {503, 502, 502, 502, 502, 502, 502},
	"STARTTLS": {503, 0, 0, 503, 503, 503, 503},
	"AUTH":     {503, 503, 0, 503, 503, 503, 503},
	"XCLIENT":  {503, 0, 0, 503, 503, 503, 503},
	"ETRN":     {503, 503, 0, 503, 503, 503, 503},
	"RSET":     {503, 0, 0, 0, 0, 0, 0},
	"NOOP":     {503, 0, 0, 0, 0, 0, 0},
	"VRFY":     {503, 0, 0, 0, 0, 503, 0},
	"HELP":     {503, 0, 0, 0, 0, 0, 0},
	"QUIT":     {0, 0, 0, 0, 0, 0, 0},
	"EXPN":     {503, 0, 0, 0, 0, 503, 0},
	"FOO":      {503, 500, 500, 500, 500, 500, 500},
}

func TestOrder(t *testing.T) {
	testOrder(t, false, orderOf)
	lmtp := maps.Clone(orderOf)
	lmtp["EHLO"] = [nPhases]int{503, 500, 500, 500, 500, 500, 500}
	lmtp["HELO"] = lmtp["EHLO"]
	lmtp["LHLO"] = orderOf["EHLO"]
	lmtp["DATA"] = [nPhases]int{503, 503, 503, 503, 0, 503, 503}
	lmtp["BDAT"] = [nPhases]int{503, 503, 503, 503, 0, 0, 0}
	testOrder(t, true, lmtp)
	for _, v := range verbs {
		if _, ok := orderOf[v.name]; !ok && v.run != nil {
			t.Errorf("%s is not in the table of this test", v.name)
		}
	}
}

func testOrder(t *testing.T, lmtp bool, codes map[string][nPhases]int) {
	for name, want := range codes {
		for p := range want {
			s := state{lmtp: lmtp, phase: phase(p)}
			cmd := smtp.Command{Verb: name}
			if v := lookup(name); v != nil && v.arg == needsArg {
				cmd.Arg = "x"
			}
			before := s
			_, bad := s.begin(cmd)
			code := 0
			if bad != nil {
				code = bad.Code
			}
			if code != want[p] {
				t.Errorf("%s in phase %d, LMTP %v: %d, want %d", name, p, lmtp, code, want[p])
			}
			if s != before {
				t.Errorf("%s in phase %d: asking changed the state", name, p)
			}
		}
	}
}

func TestHelpNamesTheVerbs(t *testing.T) {
	var names, said []string
	for _, v := range verbs {
		if v.run != nil {
			names = append(names, v.name)
		}
	}
	for _, u := range usages {
		said = append(said, u.verb)
	}
	if !slices.Equal(said, names) {
		t.Errorf("HELP explains %q, want %q", said, names)
	}
	if want := "Commands: " + strings.Join(names, " ") + "\n"; !strings.HasPrefix(helpText, want) {
		t.Errorf("helpText is %q, want %q at its start", helpText, want)
	}
}

// RFC 2920 3.2: the server "MUST NOT buffer responses to EHLO, DATA, VRFY, EXPN,
// TURN, QUIT, and NOOP".
func TestGroups(t *testing.T) {
	for _, v := range verbs {
		if want := v.name == "RSET" || v.name == "MAIL" || v.name == "RCPT"; v.group != want {
			t.Errorf("%s: group is %v", v.name, v.group)
		}
	}
}

// A long random walk: whatever is answered, the state keeps what it promises.
func TestStateWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := make([]string, 0, len(orderOf))
	for _, v := range verbs {
		names = append(names, v.name)
	}
	s := state{phase: greeted}
	var c remembered
	for range 100_000 {
		cmd := smtp.Command{Verb: names[r.IntN(len(names))], Arg: "x"}
		if v := lookup(cmd.Verb); v.arg == noArg {
			cmd.Arg = ""
		}
		reply := smtp.Reply{Code: []int{250, 250, 451, 503, 550}[r.IntN(5)]}
		v, bad := s.begin(cmd)
		if bad != nil {
			s.answered(cmd.Verb, *bad, 1<<30)
			continue
		}
		c.step(t, &s, v.name, reply)
		if s.open() != c.open || s.authed != c.authed || s.rcpts != c.rcpts || (s.phase >= rcpting) != (c.rcpts > 0) || (s.phase > rcpting) != c.chunks {
			t.Fatalf("after %s %d: %+v, want %+v", v.name, reply.Code, s, c)
		}
		if s.phase != greeted && (s.ext != 0) != c.esmtp || s.rcptExt().Has(smtp.ExtSMTPUTF8) != (c.esmtp && (c.open || c.chunks)) {
			t.Fatalf("after %s %d: %+v has extensions that are not in force", v.name, reply.Code, s)
		}
	}
}

// remembered is what a client knows of its connection.
type remembered struct {
	esmtp, authed, open bool
	chunks              bool // some have been sent, and not the last
	rcpts               int
}

// step takes note of a command that was allowed, on both sides.
func (c *remembered) step(t *testing.T, s *state, verb string, reply smtp.Reply) {
	t.Helper()
	switch {
	case c.open && (verb == "MAIL" || verb == "AUTH" || verb == "STARTTLS"), !c.open && verb == "RCPT", c.rcpts == 0 && (verb == "DATA" || verb == "BDAT"), c.chunks && (verb == "DATA" || verb == "VRFY" && s.phase == chunking):
		t.Fatalf("%s is allowed: %+v", verb, c)
	}
	yes := reply.Positive()
	switch verb {
	case "EHLO", "HELO":
		ext := smtp.Extensions(0)
		if verb == "EHLO" {
			ext = always | promises
		}
		s.hello(ext, reply)
		if yes {
			c.open, c.chunks, c.rcpts, c.esmtp = false, false, 0, verb == "EHLO"
		}
	case "MAIL":
		s.mail(smtp.MailParams{UTF8: c.esmtp}, reply, 3)
		c.open = yes
	case "RCPT":
		s.rcpt(reply)
		if yes {
			c.rcpts++
		}
	case "DATA":
		s.reset()
		s.data(reply, 1)
		c.open, c.rcpts = false, 0
		if yes && s.faults != 0 {
			t.Fatal("a message did not set the faults back")
		}
	case "BDAT":
		switch reply.Code {
		case 250:
			s.chunk()
			c.open, c.chunks = false, true
		case 550: // the last
			s.reset()
			c.open, c.chunks, c.rcpts = false, false, 0
		default:
			s.spoil(reply)
			c.open, c.chunks = false, true
		}
	case "RSET":
		s.reset()
		c.open, c.chunks, c.rcpts = false, false, 0
	case "AUTH":
		s.auth(reply)
		c.authed = c.authed || yes
	case "STARTTLS":
		want := state{phase: greeted, faults: s.faults}
		s.secured()
		if *s != want {
			t.Fatalf("after TLS: %+v", s)
		}
		*c = remembered{}
	}
}

// A session that begins again, behind STARTTLS or XCLIENT, gives nobody more faults, names to
// guess and idle commands than a connection has, and forgets all that the client has said.
func TestSecuredKeepsWhatWeHaveNoticed(t *testing.T) {
	said := smtp.Reply{Code: 554}
	s := state{lmtp: true, phase: ready, ext: always, utf8: true, binary: true, rcpts: 1, authed: true, excused: 5,
		faults: 2, refusals: 3, idle: 4, refusal: &said, spoilt: &said}
	s.secured()
	if want := (state{lmtp: true, phase: greeted, faults: 2, refusals: 3, idle: 4}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestAnswered(t *testing.T) {
	s := state{phase: ready}
	for _, c := range []struct {
		code int
		full bool
	}{{500, false}, {250, false}, {505, false}, {499, false}, {554, false}, {504, false}, {501, true}} {
		if got := s.answered("NOOP", smtp.Reply{Code: c.code}, 3); got != c.full {
			t.Errorf("%d: %v", c.code, got)
		}
	}
	// Every AUTH that fails is one.
	s = state{phase: ready}
	for i, code := range []int{535, 235, 454, 538} {
		if got := s.answered("AUTH", smtp.Reply{Code: code}, 3); got != (i == 3) {
			t.Errorf("AUTH %d: %v", code, got)
		}
	}
	// Commands behind a refused MAIL are excused, but not without end.
	s = state{phase: ready}
	s.mail(smtp.MailParams{}, smtp.Reply{Code: 550}, 5)
	n := 0
	for !s.answered("RCPT", smtp.Reply{Code: 503}, 3) {
		n++
	}
	if n != 5+2 {
		t.Errorf("%d commands passed, want 7", n)
	}
}
