package e2e

import (
	"io"
	"log"
	"net"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// A peer is a next hop: the server of another project, which does as it is
// told and keeps what it gets.
type peer struct {
	addr string

	mu   sync.Mutex
	rcpt func(to string) error // nil: every recipient is taken
	data func(got delivery) error
	got  []delivery
	mail int // MAIL commands seen
}

// A delivery is what a peer took.
type delivery struct {
	from string
	to   []string
	body []byte
}

// newPeer listens at addr until the test ends.
func newPeer(t *testing.T, addr string) *peer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{addr: l.Addr().String()}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &peerSession{p: p}, nil }))
	srv.Domain = "peer.example"
	srv.ErrorLog = log.New(io.Discard, "", 0) // clients that are killed are no news
	srv.EnableDSN = false                     // so that reports of success are ours to write
	srv.EnableSMTPUTF8 = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return p
}

// on sets what the peer answers from now on; nil takes everything.
func (p *peer) on(rcpt func(to string) error, data func(delivery) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rcpt, p.data = rcpt, data
}

// taken returns what it took so far.
func (p *peer) taken() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]delivery(nil), p.got...)
}

// asked returns how many transactions were begun.
func (p *peer) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mail
}

type peerSession struct {
	p   *peer
	now delivery
}

func (s *peerSession) Mail(from string, _ *smtp.MailOptions) error {
	s.now = delivery{from: from}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.mail++
	return nil
}

func (s *peerSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.p.mu.Lock()
	rcpt := s.p.rcpt
	s.p.mu.Unlock()
	if rcpt != nil {
		if err := rcpt(to); err != nil {
			return err
		}
	}
	s.now.to = append(s.now.to, to)
	return nil
}

func (s *peerSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.now.body = b
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.data != nil {
		if err := s.p.data(s.now); err != nil {
			return err
		}
	}
	s.p.got = append(s.p.got, s.now)
	return nil
}

func (s *peerSession) Reset()        { s.now = delivery{} }
func (s *peerSession) Logout() error { return nil }

// refusal makes the error that go-smtp sends as a reply.
func refusal(code int, class, subject, detail int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}
