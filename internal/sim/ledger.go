package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// A Ledger keeps what was sent and promised, for the checkers.
type Ledger struct {
	mu         sync.Mutex
	entries    map[string]*Entry
	found      error           // the first thing that was wrong while the world ran
	dropped    map[string]bool // addresses, or "@domain", of which the operator has dropped mail
	bounced    map[string]bool // the same, given back
	held       map[string]bool // the same, held for a while
	alarms     []string
	failed     map[string]bool // addresses for which a machine said that it gave mail of the null sender up
	expired    map[string]bool // the same, for its age
	reported   map[string]bool // addresses for which a machine said that mail of a sender had expired, and told him
	risk       map[string]bool // tokens that lay on a disk when a bit of it turned
	down       map[string]bool // peers that are off
	unheld     bool            // a reload has let held.example go, somewhere, for a while
	wheresTold []where         // what machines said of letters at the end
	operator   *Host

	commits    int // that acknowledged looked into
	mostOpened int // files
	mostLeases int
	mostDrafts int64 // octets in memory
	flipped    bool  // a bit has turned somewhere
	unnamed    int   // reports about messages that could not be read, and such messages
}

// An Entry is one letter, and what was answered.
type Entry struct {
	Letter  *Letter
	Content []byte
	// Acked counts for each recipient how often a server has answered 250 for it,
	// at RCPT and at the end. Without an answer nothing is promised.
	Acked map[string]int
	// Uncertain counts how often octets of the letter had all been sent, somewhere on
	// its way, and the answer was lost, or what was answered may have been
	// forgotten: so often it may come twice.
	Uncertain int
}

func (g *Ledger) init() {
	g.entries, g.dropped, g.bounced, g.held = map[string]*Entry{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	g.risk, g.down = map[string]bool{}, map[string]bool{}
	g.failed, g.expired, g.reported = map[string]bool{}, map[string]bool{}, map[string]bool{}
}

// letter opens the entry of a letter.
func (s *Site) letter(l *Letter) *Entry {
	e := &Entry{Letter: l, Content: l.content(s.Plan.Seed), Acked: map[string]int{}}
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	s.entries[l.Token(s.Plan.Seed)] = e
	return e
}

// wrong notes that a checker has found something. The first counts.
func (g *Ledger) wrong(format string, args ...any) {
	if g.found == nil {
		g.found = fmt.Errorf(format, args...)
	}
}

// uncertain notes that of a transaction nobody knows whether it came to pass.
func (s *Site) uncertain(token string) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	if e := s.entries[token]; e != nil {
		e.Uncertain++
	}
}

// ordered notes what the operator has done to mail for an address.
func (s *Site) ordered(verb admin.Verb, to string) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	for _, to := range slices.Concat(expand(to), []string{to}) { // an alias of another machine stands for all behind it
		switch verb {
		case admin.VerbDrop:
			s.dropped[to] = true
		case admin.VerbBounce:
			s.bounced[to] = true
		case admin.VerbHold:
			s.held[to] = true
		}
	}
}

// letGo notes that held mail may leave.
func (s *Site) letGo() {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	s.unheld = true
}

// alarm notes what a node wants an operator to know.
func (s *Site) alarm(boot, text string) {
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	s.alarms = append(s.alarms, boot+" "+text)
}

// recipient takes what a machine says of a recipient. Nobody else is told when mail
// of the null sender has failed, or where the report of other mail has been dropped.
func (s *Site) recipient(r slog.Record) {
	said := map[string]string{}
	r.Attrs(func(a slog.Attr) bool {
		said[a.Key] = a.Value.String()
		return true
	})
	if said["status"] != "failed" {
		return
	}
	to := strings.Trim(said["to"], "<>")
	old := strings.HasSuffix(said["dsn"], ".4.7") // RFC 3463 3.5: delivery time expired
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	if said["from"] != "<>" {
		s.reported[to] = s.reported[to] || old
		return
	}
	s.failed[to] = true
	s.expired[to] = s.expired[to] || old
}

// atRisk notes what lies on the disk of a machine that is off.
func (s *Site) atRisk(ctx context.Context, m *Machine) {
	s.Ledger.mu.Lock()
	s.flipped = true
	s.Ledger.mu.Unlock()
	m.spooled(ctx, func(token, _ string) { // what cannot be read now is not at risk any more
		s.Ledger.mu.Lock()
		defer s.Ledger.mu.Unlock()
		s.risk[token] = true
	})
}

func (g *Ledger) orderedOf(m map[string]bool, to string) bool {
	_, domain, _ := strings.Cut(to, "@")
	return m[to] || m["@"+domain]
}

// An End is what became of the recipients of one letter.
type End struct {
	Delivered map[string]int
	Back      map[string]int // of Delivered: old names of a file that came back with a power cut
	Reported  map[string]int
	Expired   map[string]int // of Reported: for their age (RFC 3463 3.5, X.4.7)
	Spooled   map[string]bool
	Lies      int // what a peer has kept and denied, or not answered for
}

