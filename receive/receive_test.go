package receive

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

var (
	peer  = netip.MustParseAddrPort("192.0.2.1:999")
	clock = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	alice = smtp.Path{Local: "alice", Domain: "our.example"}
	from  = smtp.Path{Local: "a", Domain: "far.example"}
)

// options are those of a Receiver that takes mail for our.example.
func options(spool *memSpool) Options {
	return Options{Spool: spool, Router: mapRouter{}, Rcpt: localOnly, Hostname: "mx.our.example", Listener: "mx",
		Now: func() time.Time { return clock }, Wake: func(m *postrider.Message) time.Time { return m.Arrived.Add(time.Hour) }}
}

// start opens a session that has said hello.
func start(t *testing.T, o Options) smtpd.Session {
	t.Helper()
	s, r := New(o).Open(t.Context(), smtpd.Client{Peer: peer})
	if !r.IsZero() {
		t.Fatalf("greeting %v", r)
	}
	if r := s.Hello(t.Context(), "client.example", true); !r.Positive() {
		t.Fatalf("hello %v", r)
	}
	return s
}

// send runs a transaction to alice.
func send(t *testing.T, s smtpd.Session, p smtp.MailParams, content io.Reader) smtp.Reply {
	t.Helper()
	if r := s.Mail(t.Context(), from, p); !r.Positive() {
		t.Fatalf("mail: %v", r)
	}
	if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{}); !r.Positive() {
		t.Fatalf("rcpt: %v", r)
	}
	return s.Data(t.Context(), content)[0]
}

func TestMessageIsCommitted(t *testing.T) {
	spool := &memSpool{}
	s := start(t, options(spool))
	p := smtp.MailParams{Ret: smtp.RetHeaders, EnvID: "e1", Body: smtp.Body8BitMIME}
	if r := s.Mail(t.Context(), from, p); r.String() != "250 2.1.0 Sender OK" {
		t.Fatal(r)
	}
	if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{Notify: smtp.NotifySuccess, ORcpt: "rfc822;x"}); r.String() != "250 2.1.5 yes" {
		t.Fatal(r)
	}
	body := "Subject: x\r\n\r\n.dot\r\n\xff\r\n"
	if r := s.Data(t.Context(), iotest.OneByteReader(strings.NewReader(body)))[0]; r.String() != "250 2.0.0 00000000000000000001 queued" {
		t.Fatal(r)
	}
	k, n := spool.last()
	if n != 1 || string(k.content) != body || spool.open() != 0 {
		t.Fatalf("%d messages, content %q, %d drafts", n, k.content, spool.open())
	}
	want := "Received: from client.example ([192.0.2.1])\r\n\tby mx.our.example with ESMTP id 00000000000000000001\r\n" +
		"\tfor <alice@our.example>; Sat, 21 Nov 2026 12:00:00 +0000\r\n"
	if string(k.head) != want {
		t.Errorf("head %q", k.head)
	}
	m := k.message
	if m.ID != "00000000000000000001" || m.From != from || m.EnvID != "e1" || m.Ret != smtp.RetHeaders || m.UTF8 || !m.EightBit ||
		!m.Arrived.Equal(clock) || m.Size != int64(len(body)+len(want)) || !k.add.Wake.Equal(clock.Add(time.Hour)) {
		t.Errorf("message %+v, wake %v", m, k.add.Wake)
	}
	if m.Source != (postrider.Source{Listener: "mx", Peer: peer, Hello: "client.example", Protocol: "ESMTP"}) {
		t.Errorf("source %+v", m.Source)
	}
	if len(m.Recipients) != 1 || m.Recipients[0] != (postrider.Recipient{To: alice, Notify: smtp.NotifySuccess, ORcpt: "rfc822;x", Due: clock}) {
		t.Errorf("recipients %+v", m.Recipients)
	}
}

// No octet is answered for before Commit has returned: the reply comes after it.
func TestReplyComesAfterCommit(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	spool := &memSpool{committing: func() { close(entered); <-release }}
	s := start(t, options(spool))
	answered := make(chan smtp.Reply, 1)
	go func() { answered <- send(t, s, smtp.MailParams{}, strings.NewReader("x\r\n")) }()
	<-entered
	select {
	case r := <-answered:
		t.Fatalf("answered %v before the commit", r)
	default:
	}
	close(release)
	if r := <-answered; !r.Positive() {
		t.Fatal(r)
	}
}

