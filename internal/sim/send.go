package sim

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// content writes what a letter says.
func (l *Letter) content(seed uint64) []byte {
	token, rng := l.Token(seed), Stream(seed, fmt.Sprint("content ", l.N))
	var body strings.Builder
	fmt.Fprintf(&body, "Message-ID: <%s@sender.example>\r\nFrom: sender@a.example\r\nSubject: %s\r\n", token, token)
	for i := range l.Hops {
		fmt.Fprintf(&body, "Received: from hop%d.example by hop%d.example; Mon, 1 Jan 2001 00:00:00 +0000\r\n", i, i+1)
	}
	body.WriteString("\r\n")
	if l.Dots {
		body.WriteString(dots(rng, l.Size))
	}
	for body.Len() < l.Size {
		body.WriteString([]string{"a line of some length, as people write them\r\n", ".\r\n", "..dots\r\n", "\r\n",
			"caf\xc3\xa9\r\n", ".x\r\n", strings.Repeat("longer ", 20) + "\r\n",
			"MAIL FROM:<sender@a.example>\r\nRCPT TO:<ann@a.example>\r\nDATA\r\n", "QUIT\r\n"}[rng.IntN(9)])
	}
	return []byte(body.String())
}

// retryAfter is how long a sender waits that was not answered 250.
const retryAfter = 10 * time.Minute

// send offers a letter until somebody takes it for all that can be taken, or the
// sender gives up.
func (s *Site) send(ctx context.Context, host *Host, l *Letter) {
	e := s.letter(l)
	left := l.To
	for try := range l.Tries {
		if try > 0 {
			time.Sleep(retryAfter + time.Duration(l.N)*time.Microsecond)
		}
		if left = s.offer(ctx, host, l, e, left); len(left) == 0 {
			return
		}
	}
}

// offer offers a letter once, and returns for whom it may be tried again.
func (s *Site) offer(ctx context.Context, host *Host, l *Letter, e *Entry, to []string) []string {
	link, err := host.DialContext(ctx, "tcp", net.JoinHostPort(machines[l.Server].addr, fmt.Sprint(max(l.Port, smtpPort))))
	if err != nil {
		return to
	}
	if l.Manner != nil {
		return s.offered(l, e, to, s.rudely(link.(*conn), l, e, to))
	}
	c, err := smtpc.NewConn(ctx, link, smtpc.Options{Hello: l.By + ".example"})
	if err != nil {
		return to
	}
	defer c.Close()
	tx := smtpc.Transaction{Content: bytes.NewReader(e.Content)}
	if !l.Null {
		tx.From = smtp.Path{Local: "sender", Domain: "a.example"}
	}
	for _, to := range to {
		local, domain, _ := strings.Cut(to, "@")
		tx.Rcpts = append(tx.Rcpts, smtpc.Rcpt{To: smtp.Path{Local: local, Domain: domain}})
	}
	return s.offered(l, e, to, c.Send(ctx, tx))
}

// offered tells what a server has answered, and returns for whom it may be tried
// again.
func (s *Site) offered(l *Letter, e *Entry, to []string, res smtpc.Result) []string {
	if res.Final.Positive() {
		s.works(l.By)
	}
	s.tell("%s: %s to %v: MAIL %d RCPT %v DATA %d final %d uncertain %v", l.By, l.Token(s.Plan.Seed), to, res.Mail.Code, codes(res.Rcpts),
		res.Data.Code, res.Final.Code, res.Uncertain)
	return s.note(l, e, to, &res)
}

func codes(replies []smtp.Reply) []int {
	all := make([]int, len(replies))
	for i, r := range replies {
		all[i] = r.Code
	}
	return all
}

// note writes down what the server has answered.
func (s *Site) note(l *Letter, e *Entry, to []string, res *smtpc.Result) (again []string) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	if res.Mail.Code/100 == 5 || res.Final.Code/100 == 5 || res.Data.Code/100 == 5 && res.Accepted() > 0 {
		s.wrong("internal_failure_is_4xx: %s at %s: MAIL %d DATA %d final %d", l.Token(s.Plan.Seed), l.Server, res.Mail.Code, res.Data.Code, res.Final.Code)
	}
	for i, r := range res.Rcpts {
		switch taken := takes(l, to[i]); {
		case !res.Mail.Positive():
			again = append(again, to[i])
		case r.Code/100 == 5 && taken:
			s.wrong("internal_failure_is_4xx: %s: RCPT %s at %s: %v", l.Token(s.Plan.Seed), to[i], l.Server, r)
		case r.Positive() && !taken:
			s.wrong("no_open_relay: %s: %s takes %s from %s", l.Token(s.Plan.Seed), l.Server, to[i], l.By)
		case r.Positive() && res.Final.Positive():
			e.Acked[to[i]]++
		case r.Positive() && res.Uncertain:
			e.Uncertain++
			again = append(again, to[i])
		case r.Code/100 != 5:
			again = append(again, to[i])
		}
	}
	return again
}

// takes reports whether the server of a letter has to take a recipient.
func takes(l *Letter, to string) bool {
	if l.Port != 0 {
		return atDoor(l, to)
	}
	if to == "nobody@b.example" {
		return l.Server != "b" && l.By == "sender"
	}
	if l.By == "sender" {
		return true
	}
	switch l.Server {
	case "a":
		return strings.HasSuffix(to, "@a.example")
	case "b":
		return strings.HasSuffix(to, "@b.example") || strings.HasSuffix(to, "@c.example")
	}
	return strings.HasSuffix(to, "@c.example")
}

// client is the operator's connection to a machine.
func (s *Site) client(m *Machine) (admin.Client, func()) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.operator.DialContext(ctx, "tcp", net.JoinHostPort(m.addr, fmt.Sprint(controlPort)))
	}}
	return admin.Client{Transport: t}, t.CloseIdleConnections
}

// operate gives an order about the mail for one place, and takes a hold back
// after a while.
func (s *Site) operate(ctx context.Context, m *Machine, k Strike) {
	rng := Stream(k.Arg, "order")
	f := admin.Filter{Domain: places[rng.IntN(len(places)-1)].domain}
	if (k.Kind == "drop" || k.Kind == "bounce") && rng.IntN(2) == 0 {
		f.State = admin.StateDeferred
	}
	s.order(ctx, m, admin.Order{Verb: admin.Verb(strings.TrimPrefix(k.Kind, "long-")), Filter: f})
	switch k.Kind {
	case "hold":
		time.Sleep(k.For)
	case "long-hold": // longer than mail lives, but for what came late
		s.at(healed + k.For)
	default:
		return
	}
	for range 100 { // until the machine has heard it
		if s.order(ctx, m, admin.Order{Verb: admin.VerbRelease, Filter: f}) == nil {
			return
		}
		time.Sleep(17 * time.Minute)
	}
}

// order gives an order, and writes down what it has touched. Of an order whose
// answer breaks off, nobody knows.
func (s *Site) order(ctx context.Context, m *Machine, o admin.Order) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, done := s.client(m)
	defer done()
	var failed error
	for t, err := range client.Do(ctx, o) {
		if failed = err; err != nil {
			break
		}
		for _, r := range t.Recipients {
			s.tell("operator: %s: %s %s to %s, %s", m.name, o.Verb, t.ID, r.To, r.When)
			s.ordered(o.Verb, r.To)
		}
	}
	if failed != nil {
		s.tell("operator: %s: %s %s: %v", m.name, o.Verb, o.Filter.Domain, firstLine(failed))
		s.ordered(o.Verb, "@"+o.Filter.Domain)
	}
	return failed
}
