package maildir

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A readError is a failure to read the content, not to write it.
type readError struct{ err error }

func (e *readError) Error() string { return "read the message: " + e.err.Error() }

// A dirError is a folder in the route that cannot be meant.
type dirError struct{ dir, why string }

func (e *dirError) Error() string { return fmt.Sprintf("the folder %q is refused: %s", e.dir, e.why) }

// delivered is the reply of a success.
var delivered = smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: "delivered to mailbox"}

// outcome turns the error of a recipient into its outcome. None is a 5yz: what
// fails here is ours to mend, and the mail waits for it.
func outcome(err error) postrider.Outcome {
	if err == nil {
		return postrider.Outcome{Result: postrider.ResultDelivered, Reply: delivered, Final: true}
	}
	code, status, why := 451, smtp.Status{Class: 4, Subject: 3}, "cannot write to the mailbox"
	var read *readError
	var dir *dirError
	switch {
	case errors.As(err, &read):
		why = "cannot deliver"
	case errors.As(err, &dir):
		status.Detail, why = 5, "cannot deliver" // RFC 3463 3.4: system incorrectly configured
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		why = "the delivery was cut short"
	case errors.Is(err, syscall.EDQUOT):
		code, status, why = 452, smtp.Status{Class: 4, Subject: 2, Detail: 2}, "mailbox full"
	case errors.Is(err, syscall.ENOSPC):
		code, status.Detail, why = 452, 1, "mail system full"
	}
	return postrider.Outcome{Reply: smtp.Reply{Code: code, Status: status, Text: why + ": " + printable(err.Error())}}
}

// printable makes a text fit for a reply, which is one line of ASCII here.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
}
