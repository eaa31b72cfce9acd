package sim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// A session is one connection of a peer.
type session struct {
	p     *Peer
	c     *conn
	h     Habit
	key   uint64 // of its chance
	r     *bufio.Reader
	w     *bufio.Writer
	wait  time.Duration // before each reply
	junk  *junk
	offer map[string]bool
	step  string // which reply comes next: "greeting", "ehlo", ...

	hello bool
	mail  bool
	from  string
	eight bool // BODY=8BITMIME was said
	rcpts []string
}

// errEnd ends a session that has gone as it should.
var errEnd = errors.New("sim: end of session")

// Bounds of what a peer takes.
const (
	peerIdle    = 5 * time.Minute // RFC 5321 4.5.3.2.7
	peerLineMax = 4096
	peerSizeMax = 32 << 20
)

// serve holds one dialogue.
func (p *Peer) serve(c *conn) {
	defer c.Close()
	h, tooMany := p.come(c)
	defer p.gone(c)
	now := time.Now()
	s := &session{p: p, c: c, h: h, r: bufio.NewReaderSize(c, peerLineMax), w: bufio.NewWriter(c), step: "greeting"}
	s.key = mix(p.seed^nameKey(p.name+"<"+c.remote.Addr().String()), uint64(now.UnixNano()))
	if s.strikes("tarpit", h.Tarpit) {
		s.wait = time.Duration(unit(s.key, 1) * float64(h.TarpitMax))
	}
	if s.chance("garbage", h.Garbage) {
		s.junk = newJunk(mix(s.key, 2))
	}
	s.offers()
	if s.greet(tooMany) != nil {
		return
	}
	for {
		if err := s.command(); err != nil {
			s.flush()
			return
		}
	}
}

// chance decides by the key of the connection, and strikes tells of it too.
func (s *session) chance(kind string, of float64) bool {
	return of > 0 && unit(s.key^nameKey(kind), 0) < of
}

func (s *session) strikes(kind string, of float64) bool {
	hit := s.chance(kind, of)
	if hit {
		s.tell(kind)
	}
	return hit
}

// befalls decides by what was said, and by the instant.
func (s *session) befalls(kind, said string, of float64) bool {
	hit := of > 0 && unit(s.p.seed^nameKey(s.p.name+kind+said), uint64(time.Now().UnixNano())) < of
	if hit {
		s.tell(kind)
	}
	return hit
}

func (s *session) tell(kind string) { s.p.net.fire("peer_"+kind, s.p.name) }

// offers chooses the extensions.
func (s *session) offers() {
	s.offer = map[string]bool{}
	for _, ext := range []string{"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES"} {
		s.offer[ext] = !s.chance(ext, s.h.Plain)
	}
	s.offer["8BITMIME"] = !s.chance("8BITMIME", s.h.SevenBit)
}

// greet says the first word.
func (s *session) greet(tooMany bool) error {
	switch {
	case tooMany:
		s.tell("connection_rate")
		s.reply(421, "4.7.0", "too many connections")
	case s.h.Shut:
		return s.shut()
	case s.strikes("busy", s.h.Busy):
		s.reply(421, "4.3.2", "busy")
	default:
		err := s.reply(220, "", s.p.name+" ESMTP")
		if err == nil {
			err = s.flush()
		}
		if err == nil && s.strikes("close_first", s.h.CloseFirst) {
			return errEnd
		}
		return err
	}
	s.flush()
	return errEnd
}

// reply writes one reply. Its text is one line.
func (s *session) reply(code int, status, text string) error {
	if status != "" && s.offer["ENHANCEDSTATUSCODES"] && s.hello {
		text = status + " " + text
	}
	return s.put(strconv.Itoa(code) + " " + text + "\r\n")
}

// put writes the lines of a reply, or what the peer takes for one.
func (s *session) put(lines string) error {
	if s.wait > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		s.p.nap(s.wait)
	}
	if s.junk != nil && s.junk.step == s.step {
		lines = s.junk.instead(lines)
		s.tell("garbage")
	}
	_, err := s.w.WriteString(lines)
	return err
}

// flush sends what was written, in one piece.
func (s *session) flush() error { return s.w.Flush() }

// line reads one line that ends in CRLF, without it.
func (s *session) line() (string, error) {
	if s.r.Buffered() == 0 {
		if err := s.flush(); err != nil {
			return "", err
		}
	}
	s.c.SetDeadline(time.Now().Add(peerIdle))
	b, err := s.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if !bytes.HasSuffix(b, []byte("\r\n")) {
		s.p.breach(fmt.Sprintf("a command ends without CRLF: %q", b))
		return "", errEnd
	}
	if len(b) > 512+500 { // RFC 5321 4.5.3.1.4, and what extensions add
		s.p.breach(fmt.Sprintf("a command has %d octets", len(b)))
	}
	return string(b[:len(b)-2]), nil
}

