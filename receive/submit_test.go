package receive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// user is an account of the tests.
type user string

func (u user) Name() string                { return string(u) }
func (u user) MaySend(from smtp.Path) bool { return from.String() == string(u) }

// passwords are accounts, by name.
type passwords map[string]string

func (p passwords) Verify(_ context.Context, _ netip.Addr, name, password string) (postrider.Submitter, smtp.Reply) {
	if p[name] == password && password != "" {
		return user(name), smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7, Detail: 0}, Text: "yes"}
	}
	return nil, smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "no"}
}

// client makes a smtpd.Client. Of tls only the cipher suite counts.
func client(secure, lmtp bool) smtpd.Client {
	c := smtpd.Client{Peer: peer, LMTP: lmtp}
	if secure {
		c.TLS = &connectionState
	}
	return c
}

func TestProtocols(t *testing.T) {
	for _, tt := range []struct {
		secure, lmtp, esmtp, auth, utf8 bool
		want                            string
	}{
		{want: "SMTP"},
		{secure: true, want: "SMTP"},
		{esmtp: true, want: "ESMTP"},
		{esmtp: true, secure: true, want: "ESMTPS"},
		{esmtp: true, secure: true, auth: true, want: "ESMTPSA"},
		{esmtp: true, secure: true, auth: true, utf8: true, want: "UTF8SMTPSA"},
		{esmtp: true, secure: true, utf8: true, want: "UTF8SMTPS"},
		{esmtp: true, lmtp: true, want: "LMTP"},
		{esmtp: true, lmtp: true, secure: true, want: "LMTPS"},
		{esmtp: true, lmtp: true, utf8: true, want: "UTF8LMTP"},
	} {
		spool := &memSpool{}
		o := options(spool)
		o.Accounts = passwords{"alice": "x"}
		s, _ := New(o).Open(t.Context(), client(tt.secure, tt.lmtp))
		s.Hello(t.Context(), "h", tt.esmtp)
		if tt.auth {
			login(t, s, "\x00alice\x00x", 235)
		}
		if r := send(t, s, smtp.MailParams{UTF8: tt.utf8}, strings.NewReader("x")); !r.Positive() {
			t.Fatal(r)
		}
		k, _ := spool.last()
		src := k.message.Source
		if src.Protocol != tt.want || !bytes.Contains(k.head, []byte(" with "+tt.want+" id ")) {
			t.Errorf("%s: %+v %q", tt.want, src, k.head)
		}
		if tt.secure != (src.TLS == "TLS 1.3 TLS_AES_128_GCM_SHA256") || tt.secure != bytes.Contains(k.head, []byte("\r\n\ttls TLS_AES_128_GCM_SHA256;")) {
			t.Errorf("%s: TLS %q, %q", tt.want, src.TLS, k.head)
		}
		if tt.auth != (src.Account == "alice") || bytes.Contains(k.head, []byte("=alice")) {
			t.Errorf("%s: account %q, %q", tt.want, src.Account, k.head)
		}
	}
}

// login runs PLAIN with one message.
func login(t *testing.T, s smtpd.Session, message string, want int) {
	t.Helper()
	exchange, r := s.(smtpd.Authenticator).Auth(t.Context(), "PLAIN")
	if exchange == nil {
		t.Fatal(r)
	}
	if _, done, r := exchange.Next([]byte(message)); !done || r.Normal().Code != want {
		t.Errorf("%q: %v", message, r)
	}
}

func TestAuth(t *testing.T) {
	o := options(&memSpool{})
	o.Accounts = passwords{"alice@our.example": "right"}
	var seen postrider.Submitter
	o.Mail = checkFunc(func(tx *postrider.Transaction) postrider.Verdict { seen = tx.Submitter; return postrider.Verdict{} })
	for _, tt := range []struct {
		message string
		want    int
	}{
		{"\x00alice@our.example\x00right", 235},
		{"alice@our.example\x00alice@our.example\x00right", 235},
		{"Alice@our.example\x00alice@our.example\x00right", 235},
		{"bob@our.example\x00alice@our.example\x00right", 535},
		{"\x00alice@our.example\x00wrong", 535},
		{"\x00alice@our.example\x00", 535},
		{"\x00\x00right", 535},
		{"\x00alice@our.example\x00right\x00", 501},
		{"alice@our.example", 501},
		{"", 501},
	} {
		s, _ := New(o).Open(t.Context(), client(true, false))
		s.Hello(t.Context(), "h", true)
		login(t, s, tt.message, tt.want)
		seen = nil
		s.Mail(t.Context(), from, smtp.MailParams{})
		if (seen != nil) != (tt.want == 235) {
			t.Errorf("%q: the checks see %v", tt.message, seen)
		}
	}
	for name, c := range map[string]smtpd.Client{"in the clear": client(false, false), "LMTP": client(true, true)} {
		s, _ := New(o).Open(t.Context(), c)
		a := s.(smtpd.Authenticator)
		if exchange, r := a.Auth(t.Context(), "PLAIN"); exchange != nil || r.Code != 504 || len(a.Mechanisms()) != 0 {
			t.Errorf("%s: AUTH is there: %v", name, r)
		}
	}
	s, _ := New(options(&memSpool{})).Open(t.Context(), client(true, false))
	if a := s.(smtpd.Authenticator); len(a.Mechanisms()) != 0 {
		t.Error("AUTH without accounts")
	}
	s, _ = New(o).Open(t.Context(), client(true, false))
	if exchange, r := s.(smtpd.Authenticator).Auth(t.Context(), "NTLM"); exchange != nil || r.Code != 504 {
		t.Error(r)
	}
}

