package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Bounds of a reply that ReadReply takes. RFC 5321 4.5.3.1.5 allows 512 octets
// to a line; servers that say more are read for their sake, up to here.
const (
	replyLineMax  = 4096
	replyLinesMax = 256
	replyTextMax  = 32 << 10
)

// Errors of ReadReply, beside those of its reader. The connection that gave one
// cannot be read any further, and what it was about is undecided.
var (
	ErrReplySyntax  = errors.New("smtp: the peer's reply is no reply")
	ErrReplyTooLong = errors.New("smtp: the peer's reply is too long")
)

// ReadReply reads one reply, of one line or several. It keeps to the codes that
// are sent, also to those outside 2yz to 5yz, which Reply holds for temporary.
// Text is joined by "\n" in printable ASCII, of 251 and 551 in printable UTF-8, and
// the enhanced status is taken out of it if it agrees with the code. An io.EOF in
// the middle of a reply is io.ErrUnexpectedEOF.
func ReadReply(r *bufio.Reader) (Reply, error) {
	var (
		reply Reply
		text  []byte
		space [128]byte // most lines are short
	)
	text = space[:0]
	for n := 0; ; n++ {
		line, err := readReplyLine(r)
		if err != nil {
			if errors.Is(err, io.EOF) && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Reply{}, err
		}
		if n == replyLinesMax || len(text)+len(line) > replyTextMax {
			return Reply{}, ErrReplyTooLong
		}
		code, more, rest, ok := splitReplyLine(line)
		if !ok || n > 0 && code != reply.Code {
			return Reply{}, ErrReplySyntax
		}
		st, after, has := cutStatus(code, rest)
		if n == 0 {
			reply.Code, reply.Status = code, st
		} else {
			text = append(text, '\n')
		}
		if has && st == reply.Status {
			rest = after
		}
		if code == 251 || code == 551 {
			// RFC 6531 3.7.4.1: UTF-8 is allowed "in the email address associated with 251
			// and 551 reply-codes, and the SMTP client MUST be able to accept and process
			// them."
			text = appendPrintableUTF8(text, string(rest))
		} else {
			text = appendPrintable(text, rest)
		}
		if !more {
			if reply.Text = OK.Text; string(text) != OK.Text {
				reply.Text = string(text)
			}
			return reply, nil
		}
	}
}

// readReplyLine reads a line and returns it without its CRLF, valid until the
// next read. RFC 5321 2.3.8: implementations "MUST NOT recognize or generate any
// other character or character sequence as a line terminator".
func readReplyLine(r *bufio.Reader) ([]byte, error) {
	var long []byte // of a line that is larger than the buffer of r
	for {
		line, err := r.ReadSlice('\n')
		if len(long)+len(line) > replyLineMax {
			return nil, ErrReplyTooLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if errors.Is(err, io.EOF) && len(long)+len(line) > 0 {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if long != nil {
			line = append(long, line...)
		}
		line, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok {
			return nil, ErrReplySyntax
		}
		return line, nil
	}
}

// splitReplyLine splits a line at the fourth octet. RFC 5321 4.2: clients
// "SHOULD be prepared to process the code alone (with or without a trailing
// space character)".
func splitReplyLine(s []byte) (code int, more bool, text []byte, ok bool) {
	if len(s) < 3 {
		return 0, false, nil, false
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false, nil, false
		}
		code = 10*code + int(s[i]-'0')
	}
	if len(s) == 3 {
		return code, false, nil, true
	}
	if s[3] != ' ' && s[3] != '-' {
		return 0, false, nil, false
	}
	return code, s[3] == '-', s[4:], true
}

// cutStatus takes the enhanced status off the front of a text, if its class is
// that of the code. Only 2yz, 4yz and 5yz replies have one (RFC 2034 4).
func cutStatus(code int, text []byte) (s Status, rest []byte, ok bool) {
	word, rest, _ := bytes.Cut(text, []byte(" "))
	if len(word) > len("5.999.999") {
		return Status{}, text, false
	}
	s, ok = ParseStatus(string(word))
	if !ok || int(s.Class) != code/100 {
		return Status{}, text, false
	}
	return s, rest, true
}

// ParseStatus parses class.subject.detail: the classes 2, 4 and 5, and numbers
// of one to three digits without leading zeros (RFC 3463 2).
func ParseStatus(s string) (Status, bool) {
	class, rest, ok := strings.Cut(s, ".")
	if !ok || class != "2" && class != "4" && class != "5" {
		return Status{}, false
	}
	subject, detail, ok := strings.Cut(rest, ".")
	if !ok {
		return Status{}, false
	}
	x, ok1 := parseStatusNumber(subject)
	y, ok2 := parseStatusNumber(detail)
	return Status{Class: class[0] - '0', Subject: x, Detail: y}, ok1 && ok2
}

func parseStatusNumber(s string) (uint16, bool) {
	if len(s) == 0 || len(s) > 3 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}