// command reads one command and answers it.
func (s *session) command() error {
	line, err := s.line()
	if err != nil {
		return err
	}
	if s.p.calmed() {
		s.h, s.wait, s.junk = s.h.Honest(), 0, nil
	}
	verb, rest, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	s.step = strings.ToLower(verb)
	s.pipelined(verb)
	switch verb {
	case "EHLO", "HELO":
		return s.greeted(verb)
	case "LHLO":
		return s.greeted("EHLO")
	case "MAIL":
		return s.mailFrom(rest)
	case "RCPT":
		return s.rcptTo(rest)
	case "DATA":
		return s.data()
	case "RSET":
		s.reset()
		return s.reply(250, "2.0.0", "forgotten")
	case "NOOP":
		return s.reply(250, "2.0.0", "nothing done")
	case "QUIT":
		s.reply(221, "2.0.0", "bye")
		s.flush()
		return errEnd
	}
	return s.reply(500, "5.5.1", "what?")
}

// pipelined looks at whether more came than the client may send at a time.
//
// RFC 2920 3.1: "The EHLO, DATA, VRFY, EXPN, TURN, QUIT, and NOOP commands can
// only appear as the last command in a group".
func (s *session) pipelined(verb string) {
	if s.r.Buffered() == 0 {
		return
	}
	if !s.hello || !s.offer["PIPELINING"] {
		s.p.breach(verb + " was followed without PIPELINING")
	}
	switch verb {
	case "EHLO", "HELO", "DATA", "QUIT", "NOOP":
		s.p.breach(verb + " was not the last of its group")
	}
}

// greeted answers EHLO and HELO.
func (s *session) greeted(verb string) error {
	if verb == "EHLO" && s.strikes("helo_only", s.h.HeloOnly) {
		return s.reply(502, "", "not known here")
	}
	s.reset()
	lines := []string{s.p.name}
	if verb == "HELO" {
		clear(s.offer)
		s.hello = true
		return s.put("250 " + s.p.name + "\r\n")
	}
	for _, ext := range []string{"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME"} {
		switch {
		case !s.offer[ext] && ext == "8BITMIME":
			s.tell("seven_bit")
		case !s.offer[ext]:
			s.tell("plain")
		case ext == "SIZE" && s.h.SizeMax > 0:
			lines = append(lines, fmt.Sprintf("SIZE %d", s.h.SizeMax))
		default:
			lines = append(lines, ext)
		}
	}
	s.hello = true
	var b strings.Builder
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b.WriteString("250" + sep + l + "\r\n")
	}
	return s.put(b.String())
}

func (s *session) reset() { s.mail, s.from, s.eight, s.rcpts = false, "", false, nil }

// mailFrom answers MAIL.
func (s *session) mailFrom(rest string) error {
	path, params, ok := pathOf(rest, "FROM:")
	switch {
	case !s.hello || s.mail:
		return s.reply(503, "5.5.1", "not now")
	case !ok:
		s.p.breach("MAIL " + rest)
		return s.reply(501, "5.1.7", "no path")
	case s.befalls("mail_later", rest, s.h.MailLater):
		if mix(s.key, 5)%2 == 0 {
			return s.reply(452, "4.3.1", "no room")
		}
		return s.reply(451, "4.3.0", "not now")
	case s.p.mailed(s.h.Messages):
		s.tell("message_rate")
		s.reply(421, "4.7.0", "too many messages")
		s.flush()
		return errEnd
	}
	for _, param := range params {
		name, value, _ := strings.Cut(strings.ToUpper(param), "=")
		size, _ := strconv.Atoi(value)
		switch {
		case name == "SIZE" && s.offer["SIZE"]:
			if s.h.SizeMax > 0 && size > s.h.SizeMax {
				s.tell("size_max")
				s.p.refuse(path, "", 552)
				return s.reply(552, "5.3.4", "too large")
			}
		case name == "BODY" && s.offer["8BITMIME"]:
			s.eight = value == "8BITMIME"
		default:
			s.p.breach("MAIL with a parameter that is not offered: " + param)
			return s.reply(555, "5.5.4", "no such parameter")
		}
	}
	s.mail, s.from = true, path
	return s.reply(250, "2.1.0", "sender ok")
}

// rcptTo answers RCPT.
func (s *session) rcptTo(rest string) error {
	path, params, ok := pathOf(rest, "TO:")
	switch {
	case !s.mail:
		return s.reply(503, "5.5.1", "MAIL first")
	case !ok || path == "":
		s.p.breach("RCPT " + rest)
		return s.reply(501, "5.1.3", "no path")
	case len(params) > 0:
		s.p.breach("RCPT with a parameter that is not offered: " + params[0])
		return s.reply(555, "5.5.4", "no such parameter")
	}
	for _, prefix := range s.h.Refuse {
		if strings.HasPrefix(path, prefix) {
			s.tell("refuse")
			s.p.refuse(s.from, path, 550)
			return s.reply(550, "5.1.1", "nobody here of that name")
		}
	}
	if s.h.Mixed {
		if v := s.verdict(path, true); v != nil {
			return s.reply(v.code, v.status, "not for this one")
		}
	}
	switch {
	case s.h.RcptMax > 0 && len(s.rcpts) >= s.h.RcptMax:
		s.tell("rcpt_max")
		return s.reply(452, "4.5.3", "too many recipients") // RFC 5321 4.5.3.1.10
	case s.p.greyed(s.h, s.from, path):
		s.tell("greylist")
		return s.reply(451, "4.7.1", "come again later")
	case s.befalls("later", s.from+path, s.h.Later):
		return s.reply(450, "4.2.1", "not now")
	}
	s.rcpts = append(s.rcpts, path)
	return s.reply(250, "2.1.5", "recipient ok")
}