func TestFailuresAreTemporary(t *testing.T) {
	boom := errors.New("boom")
	full := &testErr{syscall.ENOSPC}
	tests := []struct {
		name    string
		spoil   func(s *memSpool)
		content io.Reader
		want    string
		alarms  int
	}{
		{"create fails", func(s *memSpool) { s.createErr = boom }, nil, "451 4.3.0", 1},
		{"spool is closed", func(s *memSpool) { s.createErr = postrider.ErrClosed }, nil, "451 4.3.0", 1},
		{"disk full at create", func(s *memSpool) { s.createErr = full }, nil, "452 4.3.1", 1},
		{"write fails", func(s *memSpool) { s.writeErr = boom }, nil, "451 4.3.0", 1},
		{"disk full at write", func(s *memSpool) { s.writeErr = full }, nil, "452 4.3.1", 1},
		{"commit fails", func(s *memSpool) { s.commitErr = boom }, nil, "451 4.3.0", 1},
		{"disk full at commit", func(s *memSpool) { s.commitErr = full }, nil, "452 4.3.1", 1},
		{"connection lost", nil, io.MultiReader(strings.NewReader("x\r\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), "451", 0},
		{"content refused", nil, io.MultiReader(strings.NewReader("x\r\n"), iotest.ErrReader(&smtpd.ContentError{
			Reply: smtp.Reply{Code: 554, Status: smtp.Status{Class: 5, Subject: 6, Detail: 0}, Text: "bare LF"}})), "554 5.6.0 bare LF", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spool := &memSpool{}
			if tt.spoil != nil {
				tt.spoil(spool)
			}
			alarms := 0
			o := options(spool)
			o.Alarm = func(error) { alarms++ }
			content := tt.content
			if content == nil {
				content = strings.NewReader("Subject: x\r\n\r\nbody\r\n")
			}
			s := start(t, o)
			r := send(t, s, smtp.MailParams{}, content)
			if got := r.String(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("reply %s, want %s", got, tt.want)
			}
			if _, n := spool.last(); n != 0 || spool.open() != 0 || alarms != tt.alarms {
				t.Errorf("%d messages, %d drafts, %d alarms", n, spool.open(), alarms)
			}
			if r := s.Data(t.Context(), strings.NewReader("again"))[0]; r.Positive() {
				t.Errorf("the transaction was still open: %v", r)
			}
		})
	}
}

type testErr struct{ err error }

func (e *testErr) Error() string { return "spool: " + e.err.Error() }
func (e *testErr) Unwrap() error { return e.err }

func TestRouterFails(t *testing.T) {
	o := options(&memSpool{})
	o.Router = mapRouter{err: errors.New("boom")}
	s := start(t, o)
	s.Mail(t.Context(), from, smtp.MailParams{})
	if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{}); !strings.HasPrefix(r.String(), "451 4.4.3") {
		t.Fatal(r)
	}
}

func TestChecks(t *testing.T) {
	no := func(code int) postrider.Verdict {
		return postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: code}}
	}
	spool := &memSpool{}
	o := options(spool)
	var rcpt, data postrider.Transaction
	o.Mail = checkFunc(func(tx *postrider.Transaction) postrider.Verdict {
		if tx.From.IsNull() {
			return no(550)
		}
		return postrider.Verdict{Reply: smtp.Reply{Code: 250, Text: "welcome"}}
	})
	o.Rcpt = checkFunc(func(tx *postrider.Transaction) postrider.Verdict { rcpt = *tx; return localOnly(tx) })
	o.Data = checkFunc(func(tx *postrider.Transaction) postrider.Verdict {
		data = *tx
		if tx.Hops > 1 {
			return no(554)
		}
		return postrider.Verdict{}
	})
	s := start(t, o)
	if r := s.Mail(t.Context(), smtp.Path{}, smtp.MailParams{}); r.Code != 550 {
		t.Fatal(r)
	}
	if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{}); r.Code != 503 {
		t.Fatalf("rcpt after a refused mail: %v", r)
	}
	if r := s.Mail(t.Context(), from, smtp.MailParams{Size: 7}); r.Text != "welcome" {
		t.Fatal(r)
	}
	s.Rcpt(t.Context(), alice, smtp.RcptParams{})
	if r := s.Rcpt(t.Context(), smtp.Path{Local: "nobody", Domain: "our.example"}, smtp.RcptParams{Notify: smtp.NotifyNever}); r.Code != 550 {
		t.Fatal(r)
	}
	if rcpt.Accepted != 1 || rcpt.To.Local != "nobody" || rcpt.Resolution.Kind != postrider.KindUnknown || rcpt.Params.Size != 7 ||
		rcpt.RcptParams.Notify != smtp.NotifyNever || rcpt.Source.Peer != peer || rcpt.From != from {
		t.Errorf("the check of RCPT saw %+v", rcpt)
	}
	body := "Received: a\r\nReceived: b\r\n\r\n"
	if r := s.Data(t.Context(), strings.NewReader(body))[0]; r.Code != 554 {
		t.Fatal(r)
	}
	if data.Hops != 2 || data.Size != int64(len(body)) || data.Accepted != 1 {
		t.Errorf("the check of DATA saw %+v", data)
	}
	if _, n := spool.last(); n != 0 || spool.open() != 0 {
		t.Errorf("%d messages, %d drafts after a refusal", n, spool.open())
	}
}

