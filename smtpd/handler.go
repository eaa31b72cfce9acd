// Package smtpd is the server side of SMTP and LMTP (RFC 5321, RFC 2033): give a
// Server a Handler and listeners, and it speaks the protocol strictly.
//
// The Handler makes a Session for each connection, and the Session decides: it has a
// method for each step of a transaction and returns the reply that is sent. The zero
// reply is 451 4.3.0, so that what goes wrong costs the client another try and never
// the message. Session.Data gets a reader, which ends in io.EOF only where the client
// has ended the message itself: commit then, and answer 250 after that.
//
// The Server does PIPELINING, SIZE, LIMITS, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING and
// STARTTLS or implicit TLS by itself. What needs the program is an interface that a
// Session may have too:
//
//   - Authenticator: AUTH, under TLS alone;
//   - Offerer: SMTPUTF8, DSN, BINARYMIME, DELIVERBY, FUTURERELEASE, MT-PRIORITY, RRVS and
//     NO-SOLICITING, which are promises about what becomes of the mail. What no Offerer
//     names is neither listed nor known;
//   - Turner: ETRN;
//   - Verifier and Expander: VRFY and EXPN.
//
// From networks that are named the PROXY protocol and XCLIENT are understood. Every
// wait, line, count and buffer has a bound, a field of Server or of Timeouts.
package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/netip"

	"github.com/postrider/postrider/smtp"
)

// A Handler makes a Session for each connection, and another when it has gone
// over to TLS.
type Handler interface {
	// Open is called before the greeting. A reply that is not positive is sent
	// in its place; RFC 5321 3.1: after a 554 the server waits for QUIT and
	// answers everything else 503. A 421 closes the connection. A positive
	// Reply, or the zero Reply, sends the greeting of the Server.
	//
	// After STARTTLS the Session is closed and Open is called anew. There is no
	// greeting then: a reply that is not positive answers every command but QUIT.
	Open(ctx context.Context, c Client) (Session, smtp.Reply)
}

// A Client is who a connection comes from, and how. The address of a client that
// has none, as on a Unix socket, is the zero AddrPort.
type Client struct {
	Peer  netip.AddrPort
	Local netip.AddrPort       // our end
	TLS   *tls.ConnectionState // nil: in the clear
	LMTP  bool                 // the protocol is LMTP (RFC 2033)
	// What XCLIENT has said of a client that somebody speaks for; see Server.XClient.
	Name  string // its host name
	Login string // who it has authenticated as there; empty: it has not

	shown *x509.Certificate // ours under TLS, where every client is shown the same
}

// A Session is the server side of one connection as the program sees it. Its
// methods are called one at a time, in the order of the protocol, and return
// the reply itself, so that a 250 can carry a queue ID and nothing is guessed.
// The zero Reply is 451 4.3.0. A 421 closes the connection.
// A context ends when the connection is found to be lost, or when the server is
// stopped at once; nobody looks for that while a method is at work without
// reading, so that a commit is not cut off by a client that went away.
type Session interface {
	// Hello is called for EHLO and HELO; a positive or zero reply sends the
	// server's own 250 with its extensions. The name has only letters, digits and
	// "-._:[]", and "?" for what else the client said. If a transaction is open,
	// Reset follows.
	Hello(ctx context.Context, name string, esmtp bool) smtp.Reply
	Mail(ctx context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply
	Rcpt(ctx context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply
	// Data takes the content, which comes by DATA, dots unstuffed, or by BDAT, and
	// answers for it. It commits only after content has returned io.EOF: a lost
	// connection, a line that is too long, or a bare CR or LF are other errors, and so
	// is ErrAbandoned. A *ContentError carries the reply that the client should hear;
	// the server sends it whatever Data returns. What Data does not read the server
	// reads away; if no reply of Data is positive, it need not come to its end.
	// The content is an io.WriterTo too, so that io.Copy writes from the buffer of the
	// connection; as any io.Writer, what it writes to keeps nothing of what it is given.
	//
	// The first reply is the answer. With LMTP there is one for each accepted RCPT,
	// in their order; RFC 2033 4.2: "Even if there were multiple successful RCPT
	// commands giving the same forward-path, there must be one reply for each". The
	// last stands for those that are missing. None at all is 451 4.3.0.
	Data(ctx context.Context, content io.Reader) []smtp.Reply
	// Reset ends a transaction without data: RSET, a new EHLO, a first BDAT that is
	// wrong, a lost connection.
	Reset()
	// Close is called once, at the end of the connection or before TLS begins.
	Close()
}

// An Authenticator is a Session that answers AUTH (RFC 4954). The Server offers
// it under TLS only.
type Authenticator interface {
	// Mechanisms are the names of the SASL mechanisms, in upper case. None: AUTH is
	// neither offered nor known.
	Mechanisms() []string
	// Auth begins an exchange with one of Mechanisms. A nil SASLServer refuses it
	// with the Reply; the zero Reply is 454 4.7.0 here, and from the exchange. After
	// a positive reply no other exchange begins.
	Auth(ctx context.Context, mechanism string) (smtp.SASLServer, smtp.Reply)
}

// A Verifier is a Session that answers VRFY (RFC 5321 3.5); one that does not is
// answered 252 for it. It may be asked at any time, also before EHLO.
type Verifier interface {
	// Verify is given what follows VRFY, without SMTPUTF8. Its reply may hold UTF-8 if
	// utf8 is true, and else what is not ASCII in it is lost: RFC 6531 3.7.4.2: "the
	// SMTPUTF8-aware SMTP server MUST use either the reply-code 252 or 550" then.
	Verify(ctx context.Context, what string, utf8 bool) smtp.Reply
}

// An Expander is a Session that answers EXPN (RFC 5321 3.5); one that does not is
// answered 502 for it.
type Expander interface {
	// Expands reports whether EHLO lists EXPN and VRFY: this client gets answers, now
	// or when it has authenticated. RFC 5321 3.5.2: "if EXPN is supported, it MUST be
	// listed as a service extension in an EHLO response."
	Expands() bool
	// Expand is as Verifier.Verify. RFC 5321 3.5.1: of a reply of 250 "exactly one
	// mailbox is to be specified on each line".
	Expand(ctx context.Context, list string, utf8 bool) smtp.Reply
}

// A ContentError is why a content cannot be taken as it was sent. It comes from
// the content reader of Session.Data in place of io.EOF.
type ContentError struct {
	Reply smtp.Reply
}

func (e *ContentError) Error() string { return "smtpd: content refused: " + e.Reply.Text }
