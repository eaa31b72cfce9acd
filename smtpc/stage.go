package smtpc

import (
	"fmt"

	"github.com/postrider/postrider/smtp"
)

// A Stage is a place in the dialogue: what was being sent, or whose reply was
// awaited.
type Stage uint8

// The stages, in the order of the dialogue.
const (
	StageGreeting Stage = iota + 1
	StageHello          // EHLO, HELO or LHLO
	StageTLS            // STARTTLS and the handshake
	StageAuth
	StageReset // RSET
	StageMail
	StageRcpt
	StageData    // DATA, and its 354
	StageContent // octets on their way
	StageFinal   // the dot was sent
	StageNoop
	StageQuit
)

// String returns the words that complete "while ...".
func (s Stage) String() string {
	switch s {
	case StageGreeting:
		return "waiting for the greeting"
	case StageHello:
		return "saying hello"
	case StageTLS:
		return "negotiating TLS"
	case StageAuth:
		return "authenticating"
	case StageReset:
		return "resetting"
	case StageMail:
		return "sending MAIL"
	case StageRcpt:
		return "sending RCPT"
	case StageData:
		return "sending DATA"
	case StageContent:
		return "sending the content"
	case StageFinal:
		return "waiting for the reply to the final dot"
	case StageNoop:
		return "sending NOOP"
	case StageQuit:
		return "sending QUIT"
	}
	return "doing nothing"
}

// An Error ends a connection, but for some of STARTTLS and AUTH, after which the
// dialogue may go on: see Conn.Usable. It tells where, and either what
// the peer said or what broke.
type Error struct {
	Stage Stage
	Reply smtp.Reply // what the peer said; Code 0: nothing, and Err tells why
	Err   error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("smtpc: %s: %v", e.Stage, e.Err)
	}
	return fmt.Sprintf("smtpc: %s: the peer said %d %s", e.Stage, e.Reply.Code, e.Reply.Text)
}

func (e *Error) Unwrap() error { return e.Err }

// A ContentError is a failure of the reader that the content came from. The
// final dot was not sent, and the peer has nothing.
type ContentError struct {
	Err error
}

func (e *ContentError) Error() string { return "smtpc: read content: " + e.Err.Error() }

func (e *ContentError) Unwrap() error { return e.Err }

// A NeedError says that a transaction needs an extension that the peer does not
// offer. Nothing was sent, and the connection can be used further.
type NeedError struct {
	Ext string
}

func (e *NeedError) Error() string { return "smtpc: the peer does not offer " + e.Ext }

// A SizeError says that a content is longer than the peer announced that it takes
// (RFC 1870 4). Nothing was sent, and the connection can be used further.
type SizeError struct {
	Limit int64 // octets
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("smtpc: the peer takes no message over %d octets", e.Limit)
}
