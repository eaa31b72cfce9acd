package node

import (
	"io"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A strict reader lets through what SMTP would have let through: programs that
// hand mail in over the socket write it themselves, and a bare CR or LF, a NUL or
// a line without an end would be found by the next hop only, after our 250.
type strict struct {
	in   io.Reader
	cr   bool // the last octet was a CR
	line int  // octets of the line so far
}

// Read implements io.Reader.
func (s *strict) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	for _, c := range p[:n] {
		s.line++
		switch {
		case s.cr != (c == '\n'):
			return 0, notLines
		case c == 0:
			return 0, notText
		case s.line > smtp.DefaultLineMax:
			return 0, longLine
		case c == '\n':
			s.line = 0
		}
		s.cr = c == '\r'
	}
	if err == io.EOF && s.cr {
		return 0, notLines
	}
	return n, err
}

// Why a content is not taken.
var (
	notLines = badContent("A line of the message ends in CR or LF alone; RFC 5321 2.3.8 wants CR LF")
	notText  = badContent("The message holds a NUL octet")
	longLine = badContent("A line of the message is too long")
)

func badContent(text string) *smtpd.ContentError {
	return &smtpd.ContentError{Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 6, Detail: 0}, Text: text}}
}
