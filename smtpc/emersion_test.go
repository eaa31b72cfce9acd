package smtpc

import (
	"bytes"
	"fmt"
	"io"
	"net"
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

// TestOtherServer sends to the server of github.com/emersion/go-smtp: the
// grammar of our commands is checked by somebody who did not write them.
func TestOtherServer(t *testing.T) {
	k := &keeper{}
	server := gosmtp.NewServer(k)
	server.Domain, server.EnableDSN, server.EnableSMTPUTF8 = "mx.example", true, true
	server.MaxMessageBytes, server.ReadTimeout, server.WriteTimeout = 1<<20, time.Minute, time.Minute
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	defer served.Wait()
	defer server.Close()

	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
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
