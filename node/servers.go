package node

import (
	"net/netip"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/receive"
	"github.com/postrider/postrider/smtpd"
)

// makeServers puts a server behind each listener.
func (n *Node) makeServers() {
	for i, l := range n.cfg.Listeners {
		d := n.smtp[i]
		d.server = &smtpd.Server{
			Handler:  watched{n.receiver(l), l.Name, n.env, n.metrics},
			Hostname: n.cfg.Hostname,
			MaxSize:  n.cfg.Limits.MessageSize,
			MaxRcpts: n.cfg.Limits.Recipients,
			Exempt:   n.exempt,
			Alarm:    func(err error) { n.env.Log.Error("listener", "listener", l.Name, "error", err) },
		}
	}
}

// receiver takes the mail of one listener in.
func (n *Node) receiver(l config.Listener) *receive.Receiver {
	checks := policy.Standard(policy.Options{RelayFrom: l.RelayFrom, Waiting: n.waiting, MaxWaiting: n.cfg.Queue.MaxRecipients})
	return receive.New(receive.Options{
		Spool: n.spool, Router: n.router, Mail: checks.Mail, Rcpt: checks.Rcpt, Data: checks.Data,
		Hostname: n.cfg.Hostname, Listener: l.Name, Wake: n.queue.FirstWake, Now: n.env.Now,
		Alarm: func(err error) {
			n.env.Log.Error("mail could not be taken in, and will come again", "listener", l.Name, "error", err)
		},
	})
}

// exempt reports whether a client is without limits per address.
func (n *Node) exempt(client netip.Addr) bool {
	for _, p := range n.cfg.Limits.Exempt {
		if p.Contains(client.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// waitingEvery is how old the count of waiting recipients may be that MAIL is
// answered by. The spool itself keeps to the limit exactly.
const waitingEvery = time.Second

// A count is a number and when it was found.
type count struct {
	n  int
	at time.Time
}

// waiting is how many recipients wait.
func (n *Node) waiting() int {
	now := n.env.Now()
	if last := n.counted.Load(); last != nil {
		if age := now.Sub(last.at); age >= 0 && age < waitingEvery {
			return last.n
		}
	}
	found := &count{n.store.Stat().Recipients, now}
	n.counted.Store(found)
	return found.n
}
