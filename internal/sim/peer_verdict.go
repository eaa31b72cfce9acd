package sim

import (
	"strings"
	"time"
)

// A verdict is what a peer of mixed mind says to recipients whose local part begins
// so: at RCPT, and over LMTP after the final dot.
type verdict struct {
	prefix string
	code   int
	status string
	share  float64 // of the times; else it takes them
	early  bool    // over LMTP too it is said at RCPT
}

// verdicts are all in one batch. RFC 5321 4.5.3.1.10 has clients take a 552 at RCPT
// for a 452, but where RFC 1870 6.4 means the size by it.
var verdicts = []verdict{
	{"no-", 550, "5.1.1", 1, false},
	{"out-", 550, "5.1.1", 1, true},
	{"full-", 552, "5.2.2", 1, false},
	{"big-", 552, "5.3.4", 1, false},
	{"wait-", 450, "4.2.1", 0.6, false},
	{"soon-", 450, "4.2.1", 0.4, true},
	{"busy-", 451, "4.3.2", 0.4, false},
	{"late-", 452, "4.2.2", 0.4, false},
	{"many-", 552, "5.5.3", 0.4, false}, // at RCPT it may be another at another time
}

// verdict is what the peer says of a recipient at RCPT, or at the end; nil: it takes
// it.
func (s *session) verdict(to string, atRcpt bool) *verdict {
	for i := range verdicts {
		v := &verdicts[i]
		if !strings.HasPrefix(to, v.prefix) || v.share < 1 && s.p.calmed() || s.h.LMTP && v.early != atRcpt {
			continue
		}
		if unit(s.p.seed^nameKey(s.p.name+s.from+to), uint64(time.Now().UnixNano())) >= v.share {
			continue
		}
		s.tell("mixed")
		if v.share == 1 {
			s.p.refuse(s.from, to, v.code)
		}
		return v
	}
	return nil
}

// finishEach answers the final dot over LMTP, recipient by recipient.
func (s *session) finishEach(content []byte) error {
	s.inspect(content)
	t := &Taken{At: time.Now(), From: s.from, Content: content, SevenBit: !s.offer["8BITMIME"], Final: 250, conn: s.c}
	said := make([]*verdict, len(s.rcpts))
	for i, to := range s.rcpts {
		if said[i] = s.verdict(to, false); said[i] == nil {
			t.Rcpts = append(t.Rcpts, to)
		}
	}
	if len(t.Rcpts) > 0 {
		s.p.take(t)
	}
	drop := len(said) + 1
	if s.befalls("drop_between", s.from+s.rcpts[0], s.h.DropBetween) {
		drop = int(mix(s.key, 4) % uint64(len(said)))
	}
	for i, v := range said {
		if i == drop {
			s.flush()
			return errEnd
		}
		var err error
		if v == nil {
			err = s.reply(250, "2.1.5", "kept")
		} else {
			err = s.reply(v.code, v.status, "not for this one")
		}
		if err != nil {
			return err
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.p.answered(t, s.c.written())
	return nil
}

// shut is a host that takes no mail from anybody. RFC 5321 3.1: "A server taking
// this approach MUST still wait for the client to send a QUIT".
func (s *session) shut() error {
	err := s.reply(554, "", "no SMTP service here")
	for err == nil {
		var line string
		if line, err = s.line(); err != nil || strings.EqualFold(line, "QUIT") {
			break
		}
		err = s.reply(503, "", "no SMTP service here")
	}
	if err == nil {
		s.reply(221, "", "bye")
		s.flush()
	}
	return errEnd
}
