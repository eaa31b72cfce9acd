package smtp

import (
	"bytes"
	"strings"
)

// A Command is a command line, taken apart at its first space.
type Command struct {
	Verb string // in upper case
	Arg  string // what follows the space, without white space at its end
}

// ParseCommand parses a command line without its CRLF. A line that is no
// command is answered with the reply that it returns; nil means success.
//
// RFC 5321 4.1.1: commands "are alphabetic characters terminated by <SP> if
// parameters follow", in any case (2.4), and "receivers SHOULD tolerate
// trailing white space". A CR, LF or NUL in the line is a syntax error and
// never the end of a command.
func ParseCommand(line []byte) (Command, *Reply) {
	if string(line) == "DATA" { // the one of each message that has no argument
		return Command{Verb: "DATA"}, nil
	}
	for _, c := range line {
		switch {
		case c == '\r' || c == '\n':
			return Command{}, refuse(500, 5, 2, "A line ends in CR LF; a CR or LF alone ends nothing")
		case c == '\t':
		case c < ' ' || c == 0x7f:
			return Command{}, refuse(500, 5, 2, "A command holds no control characters")
		}
	}
	s := string(bytes.TrimRight(line, " \t")) // what is kept of it keeps no spaces
	if strings.IndexByte(s, '\t') >= 0 {
		return Command{}, refuse(500, 5, 2, "A command holds no tabs")
	}
	verb, arg, _ := strings.Cut(s, " ")
	for i := 0; i < len(verb); i++ {
		if c := verb[i] | 0x20; c < 'a' || c > 'z' {
			return Command{}, refuse(500, 5, 2, "That is no command")
		}
	}
	if verb == "" {
		return Command{}, refuse(500, 5, 2, "A command begins with its verb")
	}
	return Command{Verb: strings.ToUpper(verb), Arg: arg}, nil
}

// ParseMail parses the argument of MAIL: FROM:<reverse-path> and parameters.
// Only the parameters of the extensions in force are known; after HELO those
// are none. A nil Reply means success.
//
// RFC 5321 3.3: "spaces are not permitted on either side of the colon following
// FROM in the MAIL command or TO in the RCPT command". We hold clients to it:
// one reading of a line, and no second guess at where an address begins.
func ParseMail(arg string, ext Extensions) (Path, MailParams, *Reply) {
	from, rest, no := parseArg("FROM:", arg, 7)
	if no != nil {
		return Path{}, MailParams{}, no
	}
	if from.Domain == "" && !from.IsNull() {
		return Path{}, MailParams{}, refuse(501, 1, 7, "The sender needs an @ and a domain")
	}
	list, no := splitParams(rest, ext)
	if no != nil {
		return Path{}, MailParams{}, no
	}
	var p MailParams
	for _, kv := range list {
		if no := setMailParam(&p, kv, ext); no != nil {
			return Path{}, MailParams{}, no
		}
	}
	// RFC 6531 3.5: "When messages are rejected because the MAIL command
	// requires an ASCII address, the reply-code 550 is returned".
	if !p.UTF8 && !from.IsASCII() {
		return Path{}, MailParams{}, refuse(550, 6, 7, "A sender beyond ASCII needs the SMTPUTF8 parameter")
	}
	return from, p, nil
}

// ParseRcpt parses the argument of RCPT: TO:<forward-path> and parameters. Of
// ext, ExtSMTPUTF8 is in force for a recipient if MAIL had the parameter. A nil
// Reply means success.
func ParseRcpt(arg string, ext Extensions) (Path, RcptParams, *Reply) {
	to, rest, no := parseArg("TO:", arg, 3)
	if no != nil {
		return Path{}, RcptParams{}, no
	}
	if to.IsNull() {
		return Path{}, RcptParams{}, refuse(501, 1, 3, "A recipient needs an address")
	}
	// RFC 6531 3.5: "When messages are rejected because the RCPT command
	// requires an ASCII address, the reply-code 553 is returned".
	if !ext.Has(ExtSMTPUTF8) && !to.IsASCII() {
		return Path{}, RcptParams{}, refuse(553, 6, 7, "A recipient beyond ASCII needs SMTPUTF8 in the MAIL command")
	}
	list, no := splitParams(rest, ext)
	if no != nil {
		return Path{}, RcptParams{}, no
	}
	var p RcptParams
	for _, kv := range list {
		if no := setRcptParam(&p, kv, ext); no != nil {
			return Path{}, RcptParams{}, no
		}
	}
	return to, p, nil
}

// parseArg parses the keyword and the path in angle brackets. The detail is
// that of a bad address: X.1.3 of a recipient, X.1.7 of a sender (RFC 3463 3.2).
func parseArg(keyword, arg string, detail uint16) (p Path, rest string, no *Reply) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return Path{}, "", refuse(501, 5, 4, "Say "+keyword+"<address>")
	}
	s := arg[len(keyword):]
	switch {
	case strings.HasPrefix(s, "<>"):
		return Path{}, s[2:], nil
	case strings.HasPrefix(s, " "):
		return Path{}, "", refuse(501, 5, 4, "No space may follow "+keyword)
	case !strings.HasPrefix(s, "<"):
		return Path{}, "", refuse(501, 5, 4, "The address stands between < and >")
	}
	p, rest, err := scanPath(s[1:])
	if err != nil {
		return Path{}, "", refuse(501, 1, detail, "Bad address: "+err.Error())
	}
	if !strings.HasPrefix(rest, ">") {
		return Path{}, "", refuse(501, 1, detail, "Bad address: the closing > is not where the address ends")
	}
	return p, rest[1:], nil
}

// refuse makes a permanent Reply 5.subject.detail.
func refuse(code int, subject, detail uint16, text string) *Reply {
	return &Reply{Code: code, Status: Status{5, subject, detail}, Text: text}
}
