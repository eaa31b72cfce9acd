package node

import (
	"context"
	"io"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/receive"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// localListener is the name of where programs on this machine hand mail in. No
// listener of a configuration can have it.
const localListener = "(local)"

// submit takes mail of a program on this machine in. It returns what the program
// would hear over SMTP, and the recipient that was refused, or -1.
func (n *Node) submit(ctx context.Context, l admin.Letter) (smtp.Reply, int) {
	if !n.ready.Load() {
		return closing, -1
	}
	g := n.gen.Load()
	ctx = context.WithValue(ctx, generationKey{}, g)
	local := receive.New(receive.Options{
		Spool: n.spool, Router: currentRouter{n},
		Mail:     currentCheck{n, localListener, phaseMail},
		Rcpt:     currentCheck{n, localListener, phaseRcpt},
		Data:     currentCheck{n, localListener, phaseData},
		Hostname: n.cfg.Hostname, Listener: localListener, Local: callerOf(ctx), Submission: true, Room: n.store.Room, Refused: n.refused,
		Wake: n.queue.FirstWake, Now: n.env.Now,
		Alarm: func(err error) { n.env.Log.Error("mail of a program could not be taken in", "error", err) },
	})
	s, reply := local.Open(ctx, smtpd.Client{})
	if s == nil {
		return reply, -1
	}
	defer s.Close()
	s.Hello(ctx, n.cfg.Hostname, true)
	if l.Size > g.cfg.Limits.MessageSize {
		return tooLarge.Reply, -1
	}
	if r := s.Mail(ctx, l.From, smtp.MailParams{Body: smtp.Body8BitMIME, UTF8: l.UTF8, Size: l.Size}); !r.Positive() {
		return r, -1
	}
	if len(l.To) > g.cfg.Limits.Recipients {
		return smtp.Reply{Code: 552, Status: smtp.Status{Class: 5, Subject: 5, Detail: 3}, Text: "Too many recipients"}, -1
	}
	for i, to := range l.To {
		if r := s.Rcpt(ctx, to, smtp.RcptParams{}); !r.Positive() {
			return r, i
		}
	}
	content := &limited{in: &strict{in: l.Content}, left: g.cfg.Limits.MessageSize}
	answers := s.Data(ctx, content)
	if content.left < 0 {
		return tooLarge.Reply, -1
	}
	if len(answers) == 0 {
		return smtp.Reply{}, -1
	}
	return answers[0], -1
}

// tooLarge ends a content that is larger than we take.
var tooLarge = &smtpd.ContentError{Reply: smtp.Reply{
	Code: 552, Status: smtp.Status{Class: 5, Subject: 3, Detail: 4}, Text: "The message is larger than is taken here"}}

// A limited reader ends with tooLarge instead of what is beyond its limit.
type limited struct {
	in   io.Reader
	left int64 // octets; negative: there were more
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, tooLarge
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.in.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, tooLarge
	}
	return n, err
}
