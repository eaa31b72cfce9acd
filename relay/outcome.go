package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A rank orders what stood in the way of a whole attempt: the highest is told,
// and of equals the last. Whatever may pass outranks what will not, so that mail
// fails only where every host is out of the question.
type rank uint8

const (
	rankUnset   rank = iota
	rankNone         // there is no host, or one without an address
	rankLoop         // the hosts that are left are ourselves
	rankLacks        // the peer lacks what the message needs
	rankRefused      // the peer takes no mail at all, in its own words
	rankOurs         // trouble that may pass, in our words
	rankPeer         // trouble that may pass, in the words of the peer
)

// A note is something that stood in the way.
type note struct {
	rank    rank
	outcome postrider.Outcome
}

// failed is a failure for the message at this destination, in our words.
func failed(code int, class uint8, subject, detail uint16, format string, args ...any) postrider.Outcome {
	return postrider.Outcome{
		Result: postrider.ResultFailed,
		Reply:  ours(code, smtp.Status{Class: class, Subject: subject, Detail: detail}, format, args...),
		Scope:  postrider.ScopeMessage,
	}
}

// deferred is trouble with the destination that may pass, in our words:
// 451 4.subject.detail.
func deferred(subject, detail uint16, format string, args ...any) postrider.Outcome {
	return postrider.Outcome{
		Reply: ours(451, smtp.Status{Class: 4, Subject: subject, Detail: detail}, format, args...),
		Scope: postrider.ScopeDest,
	}
}

// ours is a reply that no peer gave. Errors of others may stand in its text.
func ours(code int, s smtp.Status, format string, args ...any) smtp.Reply {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
	return smtp.Reply{Code: code, Status: s, Text: text}
}

// said is an outcome in the words of the peer. The first digit decides
// (RFC 5321 4.2.1).
func said(t target, r smtp.Reply, scope postrider.Scope) postrider.Outcome {
	o := postrider.Outcome{Reply: r, Remote: t.host, Scope: scope}
	switch {
	case r.Positive():
		o.Result = postrider.ResultDelivered
	case r.Permanent():
		o.Result = postrider.ResultFailed
	}
	return o
}

// unreached is the outcome of an address where no connection came about.
//
// RFC 3463 3.5: X.4.1, "The outbound connection attempt was not answered".
func unreached(t target, err error) postrider.Outcome {
	return deferred(4, 1, "connect to %s: %s", t, cause(err))
}

// lost is the outcome of a connection that broke. While a content was on its way
// it may be this message that it broke for.
//
// RFC 3463 3.5: X.4.2, "The outbound connection was established, but was unable
// to complete the message transaction".
func lost(t target, e *smtpc.Error) postrider.Outcome {
	o := deferred(4, 2, "lost connection with %s while %s: %s", t, e.Stage, cause(e.Err))
	if e.Stage == smtpc.StageContent || e.Stage == smtpc.StageFinal {
		o.Scope = postrider.ScopeMessage
	}
	return o
}

// interrupted is the outcome of an attempt that we ended ourselves.
func interrupted() postrider.Outcome {
	o := deferred(3, 2, "the delivery was interrupted")
	o.Scope, o.Untried = postrider.ScopeMessage, true
	return o
}

// cause says what broke, without the addresses that the text names already.
func cause(err error) string {
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return "timed out"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the peer closed the connection"
	}
	if s, ok := errors.AsType[*os.SyscallError](err); ok {
		return s.Err.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}