// pathOf reads "FROM:<path> parameters". The null path is "".
func pathOf(s, prefix string) (path string, params []string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", nil, false
	}
	s = s[len(prefix):]
	end := strings.LastIndexByte(s, '>')
	if !strings.HasPrefix(s, "<") || end < 0 {
		return "", nil, false
	}
	return s[1:end], strings.Fields(s[end+1:]), true
}

// data answers DATA, and takes the content.
func (s *session) data() error {
	if len(s.rcpts) == 0 {
		s.reset()
		return s.reply(554, "5.5.1", "no valid recipients")
	}
	if err := s.reply(354, "", "go on"); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.step = "dot"
	stop := -1
	if s.befalls("drop_early", s.from+s.rcpts[0], s.h.DropEarly) {
		stop = int(mix(s.key, 3) % 400)
	}
	content, err := s.content(stop)
	if err != nil {
		return err
	}
	defer s.reset()
	if s.h.LMTP {
		return s.finishEach(content)
	}
	return s.finish(content)
}

// content reads up to the final dot, or gives up after a number of octets.
func (s *session) content(stop int) ([]byte, error) {
	var content []byte
	whole := true // the octet before was the end of a line
	for {
		s.c.SetDeadline(time.Now().Add(peerIdle))
		b, err := s.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		if whole && string(b) == ".\r\n" {
			return content, nil
		}
		if whole && b[0] == '.' { // RFC 5321 4.5.2
			b = b[1:]
		}
		content = append(content, b...)
		whole = bytes.HasSuffix(content, []byte("\r\n"))
		switch {
		case stop >= 0 && len(content) > stop:
			return nil, errEnd
		case len(content) > peerSizeMax:
			return nil, io.ErrShortBuffer
		}
	}
}

// finish answers the final dot.
func (s *session) finish(content []byte) error {
	s.inspect(content)
	said := s.from + s.rcpts[0] + strconv.Itoa(len(content))
	h := s.h
	switch {
	case h.SizeMax > 0 && len(content) > h.SizeMax:
		s.tell("size_max")
		return s.refuseAll(552, "5.3.4", "too large")
	case s.befalls("refuse_late", said, h.RefuseLate):
		return s.refuseAll(554, "5.6.0", "we do not like it")
	case s.befalls("defer_late", said, h.DeferLate):
		return s.reply(451, "4.3.0", "not now")
	}
	t := &Taken{At: time.Now(), From: s.from, Rcpts: s.rcpts, Content: content, SevenBit: !s.offer["8BITMIME"], Final: 250, conn: s.c}
	switch {
	case s.befalls("drop_late", said, h.DropLate):
		s.p.take(t)
		return errEnd
	case s.befalls("silence_late", said, h.SilenceLate):
		s.p.take(t)
		s.p.nap(time.Hour)
	case s.befalls("lie_later", said, h.LieLater):
		t.Final = 451
		s.p.take(t)
		return s.answer(t, "4.3.0", "who knows")
	case s.befalls("reset_late", said, h.ResetLate):
		s.p.take(t)
		err := s.answer(t, "2.0.0", "kept")
		s.c.abort()
		return errors.Join(err, errEnd)
	default:
		s.p.take(t)
	}
	return s.answer(t, "2.0.0", "kept")
}

// refuseAll refuses a message for good.
func (s *session) refuseAll(code int, status, text string) error {
	for _, to := range s.rcpts {
		s.p.refuse(s.from, to, code)
	}
	return s.reply(code, status, text)
}

// answer replies to the final dot of a message that was taken.
func (s *session) answer(t *Taken, status, text string) error {
	spoilt := s.junk != nil && s.junk.step == s.step
	err := s.reply(t.Final, status, text)
	if err == nil {
		err = s.flush()
	}
	if err == nil && !spoilt {
		s.p.answered(t, s.c.written())
	}
	return err
}

// inspect looks for what no client may send. RFC 5321 2.3.8: "SMTP client
// implementations MUST NOT transmit these characters except when they are
// intended as line terminators and then MUST, as indicated above, transmit them
// only as a <CRLF> sequence."
func (s *session) inspect(content []byte) {
	for line := range bytes.SplitSeq(content, []byte("\r\n")) {
		switch {
		case bytes.ContainsAny(line, "\r\n"):
			s.p.breach("a bare CR or LF in the content")
		case len(line) > 998: // RFC 5321 4.5.3.1.6
			s.p.breach(fmt.Sprintf("a line of %d octets in the content", len(line)))
		case !s.eight && bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x80 }):
			s.p.breach("octets of 8 bits without BODY=8BITMIME")
		}
	}
}
