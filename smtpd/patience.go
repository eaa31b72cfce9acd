package smtpd

import (
	"time"

	"github.com/postrider/postrider/smtp"
)

// A pace says how much longer a client that sends content may keep us waiting.
// The deadline of one read alone would let an octet every few minutes hold a
// connection for ever. Only the time that we wait for the client counts, and not
// what we need ourselves to write down what it has sent.
type pace struct {
	left time.Duration // how far the client may still fall behind its rate
	max  time.Duration
	rate int // octets per second; negative: any
}

func (s *Server) pace() pace {
	most := 2 * s.dataTimeout()
	return pace{left: most, max: most, rate: or(s.MinRate, 256)}
}

// patience is how long to wait for the next octets.
func (p *pace) patience(timeout time.Duration) time.Duration {
	if p.rate < 0 {
		return timeout
	}
	return min(timeout, p.left)
}

// read takes note of n octets that were waited for.
func (p *pace) read(n int, waited time.Duration) {
	if p.rate < 0 {
		return
	}
	p.left = min(p.max, p.left-waited+time.Duration(n)*time.Second/time.Duration(p.rate))
}

// limits are how much of what brings no mail a connection may do.
type limits struct {
	faults   int
	refusals int
	idle     int
}

func (s *Server) limits() limits {
	return limits{faults: or(s.MaxErrors, 20), refusals: or(s.MaxRefused, 100), idle: or(s.MaxIdle, 100)}
}

// wearies counts the reply to a command that was no fault, and reports whether
// the client has asked enough. Senders, recipients and names asked for by VRFY and
// EXPN that were refused for good are refusals; each recipient of a message that is accepted makes up for one of
// them, so that who guesses addresses gains nothing by a message between, and who
// sends to a long list is not cut off for what is out of date in it. Commands that
// are never part of a transaction, MAIL in vain among them, are idle.
func (s *state) wearies(verb string, r smtp.Reply, l limits) bool {
	switch {
	case verb == "RCPT" || verb == "MAIL" || verb == "VRFY" || verb == "EXPN":
		if r.Code >= 505 {
			s.refusals++
		}
		if verb == "MAIL" && !r.Positive() || verb == "VRFY" || verb == "EXPN" {
			s.idle++
		}
	case verb != "DATA" && verb != "BDAT":
		s.idle++
	}
	return s.refusals >= l.refusals || s.idle >= l.idle
}

// weary returns why no more is taken from a client, or nothing.
func (c *conn) weary(verb string, r smtp.Reply) string {
	l := c.server.limits()
	faulty, idle := c.state.answered(verb, r, l.faults), c.state.wearies(verb, r, l)
	switch {
	case r.Code == 421 || c.quitting || c.closing:
		return ""
	case faulty:
		return "Too many errors"
	case idle:
		return "Too many commands that bring no mail"
	case c.chunks == nil && c.overdue():
		return noMail
	}
	return ""
}

// noMail is what a client hears whose connection is overdue.
const noMail = "No mail has come for too long"

// overdue reports whether the time of the session is over.
func (c *conn) overdue() bool { return time.Since(c.since) > c.server.sessionTimeout() }
