package smtpd

import "github.com/postrider/postrider/smtp"

// A phase is where a connection stands in the order of commands
// (RFC 5321 4.1.4).
type phase uint8

const (
	refused  phase = iota // the greeting was no 220: QUIT is all that is left
	greeted               // no EHLO or HELO yet
	ready                 // no transaction is open
	mailing               // MAIL was accepted, and no recipient yet
	rcpting               // a recipient was accepted: DATA may come
	chunking              // BDAT was accepted, and was not the last
	spoilt                // a BDAT was refused: the others are too, up to the last
	nPhases  = iota
)

// A state is all that the protocol remembers of a connection. It is pure: its
// methods do no I/O, look at no clock and call nobody. A command goes through
// begin, which says whether it is allowed; its handler does the work; and the
// method of its verb takes note of the reply.
type state struct {
	lmtp   bool // LHLO takes the place of EHLO and HELO
	phase  phase
	ext    smtp.Extensions // in force: what EHLO offered, nothing after HELO
	utf8   bool            // the transaction has SMTPUTF8
	binary bool            // the transaction has BODY=BINARYMIME
	rcpts  int             // recipients of the transaction
	authed bool            // AUTH has succeeded
	faults int             // commands that failed since the last message; see answered
	// refusals and idle are what else brings no mail; see wearies.
	refusals, idle int
	// excused is how many more of the commands that depend on a refused MAIL are
	// no fault: a client that pipelines sent them before it could know.
	excused int
	// refusal answers in the phase refused. Nil: the greeting has said it already.
	refusal *smtp.Reply
	spoilt  *smtp.Reply // answers BDAT in the phase spoilt
}

// begin looks a command up and says whether it is allowed now, with its
// argument. A nil Reply means that it is.
func (s *state) begin(cmd smtp.Command) (*verb, *smtp.Reply) {
	v := lookup(cmd.Verb)
	switch {
	case s.phase == refused && (v == nil || v.name != "QUIT"):
		return v, s.outOfOrder(cmd.Verb)
	case v == nil:
		return nil, no(500, 5, 2, "Command not recognized")
	case s.lmtp && (v.name == "EHLO" || v.name == "HELO"):
		// RFC 2033 4.1: "A LMTP server MUST NOT return a Postive Completion reply code
		// to these commands. The 500 reply code is recommended."
		return v, no(500, 5, 1, "This is LMTP: say LHLO")
	case v.run == nil, v.name == "LHLO" && !s.lmtp:
		return v, no(502, 5, 1, "Command not implemented")
	case !v.in.has(s.phase):
		return v, s.outOfOrder(cmd.Verb)
	case v.arg == noArg && cmd.Arg != "":
		// RFC 5321 4.3.2: "commands that are specified in this document as not
		// accepting arguments (DATA, RSET, QUIT) SHOULD return a 501".
		return v, no(501, 5, 4, v.name+" takes no argument")
	case v.arg == needsArg && cmd.Arg == "":
		return v, no(501, 5, 4, v.name+" needs an argument")
	}
	return v, nil
}

// outOfOrder is the reply to a verb that is not allowed in this phase.
func (s *state) outOfOrder(verb string) *smtp.Reply {
	switch {
	case s.phase == refused && s.refusal != nil:
		return s.refusal
	case s.phase == refused:
		// RFC 5321 3.1: "SHOULD respond to any intervening commands with "503 bad
		// sequence of commands"".
		return no(503, 5, 1, "No service here, say QUIT")
	case s.phase == greeted && s.lmtp:
		return no(503, 5, 1, "Say LHLO first")
	case s.phase == greeted:
		return no(503, 5, 1, "Say EHLO or HELO first")
	case s.phase == chunking, s.phase == spoilt:
		return no(503, 5, 1, "Chunks of a message are under way: say BDAT or RSET")
	case verb == "MAIL", s.open() && (verb == "STARTTLS" || verb == "AUTH" || verb == "XCLIENT"):
		// RFC 4954 4: "An AUTH command issued during a mail transaction MUST be
		// rejected with a 503 reply."
		return no(503, 5, 1, "A transaction is open already")
	case (verb == "DATA" || verb == "BDAT") && s.phase == mailing && s.lmtp:
		// RFC 2033 4.2: "when there have been no successful RCPT commands in the mail
		// transaction, the DATA command MUST fail with a 503 reply code".
		return no(503, 5, 1, "No valid recipients")
	case (verb == "DATA" || verb == "BDAT") && s.phase == mailing:
		// RFC 5321 3.3: "If there was no MAIL, or no RCPT, command, or all such
		// commands were rejected, the server MAY return a "command out of sequence"
		// (503) or "no valid recipients" (554) reply".
		return no(554, 5, 1, "No valid recipients")
	}
	return no(503, 5, 1, "Say MAIL first")
}

