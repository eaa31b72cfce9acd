package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// A Sent is one message that the sender offered to node A.
type Sent struct {
	Token   string
	Content []byte
	To      []string
	// Acked are the recipients for whom A has answered 250, at RCPT and at the
	// end. Without an answer nothing is promised.
	Acked []string
}

// A Ledger keeps what was sent, for the checkers.
type Ledger struct {
	mu   sync.Mutex
	sent map[string]*Sent
	ids  []string
}

// send offers one message, and notes what A answered.
func (s *Site) send(ctx context.Context, host *Host, n int) {
	rng := Stream(s.Seed, fmt.Sprintf("message %d", n))
	token := fmt.Sprintf("token-%d-%d", s.Seed, n)
	var body strings.Builder
	fmt.Fprintf(&body, "Message-ID: <%s@sender.example>\r\nFrom: sender@a.example\r\nSubject: %s\r\n\r\n", token, token)
	for range rng.IntN(40) {
		body.WriteString([]string{"a line\r\n", ".\r\n", "..dots\r\n", "\r\n", "caf\xc3\xa9\r\n", ".x\r\n"}[rng.IntN(6)])
	}
	if rng.IntN(8) == 0 {
		body.WriteString(strings.Repeat("a long message does not fit the log\r\n", 10_000))
	}
	all := []string{"ann@a.example", "anton@a.example", "ben@b.example", "bea@b.example", "nobody@b.example",
		"x@dead.example", "y@gone.example", "z@held.example"}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	m := &Sent{Token: token, Content: []byte(body.String()), To: all[:1+rng.IntN(4)]}
	s.mu.Lock()
	s.sent[token], s.ids = m, append(s.ids, token)
	s.mu.Unlock()

	conn, err := host.DialContext(ctx, "tcp", addrA+":25")
	if err != nil {
		return
	}
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{Hello: "sender.example"})
	if err != nil {
		return
	}
	defer c.Close()
	tx := smtpc.Transaction{From: smtp.Path{Local: "sender", Domain: "a.example"}, Content: bytes.NewReader(m.Content)}
	for _, to := range m.To {
		local, domain, _ := strings.Cut(to, "@")
		tx.Rcpts = append(tx.Rcpts, smtpc.Rcpt{To: smtp.Path{Local: local, Domain: domain}})
	}
	res := c.Send(ctx, tx)
	if !res.Final.Positive() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range res.Rcpts {
		if r.Positive() {
			m.Acked = append(m.Acked, m.To[i])
		}
	}
}

// An End is what became of the recipients of one message.
type End struct {
	Delivered map[string]int
	Reported  map[string]int
	Spooled   map[string]bool
}

