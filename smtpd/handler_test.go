package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/postrider/postrider/smtp"
)

// A recorder is a Handler that writes down every call, and whose answers are
// found in the words it is given: the local part of an address, the name of an
// EHLO, or a line "X-Answer: word" of the content.
type recorder struct {
	open       smtp.Reply // of Open
	verify     bool       // the sessions are Verifiers
	expand     string     // the sessions are Expanders too, and "listed" says that EHLO lists it; empty: they are not
	offer      Offer      // of the sessions
	peers      bool       // calls of Open are told with the client
	refusePeer string     // Open refuses this one
	early      int        // Data answers so and reads nothing; 0: it reads
	nobody     bool       // Open gives no session
	auth       []string   // the mechanisms of the sessions; none: they are no Authenticators
	tlsOpen    smtp.Reply // of Open under TLS

	mu    sync.Mutex
	calls []string
}

func (h *recorder) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
}

func (h *recorder) log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.calls...)
}

func (h *recorder) Open(_ context.Context, c Client) (Session, smtp.Reply) {
	open := h.open
	switch {
	case c.TLS != nil:
		h.note("open tls %s", tls.VersionName(c.TLS.Version))
		open = h.tlsOpen
	case h.peers:
		h.note("%s", strings.TrimRight(fmt.Sprintf("open %v at %v %s %s", c.Peer, c.Local, c.Name, c.Login), " "))
	case c.LMTP:
		h.note("open lmtp")
	default:
		h.note("open")
	}
	switch {
	case h.refusePeer != "" && c.Peer.Addr().String() == h.refusePeer:
		return nil, smtp.Reply{Code: 554, Text: "not you"}
	case len(h.auth) > 0:
		return authSession{recorderSession{h}}, open
	case h.nobody:
		return nil, open
	case h.expand != "":
		return expandSession{verifySession{recorderSession{h}}}, open
	case h.verify:
		return verifySession{recorderSession{h}}, open
	}
	return recorderSession{h}, open
}

type recorderSession struct{ h *recorder }

func (s recorderSession) Offer() Offer { return s.h.offer }

func (s recorderSession) Turn(_ context.Context, node string) smtp.Reply {
	s.h.note("turn %s", node)
	if word, _, _ := strings.Cut(node, "."); word != "foo" {
		return answer(word)
	}
	return smtp.Reply{Code: 253, Text: "OK, 2 pending messages for node " + node + " started"}
}

type verifySession struct{ recorderSession }

func (s verifySession) Verify(_ context.Context, what string, utf8 bool) smtp.Reply {
	s.h.note("verify %s %v", what, utf8)
	return s.named(what)
}

// named answers for a name that somebody asks about.
func (s verifySession) named(what string) smtp.Reply {
	switch what {
	case "Crispin":
		return smtp.Reply{Code: 250, Text: "Mark Crispin <Admin.MRC@foo.com>"}
	case "Example-People":
		return smtp.Reply{Code: 250, Text: "Jon Postel <Postel@isi.edu>\nFred Fonebone <Fonebone@physics.foo-u.edu>\nSam Q. Smith <SQSmith@specific.generic.com>"}
	case "j\u00f6rg":
		return smtp.Reply{Code: 250, Text: "J\u00f6rg <j\u00f6rg@foo.com>"}
	}
	return answer(what)
}

type expandSession struct{ verifySession }

func (s expandSession) Expands() bool { return s.h.expand == "listed" }

func (s expandSession) Expand(_ context.Context, list string, utf8 bool) smtp.Reply {
	s.h.note("expand %s %v", list, utf8)
	return s.named(list)
}

type authSession struct{ recorderSession }

func (s authSession) Mechanisms() []string { return s.h.auth }

// Auth has PLAIN, LOGIN, the others of package smtp, LOOP without an end, and WEAK,
// which is refused. The password of SCRAM is "pencil" for everybody.
func (s authSession) Auth(_ context.Context, mechanism string) (smtp.SASLServer, smtp.Reply) {
	s.h.note("auth %s", mechanism)
	switch mechanism {
	case "PLAIN":
		return smtp.PlainServer(s.verify), smtp.Reply{}
	case "LOGIN":
		return smtp.LoginServer(func(user, password string) smtp.Reply { return s.verify("", user, password) }), smtp.Reply{}
	case smtp.SCRAM:
		return smtp.SCRAMServer(smtp.SCRAMServerOptions{Rand: bytes.NewReader(bytes.Repeat([]byte{1}, 18)),
			Keys: func(user string) smtp.SCRAMKeys {
				s.h.note("keys %q", user)
				salt, _ := smtp.DecodeSASL("W22ZaJ0SNY7soEsUEjb6gQ==")
				k, _ := smtp.NewSCRAMKeys("pencil", salt, 4096)
				return k
			},
			Finish: func(identity, user string, proved bool) smtp.Reply {
				s.h.note("proved %q %q %v", identity, user, proved)
				return smtp.OK
			}}), smtp.Reply{}
	case smtp.OAuthBearer:
		return smtp.BearerServer(func(r smtp.BearerRequest) (smtp.Reply, smtp.BearerError) {
			return s.verify("", r.Identity, map[string]string{"good": "test"}[r.Token]), smtp.BearerError{Scope: "mail"}
		}), smtp.Reply{}
	case smtp.External:
		return smtp.ExternalServer(func(identity string) smtp.Reply { return s.verify("", identity, "test") }), smtp.Reply{}
	case "LOOP":
		return loop{}, smtp.Reply{}
	case "WEAK":
		return nil, smtp.Reply{Code: 534, Status: smtp.Status{Class: 5, Subject: 7, Detail: 9}, Text: "too weak"}
	}
	return nil, smtp.OK // which is no answer
}