// hello takes note of an EHLO or HELO that was answered with r and offered ext,
// which is nothing in the answer to HELO. RFC 5321 4.1.4:
// an EHLO that is refused leaves the state as it was, and one that is accepted
// clears "exactly as if a RSET command had been issued".
func (s *state) hello(ext smtp.Extensions, r smtp.Reply) {
	if !r.Positive() {
		return
	}
	s.reset()
	s.phase, s.ext = ready, ext
}

// auth takes note of an AUTH that was answered with r.
func (s *state) auth(r smtp.Reply) { s.authed = s.authed || r.Positive() }

// secured takes note of a TLS handshake. RFC 3207 4.2: "Upon completion of the TLS
// handshake, the SMTP protocol is reset to the initial state". What we have
// noticed ourselves stays: the faults and the like.
func (s *state) secured() {
	*s = state{lmtp: s.lmtp, phase: greeted, faults: s.faults, refusals: s.refusals, idle: s.idle}
}

// refuse takes note that no session was opened after a TLS handshake. RFC 3207 4.1:
// the server "SHOULD reply to every SMTP command from the client (other than a QUIT
// command)" with why.
func (s *state) refuse(r smtp.Reply) { s.phase, s.refusal = refused, &r }

// mail takes note of a MAIL with p that was answered with r.
func (s *state) mail(p smtp.MailParams, r smtp.Reply, excuse int) {
	s.excused = 0
	if !r.Positive() {
		s.excused = excuse
		return
	}
	s.phase, s.rcpts, s.utf8, s.binary = mailing, 0, p.UTF8, p.Body == smtp.BodyBinaryMIME
}

// rcpt takes note of a RCPT that was answered with r.
func (s *state) rcpt(r smtp.Reply) {
	if r.Positive() {
		s.phase = rcpting
		s.rcpts++
	}
}

// rcptExt is what extends RCPT: RFC 6531 3.4 lets UTF-8 into a transaction by
// the parameter of its MAIL.
func (s *state) rcptExt() smtp.Extensions {
	if s.utf8 {
		return s.ext
	}
	return s.ext &^ smtp.ExtSMTPUTF8
}

// chunk takes note of a first BDAT. The transaction goes on, but is no longer the
// session's to reset.
func (s *state) chunk() { s.phase = chunking }

// spoil takes note of a BDAT, not the last, that was answered with r.
func (s *state) spoil(r smtp.Reply) { s.phase, s.spoilt = spoilt, &r }

// data takes note of a content that was answered with r for so many recipients.
func (s *state) data(r smtp.Reply, rcpts int) {
	if r.Positive() {
		s.faults, s.idle = 0, 0
		s.refusals = max(0, s.refusals-rcpts)
	}
}

// reset ends the transaction, if one is open.
func (s *state) reset() {
	if s.phase > ready {
		s.phase = ready
	}
	s.utf8, s.binary, s.rcpts, s.excused, s.spoilt = false, false, 0, 0, nil
}

// open reports whether a transaction is open whose content has not begun.
func (s *state) open() bool { return s.phase == mailing || s.phase == rcpting }

// answered counts the reply to a command, and reports whether the connection
// has made too many faults: commands answered 500 to 504, every AUTH that failed,
// and all that is said where nothing is served.
func (s *state) answered(verb string, r smtp.Reply, limit int) bool {
	fault := r.Code >= 500 && r.Code <= 504 || !r.Positive() && (verb == "AUTH" || s.phase == refused)
	if !fault {
		return false
	}
	if verb == "BDAT" && (s.phase > ready || s.excused > 0) {
		return false // of how many chunks a message is, nobody is to be blamed for
	}
	if r.Code == 503 && s.excused > 0 {
		s.excused--
		return false
	}
	s.faults++
	return s.faults >= limit
}

// no makes a permanent Reply 5.subject.detail.
func no(code int, subject, detail uint16, text string) *smtp.Reply {
	return &smtp.Reply{Code: code, Status: smtp.Status{Class: 5, Subject: subject, Detail: detail}, Text: text}
}
