package smtpc

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
)

// A keeper is a server of other people's making that keeps what it is sent.
type keeper struct {
	mu   sync.Mutex
	mail []string // "from to to\ncontent"
}

func (k *keeper) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &keeping{k: k}, nil }

type keeping struct {
	k        *keeper
	envelope string
}

func (s *keeping) Mail(from string, o *gosmtp.MailOptions) error {
	s.envelope = fmt.Sprintf("%s size=%d body=%s utf8=%v ret=%s envid=%s", from, o.Size, o.Body, o.UTF8, o.Return, o.EnvelopeID)
	return nil
}

func (s *keeping) Rcpt(to string, o *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
	}
	s.envelope += fmt.Sprintf(" %s notify=%v orcpt=%s", to, o.Notify, o.OriginalRecipient)
	return nil
}

func (s *keeping) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.mail = append(s.k.mail, s.envelope+"\n"+string(b))
	return err
}

func (s *keeping) Reset()        { s.envelope = "" }
func (s *keeping) Logout() error { return nil }

// LMTPData is Data over LMTP. full@ is over quota.
func (s *keeping) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	err := s.Data(r)
	for to := range strings.FieldsSeq(s.envelope) {
		switch {
		case strings.HasPrefix(to, "full@"):
			status.SetStatus(to, &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 2, 2}, Message: "Over quota"})
		case strings.Contains(to, "@example.org"):
			status.SetStatus(to, err)
		}
	}
	return err
}

// other starts a server of other people's making, and returns a connection to it.
func other(t *testing.T, b gosmtp.Backend, network string, set func(*gosmtp.Server)) net.Conn {
	t.Helper()
	server := gosmtp.NewServer(b)
	server.Domain, server.TLSConfig = "mx.example", serverTLS()
	server.MaxMessageBytes, server.ReadTimeout, server.WriteTimeout = 1<<20, time.Minute, time.Minute
	set(server)
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "socket")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		served.Wait()
	})
	conn, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestOtherTLS: STARTTLS with that server, and a content of many records.
func TestOtherTLS(t *testing.T) {
	k := &keeper{}
	c, err := NewConn(t.Context(), other(t, k, "tcp", func(*gosmtp.Server) {}), Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartTLS(t.Context(), clientTLS("mx.example")); err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat(".line\r\n", 50_000)
	res := c.Send(t.Context(), Transaction{From: path(t, "a@example.net"), Rcpts: []Rcpt{{To: path(t, "b@example.org")}}, Content: strings.NewReader(content)})
	if got, want := describe(&res), "mail 250/2.0.0 rcpt 250/2.0.0 data 354 final 250/2.0.0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.mail) != 1 || !strings.HasSuffix(k.mail[0], "\n"+content) {
		t.Errorf("%d messages, or another content", len(k.mail))
	}
}

// TestOtherLMTP: LMTP over a Unix socket with that server.
func TestOtherLMTP(t *testing.T) {
	k := &keeper{}
	nc := other(t, k, "unix", func(s *gosmtp.Server) { s.LMTP, s.TLSConfig = true, nil })
	c, err := NewConn(t.Context(), nc, Options{LMTP: true})
	if err != nil {
		t.Fatal(err)
	}
	tx := Transaction{From: path(t, "a@example.net"), Content: strings.NewReader("Subject: x\r\n\r\n")}
	for _, to := range []string{"b@example.org", "nobody@example.org", "full@example.org", "c@example.org"} {
		tx.Rcpts = append(tx.Rcpts, Rcpt{To: path(t, to)})
	}
	for range 2 {
		tx.Content = strings.NewReader("Subject: x\r\n\r\n")
		res := c.Send(t.Context(), tx)
		if got, want := describe(&res), "mail 250/2.0.0 rcpt 250/2.0.0,550/5.1.1,250/2.0.0,250/2.0.0 data 354 final 250/2.0.0,-,452/4.2.2,250/2.0.0"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	if len(k.mail) != 2 {
		t.Errorf("%d messages", len(k.mail))
	}
}

// TestOtherServer sends to the server of github.com/emersion/go-smtp: the
// grammar of our commands is checked by somebody who did not write them.
func TestOtherServer(t *testing.T) {
	k := &keeper{}
	nc := other(t, k, "tcp", func(s *gosmtp.Server) { s.EnableDSN, s.EnableSMTPUTF8 = true, true })
	c, err := NewConn(t.Context(), nc, Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if size, ok := c.Ext("SIZE"); size != "1048576" || !ok {
		t.Errorf("SIZE %q %v", size, ok)
	}

	content := ".\r\n..\r\n\xc3\xbc" + strings.Repeat("x", 990) + "\r\n.x\r\n\r\n"
	tx := Transaction{
		From:    path(t, "a@example.net"),
		Params:  smtp.MailParams{Size: int64(len(content)), Body: smtp.Body8BitMIME, Ret: smtp.RetFull, EnvID: "id 1+1=2"},
		Rcpts:   []Rcpt{{To: path(t, "b@example.org"), Params: smtp.RcptParams{Notify: smtp.NotifySuccess | smtp.NotifyDelay, ORcpt: "rfc822;B+2Bx@example.org"}}, {To: path(t, "nobody@example.org")}, {To: path(t, `"a b"@example.org`)}},
		Content: strings.NewReader(content),
	}
	res := c.Send(t.Context(), tx)
	if got, want := describe(&res), "mail 250/2.0.0 rcpt 250/2.0.0,550/5.1.1,250/2.0.0 data 354 final 250/2.0.0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	many := Transaction{From: path(t, "ü@example.net"), Content: bytes.NewReader([]byte("x\r\n"))}
	for i := range 500 {
		many.Rcpts = append(many.Rcpts, Rcpt{To: path(t, fmt.Sprintf("r%d@example.org", i))})
	}
	if res := c.Send(t.Context(), many); res.Err != nil || res.Accepted() != 500 || !res.Final.Positive() {
		t.Errorf("500 recipients: %d accepted, final %v, %v", res.Accepted(), res.Final, res.Err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.mail) != 2 {
		t.Fatalf("%d messages", len(k.mail))
	}
	envelope, got, _ := strings.Cut(k.mail[0], "\n")
	want := fmt.Sprintf(`a@example.net size=%d body=8BITMIME utf8=false ret=FULL envid=id 1+1=2`, len(content)) +
		` b@example.org notify=[SUCCESS DELAY] orcpt=B+x@example.org a b@example.org notify=[] orcpt=`
	if envelope != want {
		t.Errorf("got  %s\nwant %s", envelope, want)
	}
	if got != content {
		t.Errorf("content %q, want %q", got, content)
	}
}
