package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A demoKind is one way that mail goes at the site, and what must become of a
// message that goes there.
type demoKind struct {
	name    string
	to      []string // %d is the number of the message
	boxes   []string // where it must be, once in each
	waiting int      // recipients whose destination is dead
	held    int      // recipients at the route that holds
	refused bool     // at RCPT
}

var demoKinds = []demoKind{
	{name: "LMTP to Dovecot", to: []string{"carol+%d@one.example"}, boxes: []string{"carol"}},
	{name: "our own Maildir", to: []string{"dave+%d@two.example"}, boxes: []string{"dave"}},
	{name: "list in a file", to: []string{"team+%d@one.example"}, boxes: []string{"carol", "dave", "far"}},
	{name: "alias to a far host", to: []string{"away+%d@two.example"}, boxes: []string{"far"}},
	{name: "smart host", to: []string{"x%d@far.example"}, boxes: []string{"far"}},
	{name: "dead destination", to: []string{"x%d@dead.example"}, waiting: 1},
	{name: "held", to: []string{"x%d@held.example"}, held: 1},
	{name: "several domains", to: []string{"carol+%d@one.example", "dave+%d@two.example", "y%d@far.example", "y%d@dead.example", "y%d@held.example"},
		boxes: []string{"carol", "dave", "far"}, waiting: 1, held: 1},
	{name: "unknown recipient", to: []string{"nobody+%d@one.example"}, refused: true},
}

const demoAliases = `
team: :include:DIR/team
away: someone@far.example
`

const demoTeam = `# Who is in the team.
carol
dave@two.example
list@far.example
`

const demoSite = `
domain "one.example" {
  mailboxes = ["carol"]
  aliases   = "DIR/aliases"
  deliver   = "lmtp://%s"
}
domain "two.example" {
  mailboxes = ["dave"]
  aliases   = "DIR/aliases"
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
route "dead.example" { via = "smtp://%s" }
route "held.example" { via = "hold" }
route "*" {
  via           = "smtp://%s"
  tls           = "require"
  username      = %q
  password_file = "DIR/password"
}
queue { retry = ["1h"] }
`

// A demo is a site: two domains with aliases, one of them with its mailboxes at
// Dovecot, a smart host with AUTH, a destination that is dead, and one that is
// held.
type demo struct {
	*submissionHost
	dovecot *dovecot
	far     *peer
	sent    []*demoMessage
}

// A demoMessage is one of those sent.
type demoMessage struct {
	demoKind
	token  string
	client int
	rcpts  []string
	id     string // its Message-ID, where it is known; else empty
}

func newDemo(t *testing.T) *demo {
	dove := startDovecot(t, "", "carol@one.example")
	far := newPeer(t, freeAddr(t))
	smart, _ := smartPostfix(t, far.addr)
	h := newSubmissionHost(t, fmt.Sprintf(demoSite, dove.addr(), freeAddr(t), smart.addr(), smartUser))
	secret(t, filepath.Join(h.dir, "password"), dovecotPassword)
	for name, text := range map[string]string{"aliases": demoAliases, "team": demoTeam} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(strings.ReplaceAll(text, "DIR", h.dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.start()
	return &demo{submissionHost: h, dovecot: dove, far: far}
}

// send submits n messages, several at a time: each client has its turn at each
// kind.
func (d *demo) send(t *testing.T, n int) {
	limit := make(chan struct{}, 4)
	var all sync.WaitGroup
	for i := range n {
		m := &demoMessage{demoKind: demoKinds[i/len(clients)%len(demoKinds)], token: fmt.Sprintf("demo-%03d", i), client: i % len(clients)}
		for _, to := range m.to {
			m.rcpts = append(m.rcpts, fmt.Sprintf(to, i))
		}
		if clients[m.client].whole {
			m.id = "<" + m.token + "@client.example>"
		}
		d.sent = append(d.sent, m)
		s := d.submission(t, m.token, m.rcpts[0], i%2 == 0)
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			c := clients[m.client]
			out, status := s.run(t, c.program, c.stdin, m.args(s))
			if (status != 0) != m.refused {
				t.Errorf("%s to %s: status %d\n%s", c.program, m.rcpts, status, out)
			}
		})
	}
	all.Wait()
}

// args is the command line of its client, for all its recipients.
func (m *demoMessage) args(s submission) []string {
	c := clients[m.client]
	switch c.program {
	case "python3":
		s.to = strings.Join(m.rcpts, ",")
		args := c.args(s)
		args[1] = strings.Replace(args[1], "[to]", `to.split(",")`, 1)
		return args
	case "swaks":
		s.to = strings.Join(m.rcpts, ",")
		return c.args(s)
	case "curl":
		args := c.args(s)
		for _, to := range m.rcpts[1:] {
			args = append(args, "--mail-rcpt", to)
		}
		return args
	}
	return slices.Concat(c.args(s), m.rcpts[1:])
}

// A site in use: what the mailboxes, the queue, "where" and the metrics say of
// 200 messages is what was sent.
func TestSiteDemo(t *testing.T) {
	for _, c := range clients {
		need(t, c.program)
	}
	d := newDemo(t)
	d.send(t, full(200, len(clients)*len(demoKinds)))
	states := d.settled(t)
	there := d.boxes(t)
	fates := d.told(t, states["deferred"])
	stat := d.tallied(t, states)
	page := d.measured(t, states, there)
	d.table(t, fates, there, page)
	fmt.Print("\nqueue stat:\n", stat)
	for _, kind := range []string{"list in a file", "several domains", "unknown recipient"} {
		m := d.sent[slices.IndexFunc(d.sent, func(m *demoMessage) bool { return m.name == kind })]
		fmt.Print("\nwhere ", m.query(), ":\n", d.cli("where", m.query()))
	}
	d.stop()
}