// A yes of the accounts that says of nobody who it is is none: the client is put off, and
// is nobody.
func TestYesOfNobody(t *testing.T) {
	o := options(&memSpool{})
	o.Accounts = yes{}
	s, _ := New(o).Open(t.Context(), client(true, false))
	s.Hello(t.Context(), "h", true)
	login(t, s, "\x00alice@our.example\x00right", 451) // which AUTH answers 454
	if who := s.(*session).submitter; who != nil || s.(*session).source.Account != "" {
		t.Errorf("it is %v", who)
	}
}

// yes says yes, and not to whom.
type yes struct{}

func (yes) Verify(context.Context, netip.Addr, string, string) (postrider.Submitter, smtp.Reply) {
	return nil, smtp.Reply{Code: 235}
}

// A program of this machine is told of as who hands in, and has not authenticated: RFC 3848
// has the "A" of ESMTPA "when the SMTP AUTH extension is also used".
func TestProgramHasNotAuthenticated(t *testing.T) {
	spool := &memSpool{}
	o := options(spool)
	o.Local = "uid 1000"
	if r := send(t, start(t, o), smtp.MailParams{}, strings.NewReader("x")); !r.Positive() {
		t.Fatal(r)
	}
	k, _ := spool.last()
	if src := k.message.Source; src.Account != "uid 1000" || src.Protocol != "ESMTP" || !bytes.Contains(k.head, []byte(" with ESMTP id ")) {
		t.Errorf("%+v, %q", src, k.head)
	}
}

// What a user submits is made complete, and loses what is for nobody's eyes;
// everything else stays as it came. What others hand in stays as it is.
func TestSubmittedHeader(t *testing.T) {
	const author = "From: <a@far.example>\r\n"
	const date, id = "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n", author + "Message-ID: <00000000000000000001@mx.our.example>\r\n"
	const ours = "00000000000000000001@mx.our.example"
	for _, tt := range []struct{ name, in, added, content, headerID string }{
		{"complete", "Date: x\r\nFROM: x@y.z\r\nMessage-ID: <a@b>\r\n\r\nx\r\n", "", "Date: x\r\nFROM: x@y.z\r\nMessage-ID: <a@b>\r\n\r\nx\r\n", "a@b"},
		{"no From", "Date: x\r\nMessage-ID: <a@b>\r\n\r\nFrom: x\r\n", author, "Date: x\r\nMessage-ID: <a@b>\r\n\r\nFrom: x\r\n", "a@b"},
		{"many authors", "Date: x\r\nFrom: x@y.z, y@y.z\r\nMessage-ID: <a@b>\r\n\r\n", "Sender: <a@far.example>\r\n",
			"Date: x\r\nFrom: x@y.z, y@y.z\r\nMessage-ID: <a@b>\r\n\r\n", "a@b"},
		{"many authors and who sends", "Date: x\r\nFrom: x@y.z, y@y.z\r\nSender: y@y.z\r\nMessage-ID: <a@b>\r\n\r\n", "",
			"Date: x\r\nFrom: x@y.z, y@y.z\r\nSender: y@y.z\r\nMessage-ID: <a@b>\r\n\r\n", "a@b"},
		{"nothing", "Subject: x\r\n\r\nx\r\n", date + id, "Subject: x\r\n\r\nx\r\n", ours},
		{"no Date", "message-id: <a@b>\r\n\r\nx\r\n", date + author, "message-id: <a@b>\r\n\r\nx\r\n", "a@b"},
		{"Bcc", "To: a@b.c\r\nBcc: b,\r\n c\r\nDATE: x\r\n\r\nBcc: d\r\n", id, "To: a@b.c\r\nDATE: x\r\n\r\nBcc: d\r\n", ours},
		{"Return-Path", "Return-Path: <x@y>\r\nDate: x\r\n\r\nx\r\n", id, "Date: x\r\n\r\nx\r\n", ours},
		{"only Bcc", "Bcc: b\r\n\r\nx\r\n", date + id, "\r\nx\r\n", ours},
		{"no header", "hello\r\nDate: x\r\n", date + id + "\r\n", "hello\r\nDate: x\r\n", ours},
		{"no header, blank first", " hello\r\n", date + id + "\r\n", " hello\r\n", ours},
		{"empty header", "\r\nhello\r\n", date + id, "\r\nhello\r\n", ours},
		{"empty", "", date + id, "", ours},
		{"cut short", "Bcc", date + id, "Bcc", ours},
	} {
		for _, submission := range []bool{true, false} {
			spool := &memSpool{}
			o := options(spool)
			o.Submission = submission
			s := start(t, o)
			if r := send(t, s, smtp.MailParams{}, iotest.OneByteReader(strings.NewReader(tt.in))); !r.Positive() {
				t.Fatal(r)
			}
			k, _ := spool.last()
			added, content, headerID := tt.added, tt.content, tt.headerID
			if !submission {
				if added, content = "", tt.in; strings.HasPrefix(content, " ") {
					added = "\r\n" // or it would go on with our trace field
				}
				if headerID == ours {
					headerID = ""
				}
			}
			_, after, _ := bytes.Cut(k.head, []byte("12:00:00 +0000\r\n"))
			if string(after) != added || string(k.content) != content || k.message.HeaderID != headerID {
				t.Errorf("%s, submission %v: %q, then %q, called %q", tt.name, submission, after, k.content, k.message.HeaderID)
			}
			if k.message.Size != int64(len(k.head)+len(k.content)) {
				t.Errorf("%s: size %d", tt.name, k.message.Size)
			}
		}
	}
}

