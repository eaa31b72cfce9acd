package sim

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/postrider/postrider/node"
)

// guest lets somebody open a connection to a machine that may relay, takes that
// away by a reload, and has him try on. RFC 5321 7.9 leaves it to the server whom it
// relays for; that it says so in its configuration is all that anybody has.
func (s *Site) guest(ctx context.Context, m *Machine, n *node.Node, k Strike) {
	link, err := s.guests.DialContext(ctx, "tcp", net.JoinHostPort(m.addr, fmt.Sprint(smtpPort)))
	if err != nil {
		return
	}
	defer link.Close()
	d := &rude{c: link.(*conn), r: bufio.NewReader(link), m: &Manner{}}
	if !d.reply().Positive() || !d.ask("EHLO guest.example").Positive() {
		return
	}
	if k.Arg%2 == 0 { // a transaction of before, which ends here
		d.ask("MAIL FROM:<sender@a.example>")
		d.ask("RCPT TO:<u1@p1.example>")
		d.ask("RSET")
	}
	m.closed.Add(1)
	defer m.closed.Add(-1)
	_, err = n.Reload(ctx)
	s.tell("guest: %s: reload: %v", m.name, firstLine(err))
	if err == nil && d.ask("MAIL FROM:<sender@a.example>").Positive() {
		r := d.ask("RCPT TO:<u1@p1.example>")
		s.tell("guest: %s: RCPT %d", m.name, r.Code)
		s.fault("guest", m.name)
		if r.Positive() {
			s.accuse("no_open_relay: %s relays over a connection that is older than a reload, for who may not any more", m.name)
		}
	}
	d.ask("QUIT")
}

// accuse notes what a checker has found.
func (s *Site) accuse(format string, args ...any) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	s.wrong(format, args...)
}

// present is the configuration that a reload of a machine finds when it is in order.
func (m *Machine) present() string {
	if m.closed.Load() > 0 {
		return strings.Replace(m.conf, `, "10.0.0.77/32"]`, `]`, 1)
	}
	return m.conf
}

// patient is a configuration with which mail lives for two days, and is tried in
// other steps.
func patient(conf string) string {
	return strings.Replace(conf, `  expire = "1d"
  retry  = ["1m", "5m", "15m", "30m", "1h"]`, `  expire = "2d"
  retry  = ["2m", "10m", "50m"]`, 1)
}