// Nobody answers for a recipient: without a check, or by one without an opinion,
// it is not taken.
func TestRecipientNeedsAYes(t *testing.T) {
	for _, c := range []postrider.Check{nil, checkFunc(func(*postrider.Transaction) postrider.Verdict { return postrider.Verdict{} })} {
		o := options(&memSpool{})
		o.Rcpt = c
		s := start(t, o)
		s.Mail(t.Context(), from, smtp.MailParams{})
		if r := s.Rcpt(t.Context(), alice, smtp.RcptParams{}); r.Positive() {
			t.Fatalf("taken by nobody: %v", r)
		}
		if r := s.Data(t.Context(), strings.NewReader("x"))[0]; r.Code != 503 {
			t.Fatal(r)
		}
	}
}

func TestRecipients(t *testing.T) {
	spool := &memSpool{}
	s := start(t, options(spool))
	s.Mail(t.Context(), from, smtp.MailParams{})
	for _, to := range []smtp.Path{alice, {Local: "ALICE", Domain: "our.example"}, {Local: `"alice"`, Domain: "our.example"},
		{Local: "postmaster", Domain: "our.example"}, {Local: "Postmaster"}, {Local: "bob", Domain: "our.example"}} {
		if r := s.Rcpt(t.Context(), to, smtp.RcptParams{}); !r.Positive() {
			t.Fatalf("%s: %v", to, r)
		}
	}
	if r := s.Data(t.Context(), strings.NewReader("x"))[0]; !r.Positive() {
		t.Fatal(r)
	}
	k, _ := spool.last()
	var got []string
	for _, r := range k.message.Recipients {
		got = append(got, r.To.String()+" "+r.ORcpt)
	}
	if s := strings.Join(got, ","); s != "alice@our.example ,ops@our.example rfc822;postmaster@our.example,bob@our.example " {
		t.Errorf("recipients %s", s)
	}
	// RFC 5321 4.4: "it MUST contain exactly one <path> entry, even when multiple
	// RCPT commands have been given."
	if bytes.Contains(k.head, []byte("for ")) {
		t.Errorf("one of several recipients in %q", k.head)
	}
	if k.message.EightBit {
		t.Error("8 bit where there is none")
	}
}

func TestProtocol(t *testing.T) {
	for _, tt := range []struct {
		esmtp, utf8 bool
		want        string
	}{{false, false, "SMTP"}, {true, false, "ESMTP"}, {true, true, "UTF8SMTP"}} {
		spool := &memSpool{}
		s := start(t, options(spool))
		s.Hello(t.Context(), "h", tt.esmtp)
		if r := send(t, s, smtp.MailParams{UTF8: tt.utf8}, strings.NewReader("x")); !r.Positive() {
			t.Fatal(r)
		}
		k, _ := spool.last()
		if k.message.Source.Protocol != tt.want || k.message.UTF8 != tt.utf8 || !bytes.Contains(k.head, []byte(" with "+tt.want+" id ")) {
			t.Errorf("%s: %+v %q", tt.want, k.message.Source, k.head)
		}
	}
}

// A new hello, a reset and a new MAIL each forget the recipients before them.
func TestTransactionsDoNotMix(t *testing.T) {
	for name, end := range map[string]func(smtpd.Session){
		"reset": func(s smtpd.Session) { s.Reset() },
		"hello": func(s smtpd.Session) { s.Hello(t.Context(), "x", true) },
		"mail":  func(s smtpd.Session) {},
		"close": func(s smtpd.Session) { s.Close() },
	} {
		spool := &memSpool{}
		s := start(t, options(spool))
		s.Mail(t.Context(), from, smtp.MailParams{})
		s.Rcpt(t.Context(), smtp.Path{Local: "bob", Domain: "our.example"}, smtp.RcptParams{})
		end(s)
		if r := send(t, s, smtp.MailParams{}, strings.NewReader("x")); !r.Positive() {
			t.Fatalf("%s: %v", name, r)
		}
		if k, _ := spool.last(); len(k.message.Recipients) != 1 || k.message.Recipients[0].To != alice {
			t.Errorf("%s: %+v", name, k.message.Recipients)
		}
	}
}