// RFC 6409 4.2: "it MUST ensure that all domains in address header fields are fully
// qualified." What others hand in is none of our business.
func TestSubmittedAddresses(t *testing.T) {
	const wrong = "554 5.6.0 The header is wrong: "
	user := func(o *Options) { o.Submission = true }
	for _, tt := range []struct {
		name, in string
		who      func(*Options)
		utf8     bool
		want     string
	}{
		{"right", "From: Alice <alice@our.example>\r\nTo: b@[192.0.2.1]\r\n", user, false, "250 2.0.0 "},
		{"no domain", "To: bob\r\n", user, false, wrong + "To: bob: an address needs an @ and a domain"},
		{"one label", "Cc: bob@sales\r\n", user, false, wrong + "Cc: bob@sales: its domain is not fully qualified"},
		{"one label, which is ours", "Cc: bob@local\r\n", func(o *Options) { o.Submission, o.Router = true, oneLabel{} }, false, "250 2.0.0 "},
		{"a router that is out of order", "Cc: bob@sales\r\n", func(o *Options) { o.Submission, o.Router = true, oneLabel{io.EOF} }, false, "250 2.0.0 "},
		{"two authors' fields", "From: a@b.c\r\nFrom: a@b.c\r\n", user, false, wrong + "From: there is a second field of this name"},
		{"beyond ASCII", "To: b\u00f6b@b.example\r\n", user, false, wrong + "To: b??b@b.example: it is not ASCII, which needs SMTPUTF8"},
		{"beyond ASCII, with SMTPUTF8", "To: b\u00f6b@b\u00fccher.example\r\n", user, true, "250 2.0.0 "},
		{"of a program", "From: root (Cron)\r\nTo: root\r\n", func(o *Options) { o.Submission, o.Local = true, "root" }, false, "250 2.0.0 "},
		{"of another server", "From: bob\r\nTo: bob\r\n", func(*Options) {}, false, "250 2.0.0 "},
	} {
		spool := &memSpool{}
		o := options(spool)
		var told []postrider.Event
		o.Refused = func(e postrider.Event) { told = append(told, e) }
		tt.who(&o)
		r := send(t, start(t, o), smtp.MailParams{UTF8: tt.utf8}, strings.NewReader("Message-ID: <m@far>\r\n"+tt.in+"\r\nTo: x\r\n"))
		if got := r.String(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if refused := !r.Positive(); refused != (len(told) == 1) || refused && told[0].HeaderID != "m@far" || refused != (len(spool.kept) == 0) {
			t.Errorf("%s: told %+v, %d kept", tt.name, told, len(spool.kept))
		}
	}
}

// oneLabel is a router that knows the domain "local".
type oneLabel struct{ err error }

func (r oneLabel) Resolve(ctx context.Context, to smtp.Path, from postrider.Source) (postrider.Resolution, error) {
	switch {
	case to.Domain == "local":
		return postrider.Resolution{Kind: postrider.KindUnknown}, nil
	case to.Domain == "sales":
		return postrider.Resolution{}, r.err
	}
	return mapRouter{}.Resolve(ctx, to, from)
}

func (oneLabel) Route(smtp.Path) postrider.Route { return postrider.Route{} }

// What is not taken is told of, with who and why, and a client that only went
// away is not.
func TestRefused(t *testing.T) {
	spool := &memSpool{}
	o := options(spool)
	var told []postrider.Event
	o.Refused = func(e postrider.Event) { told = append(told, e) }
	o.Mail = checkFunc(func(tx *postrider.Transaction) postrider.Verdict {
		return postrider.Verdict{Refuse: tx.From.IsNull(), Reply: smtp.Reply{Code: 550, Text: strings.Repeat("ü", 1000)}}
	})
	o.Data = checkFunc(func(tx *postrider.Transaction) postrider.Verdict { return postrider.Verdict{Refuse: tx.Hops > 0} })
	s := start(t, o)
	s.Mail(t.Context(), smtp.Path{}, smtp.MailParams{Size: 9})
	s.Mail(t.Context(), from, smtp.MailParams{})
	s.Rcpt(t.Context(), smtp.Path{Local: "nobody", Domain: "our.example"}, smtp.RcptParams{})
	s.Rcpt(t.Context(), alice, smtp.RcptParams{})
	body := "Received: x\r\nMessage-ID: <m@far>\r\n\r\n"
	s.Data(t.Context(), strings.NewReader(body))
	send(t, s, smtp.MailParams{}, iotest.ErrReader(errors.New("connection lost")))
	send(t, s, smtp.MailParams{}, strings.NewReader("x\r\n"))
	if len(told) != 3 {
		t.Fatalf("%+v", told)
	}
	for i, e := range told {
		if e.Kind != postrider.EventRefused || !e.Time.Equal(clock) || e.Source.Peer != peer || e.Source.Listener != "mx" || e.Source.Hello != "client.example" {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if e := told[0]; e.Reply.Code != 550 || len(e.Reply.Text) > refusedTextMax || e.Size != 9 || !e.From.IsNull() {
		t.Errorf("%+v", e)
	}
	if e := told[1]; e.Reply.Code != 550 || e.From != from || e.To.Local != "nobody" || len(e.Tos) != 1 || e.Tos[0] != e.To {
		t.Errorf("%+v", e)
	}
	if e := told[2]; e.Reply.Code != 451 || e.HeaderID != "m@far" || e.Size != int64(len(body)) || len(e.Tos) != 1 || e.Tos[0] != alice {
		t.Errorf("%+v", e)
	}
}

// What is told of a long reply ends with a whole character, wherever it is cut: journals
// and logs are read by programs that take valid UTF-8 alone.
func TestToldReplyIsText(t *testing.T) {
	for before := range 4 {
		o := options(&memSpool{})
		var told []postrider.Event
		o.Refused = func(e postrider.Event) { told = append(told, e) }
		o.Mail = checkFunc(func(*postrider.Transaction) postrider.Verdict {
			return postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: 550, Text: strings.Repeat("x", before) + strings.Repeat("\u20ac", 1000)}}
		})
		start(t, o).Mail(t.Context(), from, smtp.MailParams{})
		if len(told) != 1 || !utf8.ValidString(told[0].Reply.Text) || len(told[0].Reply.Text) < refusedTextMax-3 {
			t.Errorf("%d octets before: %+v", before, told)
		}
	}
}

// RFC 1870 6.1: where there is no room for a message of the size that was
// declared, the answer is "452 insufficient system storage".
func TestRoom(t *testing.T) {
	spool := &memSpool{}
	o := options(spool)
	o.Room = func(size int64) bool { return size < 1000 }
	s := start(t, o)
	if r := s.Mail(t.Context(), from, smtp.MailParams{Size: 1000}); !strings.HasPrefix(r.String(), "452 4.3.1 ") {
		t.Error(r)
	}
	if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{}); r.Code != 503 {
		t.Errorf("RCPT after that: %v", r)
	}
	if r := send(t, s, smtp.MailParams{Size: 999}, strings.NewReader("x")); !r.Positive() {
		t.Error(r)
	}
	for _, err := range []error{postrider.ErrFull, syscall.EDQUOT, syscall.ENOSPC} {
		spool.commitErr = &testErr{err}
		if r := send(t, s, smtp.MailParams{}, strings.NewReader("x")); !strings.HasPrefix(r.String(), "452 4.3.1 ") {
			t.Errorf("%v: %v", err, r)
		}
	}
}