func (s authSession) verify(identity, user, password string) smtp.Reply {
	s.h.note("verify %q %q %q", identity, user, password)
	if user == "test" && password != "test" || identity != "" {
		return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "wrong"}
	}
	return answer(user)
}

// A loop has always one more challenge.
type loop struct{}

func (loop) Next([]byte) ([]byte, bool, smtp.Reply) {
	return bytes.Repeat([]byte("again"), 200), false, smtp.Reply{}
}

// answer is what a word asks for.
func answer(word string) smtp.Reply {
	switch word {
	case "unknown", "Green":
		return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "No such user here"}
	case "refused", "refused.example":
		return smtp.Reply{Code: 550, Text: "refused"} // without a status
	case "forwarded":
		return smtp.Reply{Code: 251, Status: smtp.Status{Class: 2, Subject: 1, Detail: 5}, Text: "User not local; will forward to <j\u00f6rg@foo.com>"}
	case "moved":
		return smtp.Reply{Code: 551, Status: smtp.Status{Class: 5, Subject: 1, Detail: 6}, Text: "User not local; please try <j\u00f6rg@foo.com>"}
	case "umlaut":
		return smtp.Reply{Code: 250, Text: "gr\u00fc\u00dfe"}
	case "later":
		return smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 7, Detail: 1}, Text: "later"}
	case "zero":
		return smtp.Reply{}
	case "odd":
		return smtp.Reply{Code: 354, Text: "go on"}
	case "bye":
		return smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "enough"}
	case "terse":
		return smtp.Reply{Code: 250}
	case "rude":
		return smtp.Reply{Code: 250, Text: "two\r\n550 lines\x1b"}
	case "panic":
		panic("the recorder was told to")
	}
	return smtp.OK
}

func (s recorderSession) Hello(_ context.Context, name string, esmtp bool) smtp.Reply {
	s.h.note("hello %s %v", name, esmtp)
	if name == "zero" {
		return smtp.OK
	}
	return answer(name)
}

func (s recorderSession) Mail(_ context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	s.h.note("mail %s", strings.TrimSpace(strings.TrimPrefix(string(smtp.AppendMail(nil, from, p)), "MAIL FROM:")))
	return answer(from.Local)
}

func (s recorderSession) Rcpt(_ context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	s.h.note("rcpt %s", strings.TrimSpace(strings.TrimPrefix(string(smtp.AppendRcpt(nil, to, p)), "RCPT TO:")))
	return answer(to.Local)
}

func (s recorderSession) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	if s.h.early != 0 {
		s.h.note("data early")
		return []smtp.Reply{{Code: s.h.early, Text: "decided early"}}
	}
	b, err := io.ReadAll(content)
	var bad *ContentError
	switch {
	case errors.As(err, &bad):
		s.h.note("data refused %d", bad.Reply.Code)
		return []smtp.Reply{smtp.OK, smtp.OK} // which the client must never hear
	case errors.Is(err, ErrAbandoned):
		s.h.note("data abandoned")
		return []smtp.Reply{smtp.OK} // which the client must never hear
	case err != nil:
		s.h.note("data lost %v", err == io.ErrUnexpectedEOF && ctx.Err() != nil || isConn(err))
		return []smtp.Reply{smtp.OK}
	}
	s.h.note("data %q", b)
	_, word, found := strings.Cut(string(b), "X-Answer: ")
	if !found {
		return []smtp.Reply{{Code: 250, Text: "taken"}}
	}
	word, _, _ = strings.Cut(word, "\r\n")
	if word == "none" {
		return nil
	}
	var replies []smtp.Reply
	for one := range strings.SplitSeq(word, " ") {
		replies = append(replies, answer(one))
	}
	return replies
}

// isConn reports whether err is one of a connection.
func isConn(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, errDraining) || err.Error() == "i/o timeout"
}

func (s recorderSession) Reset() { s.h.note("reset") }
func (s recorderSession) Close() { s.h.note("close") }