// ends looks into the Maildirs, the spools and the peers, and reads the reports.
func (s *Site) ends(ctx context.Context) (map[string]*End, error) {
	ends := map[string]*End{}
	for token := range s.entries {
		ends[token] = &End{Delivered: map[string]int{}, Back: map[string]int{}, Reported: map[string]int{}, Expired: map[string]int{}, Spooled: map[string]bool{}}
	}
	for _, name := range machineNames {
		m := s.Machines[name]
		seen := map[string]bool{}
		if err := m.maildirs(func(to, file string, content []byte) error {
			return s.arrived(ends, to, content, m.cameBack(seen, file))
		}); err != nil {
			return nil, err
		}
		if err := m.spooled(ctx, func(token, to string) {
			if e := ends[token]; e != nil {
				e.Spooled[to] = true
			} else {
				s.unnamed++
			}
		}); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Peers)) {
		if err := s.taken(ends, name); err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// taken notes what a peer has kept.
func (s *Site) taken(ends map[string]*End, peer string) error {
	for _, t := range s.Peers[peer].Taken() {
		token := tokenOf(t.Content)
		e := ends[token]
		if e == nil {
			return fmt.Errorf("content_intact: %s got a message that nobody sent", peer)
		}
		if !intact(t.Content, s.entries[token].Content, t.SevenBit) {
			return fmt.Errorf("content_intact: %s is not the same at %s", token, peer)
		}
		for _, to := range t.Rcpts {
			e.Delivered[to]++
		}
		if t.Final/100 != 2 || !t.Sent {
			e.Lies++
		}
	}
	return nil
}

// cameBack reports whether a file is one that was seen already, under a name that it
// had before: its folder could not be synced once, and then the power went. Names
// of one file begin alike, to the second dot.
func (m *Machine) cameBack(seen map[string]bool, file string) bool {
	dir, name := path.Split(file)
	parts := strings.SplitN(name, ".", 3)
	if len(parts) < 3 {
		return false
	}
	box, folder := path.Split(path.Clean(dir))
	key := box + parts[0] + "." + parts[1]
	again := seen[key] && (m.faults.shaken(box+folder) || m.faults.shaken(box+"new"))
	seen[key] = true
	return again
}

// arrived notes one file of a Maildir: a letter, or a report about one.
func (s *Site) arrived(ends map[string]*End, to string, content []byte, back bool) error {
	if to == "sender@a.example" {
		return s.told(ends, content)
	}
	token := tokenOf(content)
	e, m := ends[token], s.entries[token]
	if e == nil {
		return fmt.Errorf("content_intact: %s got a message that nobody sent", to)
	}
	if !bytes.HasSuffix(content, m.Content) {
		return fmt.Errorf("content_intact: %s is not the same at %s", token, to)
	}
	e.Delivered[to]++
	if back {
		e.Back[to]++
	}
	return nil
}

// told reads a report.
func (s *Site) told(ends map[string]*End, content []byte) error {
	notice, err := dsn.Parse(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("content_intact: the sender got what is no report: %w", err)
	}
	e := ends[tokenOf(content)]
	if e == nil && s.flipped {
		s.unnamed++ // of a message that could not be read any more
		return nil
	}
	if e == nil {
		return errors.New("content_intact: a report does not name its message")
	}
	for _, r := range notice.Recipients {
		if r.Action == dsn.Failed {
			for _, to := range expand(r.Final.String()) {
				e.Reported[to]++
				if r.Status == (smtp.Status{Class: 5, Subject: 4, Detail: 7}) {
					e.Expired[to]++
				}
			}
		}
	}
	return nil
}

// tokenOf finds the token of a letter in its octets.
func tokenOf(content []byte) string {
	_, rest, ok := bytes.Cut(content, []byte("Message-ID: <token-"))
	if !ok {
		return ""
	}
	id, _, ok := bytes.Cut(rest, []byte("@"))
	if !ok {
		return ""
	}
	return "token-" + string(id)
}

// maildirs calls f with each delivered file of a machine.
func (m *Machine) maildirs(f func(to, file string, content []byte) error) error {
	domains, err := m.Disk().ReadDir("/mail")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, domain := range domains {
		users, err := m.Disk().ReadDir(path.Join("/mail", domain.Name()))
		if err != nil {
			return err
		}
		for _, user := range users {
			to := user.Name() + "@" + domain.Name()
			for _, dir := range boxes(path.Join("/mail", domain.Name(), user.Name())) {
				if err := m.mailbox(dir, to, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m *Machine) mailbox(dir, to string, f func(to, file string, content []byte) error) error {
	files, err := m.Disk().ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, file := range files {
		name := path.Join(dir, file.Name())
		content, err := vfs.ReadFile(m.Disk(), name)
		if err != nil {
			return err
		}
		if err := f(to, name, content); err != nil {
			return err
		}
	}
	return nil
}

// spooled calls f with what still waits in the spool of a machine.
func (m *Machine) spooled(ctx context.Context, f func(token, to string)) error {
	return spooledOn(ctx, m.Disk(), f)
}

func spooledOn(ctx context.Context, disk *vfs.Mem, f func(token, to string)) error {
	sp, err := spool.Open(ctx, spool.Options{FS: disk, Dir: "/data/spool", ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sp.Close(ctx)
	for msg, err := range sp.Scan(ctx) {
		if err != nil {
			return err
		}
		var b bytes.Buffer
		c, err := sp.Open(ctx, msg.ID)
		if err == nil {
			_, err = b.ReadFrom(c.Reader())
			c.Close()
		}
		if err != nil {
			b.Reset() // damaged: nobody can say whose it is
		}
		for i := range msg.Recipients {
			if !msg.Recipients[i].Reported {
				f(tokenOf(b.Bytes()), msg.Recipients[i].To.String())
			}
		}
	}
	return nil
}

// writeFile writes a file and makes it durable.
func writeFile(disk vfs.FS, name, text string) error {
	f, err := disk.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte(text)); err != nil {
		return err
	}
	return errors.Join(f.Sync(), disk.SyncDir(path.Dir(name)), disk.SyncDir(path.Dir(path.Dir(name))))
}