// ends looks into the Maildirs and the spools, and reads the reports.
func (s *Site) ends(ctx context.Context) (map[string]*End, error) {
	ends := map[string]*End{}
	for _, token := range s.ids {
		ends[token] = &End{Delivered: map[string]int{}, Reported: map[string]int{}, Spooled: map[string]bool{}}
	}
	for _, m := range []*Machine{s.A, s.B} {
		if err := m.maildirs(func(to string, content []byte) error { return s.arrived(ends, to, content) }); err != nil {
			return nil, err
		}
		if err := m.spooled(ctx, func(token, to string) {
			if e := ends[token]; e != nil {
				e.Spooled[to] = true
			}
		}); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// arrived notes one file of a Maildir: a message, or a report about one.
func (s *Site) arrived(ends map[string]*End, to string, content []byte) error {
	if to == "sender@a.example" {
		notice, err := dsn.Parse(bytes.NewReader(content))
		if err != nil {
			return fmt.Errorf("content_intact: the sender got what is no report: %w", err)
		}
		e := ends[tokenOf(content)]
		if e == nil {
			return errors.New("content_intact: a report does not name its message")
		}
		for _, r := range notice.Recipients {
			if r.Action == dsn.Failed {
				e.Reported[r.Final.String()]++
			}
		}
		return nil
	}
	token := tokenOf(content)
	e, m := ends[token], s.sent[token]
	if e == nil {
		return fmt.Errorf("content_intact: %s got a message that nobody sent", to)
	}
	if !bytes.HasSuffix(content, m.Content) {
		return fmt.Errorf("content_intact: %s is not the same at %s", token, to)
	}
	e.Delivered[to]++
	return nil
}

// tokenOf finds the token of a message in its octets.
func tokenOf(content []byte) string {
	_, rest, ok := bytes.Cut(content, []byte("Message-ID: <token-"))
	if !ok {
		return ""
	}
	id, _, _ := bytes.Cut(rest, []byte("@"))
	return "token-" + string(id)
}

// maildirs calls f with each delivered file of a machine.
func (m *Machine) maildirs(f func(to string, content []byte) error) error {
	domain := m.name + ".example"
	users, err := m.disk.ReadDir(path.Join("/mail", domain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, user := range users {
		dir := path.Join("/mail", domain, user.Name(), "new")
		files, err := m.disk.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, file := range files {
			content, err := vfs.ReadFile(m.disk, path.Join(dir, file.Name()))
			if err != nil {
				return err
			}
			if err := f(user.Name()+"@"+domain, content); err != nil {
				return err
			}
		}
	}
	return nil
}

// spooled calls f with what still waits in the spool of a machine.
func (m *Machine) spooled(ctx context.Context, f func(token, to string)) error {
	sp, err := spool.Open(ctx, spool.Options{FS: m.disk, Dir: "/data/spool", ReadOnly: true})
	if err != nil {
		return err
	}
	defer sp.Close(ctx)
	for msg, err := range sp.Scan(ctx) {
		if err != nil {
			return err
		}
		c, err := sp.Open(ctx, msg.ID)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(c.Reader()); err != nil {
			return err
		}
		c.Close()
		for i := range msg.Recipients {
			if !msg.Recipients[i].Reported {
				f(tokenOf(b.Bytes()), msg.Recipients[i].To.String())
			}
		}
	}
	return nil
}

// check holds every checker against the end of the world.
func (s *Site) check(ctx context.Context) (Tally, error) {
	t := Tally{Crashes: int(s.Crashes.Load()), Cuts: s.Net.Fired()["cut"]}
	ends, err := s.ends(ctx)
	if err != nil {
		return t, err
	}
	for _, token := range s.ids {
		m, e := s.sent[token], ends[token]
		if len(m.Acked) > 0 {
			t.Acked++
		}
		for _, to := range m.Acked {
			if e.Delivered[to] == 0 && e.Reported[to] == 0 && !e.Spooled[to] {
				return t, fmt.Errorf("acked_is_kept: %s to %s was acknowledged, and is neither delivered, reported nor spooled", token, to)
			}
			if e.Spooled[to] && !strings.HasSuffix(to, "@held.example") {
				return t, fmt.Errorf("drains: %s to %s is still in a spool %v after the last fault", token, to, calm)
			}
			if err := fateOf(to, e); err != nil {
				return t, fmt.Errorf("one_fate: %s to %s: %w", token, to, err)
			}
			t.Duplicates += max(0, e.Delivered[to]-1)
			t.Delivered += min(1, e.Delivered[to])
			t.Reported += min(1, e.Reported[to])
		}
		for to := range e.Reported {
			if e.Delivered[to] > 0 {
				return t, fmt.Errorf("one_fate: %s to %s was delivered, and reported failed", token, to)
			}
		}
	}
	return t, nil
}

// fateOf checks that a recipient came to the end that this world has for it.
func fateOf(to string, e *End) error {
	switch {
	case strings.HasSuffix(to, "@held.example"):
		if !e.Spooled[to] {
			return errors.New("it was held, and is not there")
		}
	case to == "nobody@b.example", strings.HasSuffix(to, "@dead.example"), strings.HasSuffix(to, "@gone.example"):
		if e.Delivered[to] > 0 || e.Reported[to] == 0 {
			return fmt.Errorf("delivered %d times, reported %d times; it could only fail", e.Delivered[to], e.Reported[to])
		}
	default:
		if e.Delivered[to] == 0 || e.Reported[to] > 0 {
			return fmt.Errorf("delivered %d times, reported %d times; it could be delivered", e.Delivered[to], e.Reported[to])
		}
	}
	return nil
}

// A Tally counts what a run has shown.
type Tally struct {
	Acked, Delivered, Reported, Duplicates int
	Crashes, Cuts                          int
}

// Times of a run. Messages come and faults strike for a while; then nothing
// fails any more, for longer than mail lives.
const (
	trouble = 2 * time.Hour
	calm    = 30 * time.Hour
)

// Run plays the whole story of a site with n messages, and checks its end.
func Run(ctx context.Context, seed uint64, n int) (Tally, error) {
	s, err := NewSite(ctx, seed)
	if err != nil {
		return Tally{}, err
	}
	rng := Stream(seed, "trouble")
	s.Net.SetWeather(Weather{Refused: rng.Float64() * 0.2, Cut: rng.Float64() * 0.4})
	machines := []*Machine{s.A, s.B}
	errs := make(chan error, len(machines))
	strikes := make([]chan time.Duration, len(machines))
	var wg sync.WaitGroup
	for i, m := range machines {
		strikes[i] = make(chan time.Duration, n)
		wg.Go(func() { errs <- m.story(ctx, strikes[i]) })
	}
	wg.Go(func() { s.names() })
	host := s.Net.Host(addrSender, "sender 1")
	for i := range n {
		if rng.IntN(3) == 0 { // else it comes with the one before
			time.Sleep(time.Duration(rng.Int64N(int64(3*trouble) / int64(n))))
		}
		wg.Go(func() { s.send(ctx, host, i) })
		if rng.IntN(4) == 0 { // while the message is on its way
			strikes[rng.IntN(2)] <- time.Duration(rng.Int64N(int64(400 * time.Millisecond)))
		}
	}
	for i := range strikes {
		close(strikes[i])
	}
	wg.Wait()
	for range machines {
		if err := <-errs; err != nil {
			return Tally{}, err
		}
	}
	s.heal()
	s.Net.SetWeather(Weather{})
	time.Sleep(calm)
	for _, m := range machines {
		if err := m.Stop(ctx); err != nil {
			return Tally{}, err
		}
	}
	host.Crash()
	return s.check(ctx)
}

// names lets the name servers fail now and then.
func (s *Site) names() {
	rng := Stream(s.Seed, "names")
	for range rng.IntN(4) {
		time.Sleep(time.Duration(rng.Int64N(int64(30 * time.Minute))))
		s.Zone.Fail(troubled[rng.IntN(len(troubled))], errors.New("SERVFAIL"))
		time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Minute))))
		s.heal()
	}
}
