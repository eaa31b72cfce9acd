package smtpd

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// What each verb is answered in the phases refused, greeted, ready, mailing and
// rcpting; 0: it is allowed.
var orderOf = map[string][nPhases]int{
	"EHLO":     {503, 0, 0, 0, 0},
	"HELO":     {503, 0, 0, 0, 0},
	"MAIL":     {503, 503, 0, 503, 503},
	"RCPT":     {503, 503, 503, 0, 0},
	"DATA":     {503, 503, 503, 554, 0},
	"LHLO":     {503, 502, 502, 502, 502},
	"STARTTLS": {503, 0, 0, 503, 503},
	"AUTH":     {503, 503, 0, 503, 503},
	"RSET":     {503, 0, 0, 0, 0},
	"NOOP":     {503, 0, 0, 0, 0},
	"VRFY":     {503, 0, 0, 0, 0},
	"HELP":     {503, 0, 0, 0, 0},
	"QUIT":     {0, 0, 0, 0, 0},
	"EXPN":     {503, 502, 502, 502, 502},
	"FOO":      {503, 500, 500, 500, 500},
}

func TestOrder(t *testing.T) {
	testOrder(t, false, orderOf)
	lmtp := maps.Clone(orderOf)
	lmtp["EHLO"] = [nPhases]int{503, 500, 500, 500, 500}
	lmtp["HELO"] = lmtp["EHLO"]
	lmtp["LHLO"] = orderOf["EHLO"]
	lmtp["DATA"] = [nPhases]int{503, 503, 503, 503, 0}
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
	var names []string
	for _, v := range verbs {
		if v.run != nil {
			names = append(names, v.name)
		}
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
	var accepted, esmtp, authed bool // of MAIL and of EHLO, as a client remembers them
	rcpts := 0
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
		switch v.name {
		case "EHLO", "HELO":
			ext := smtp.Extensions(0)
			if v.name == "EHLO" {
				ext = offered
			}
			s.hello(ext, reply)
			if reply.Positive() {
				accepted, rcpts, esmtp = false, 0, v.name == "EHLO"
			}
		case "MAIL":
			if accepted {
				t.Fatal("MAIL in a transaction")
			}
			s.mail(esmtp, reply, 3)
			accepted = reply.Positive()
		case "RCPT":
			if !accepted {
				t.Fatal("RCPT without MAIL")
			}
			s.rcpt(reply)
			if reply.Positive() {
				rcpts++
			}
		case "DATA":
			if !accepted || rcpts == 0 {
				t.Fatal("DATA without a recipient")
			}
			s.reset()
			s.data(reply)
			accepted, rcpts = false, 0
			if reply.Positive() && s.faults != 0 {
				t.Fatal("a message did not set the faults back")
			}
		case "RSET":
			s.reset()
			accepted, rcpts = false, 0
		case "AUTH":
			if accepted {
				t.Fatal("AUTH in a transaction")
			}
			s.auth(reply)
			authed = authed || reply.Positive()
		case "STARTTLS":
			if accepted {
				t.Fatal("STARTTLS in a transaction")
			}
			faults := s.faults
			s.secured()
			if s != (state{phase: greeted, faults: faults}) {
				t.Fatalf("after TLS: %+v", s)
			}
			rcpts, esmtp, authed = 0, false, false
		}
		if s.authed != authed {
			t.Fatalf("after %s %d: %+v, want authed %v", v.name, reply.Code, s, authed)
		}
		if s.open() != accepted || s.rcpts != rcpts || (s.phase == rcpting) != (rcpts > 0) {
			t.Fatalf("after %s %d: %+v, want open %v with %d recipients", v.name, reply.Code, s, accepted, rcpts)
		}
		if s.phase != greeted && (s.ext != 0) != esmtp || s.rcptExt().Has(smtp.ExtSMTPUTF8) != (esmtp && accepted) {
			t.Fatalf("after %s %d: %+v has extensions that are not in force", v.name, reply.Code, s)
		}
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
	s.mail(false, smtp.Reply{Code: 550}, 5)
	n := 0
	for !s.answered("RCPT", smtp.Reply{Code: 503}, 3) {
		n++
	}
	if n != 5+2 {
		t.Errorf("%d commands passed, want 7", n)
	}
}
