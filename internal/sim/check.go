package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// check holds every checker against the end of the world.
func (s *Site) check(ctx context.Context) (Tally, error) {
	for name, p := range s.Peers {
		if taken := p.Taken(); len(taken) > 0 {
			s.Trace.worked[name] = taken[len(taken)-1].At
		}
	}
	t := Tally{Runs: 1, Faults: s.Trace.count, Recovered: s.Trace.recovered(), Kinds: s.Trace.fired, Commits: s.commits, MostOpened: s.mostOpened, MostLeases: s.mostLeases, MostDrafts: s.mostDrafts, Wheres: len(s.wheresTold)}
	if s.found != nil {
		return t, s.found
	}
	for pair, n := range s.Net.Peaks() {
		if from, _, _ := strings.Cut(pair, ">"); n > connsMax && from != addrSender {
			return t, fmt.Errorf("bounded: %d connections at once, %s", n, pair)
		}
	}
	if s.damaged() && !s.flipped {
		return t, fmt.Errorf("journal_agrees: damage is told of, and no bit has turned: %q", s.alarms)
	}
	for name, p := range s.Peers {
		if b := p.Breaches(); len(b) > 0 {
			return t, fmt.Errorf("protocol: %s: %s", name, b[0])
		}
	}
	ends, err := s.ends(ctx)
	if err != nil {
		return t, err
	}
	for _, token := range slices.Sorted(maps.Keys(s.entries)) {
		e, end := s.entries[token], ends[token]
		t.Letters++
		t.Recipients += len(e.Letter.To)
		if len(e.Acked) > 0 {
			t.Acked++
		}
		if err := s.checkLetter(token, e, end, &t); err != nil {
			return t, err
		}
	}
	for i := range s.wheresTold {
		if err := s.wheresTold[i].check(s, ends); err != nil {
			return t, err
		}
	}
	return t, nil
}

// checkLetter holds one letter against what became of it.
func (s *Site) checkLetter(token string, e *Entry, end *End, t *Tally) error {
	promised := map[string]int{}
	for to, n := range e.Acked {
		for _, r := range expand(to) {
			promised[r] += n
		}
	}
	if e.Letter.Null && len(end.Reported) > 0 {
		return fmt.Errorf("no_backscatter_of_null: %s came from the null reverse-path, and somebody was told of %v", token, end.Reported)
	}
	for _, to := range slices.Sorted(maps.Keys(promised)) {
		if err := s.checkRcpt(token, to, e, end, t); err != nil {
			return err
		}
	}
	for to, n := range end.Delivered {
		t.Delivered += min(1, n)
		t.Duplicates += max(0, n-promised[to])
		if n > promised[to]+e.Uncertain+end.Lies+end.Back[to] && !s.flipped { // a settlement that rots is an attempt that comes again
			return fmt.Errorf("duplicates_only_after_uncertainty: %s came to %s %d times; it was acknowledged %d times, and uncertain %d times",
				token, to, n, promised[to], e.Uncertain+end.Lies+end.Back[to])
		}
	}
	return nil
}

// checkRcpt holds one recipient that was acknowledged against its end.
func (s *Site) checkRcpt(token, to string, e *Entry, end *End, t *Tally) error {
	delivered, reported, spooled := end.Delivered[to], end.Reported[to], end.Spooled[to]
	dropped, bounced := s.orderedOf(s.dropped, to), s.orderedOf(s.bounced, to)
	t.Reported += min(1, reported)
	fate := fateOf(to)
	late := reported > 0 && reported == end.Expired[to] || reported == 0 && e.Letter.Null && s.expired[to]
	switch {
	case fate == fateSure && late && s.orderedOf(s.held, to):
		fate = fateEither // its time went on while it was held, and one attempt was left of it
	case fate == fateSlow && (late || reported == 0 && s.reportsDestroyed()):
		fate = fateEither
	case fate == fateSlow:
		fate = fateSure
	}
	if delivered == 0 && reported == 0 && !spooled && !dropped {
		switch {
		case s.reportsDestroyed() && (fate != fateSure && fate != fateHeld || bounced):
			return nil
		case s.reportsDestroyed() && fate == fateHeld && s.unheld && s.reported[to]: // it could leave, and was too old
			return nil
		case s.risk[token] && (s.damaged() || s.unnamed > 0):
			t.Lost++
			return nil
		case !e.Letter.Null || !bounced && (fate == fateSure || !s.failed[to]) || fate == fateHeld && !s.unheld:
			return fmt.Errorf("acked_is_kept: %s to %s was acknowledged, and is neither delivered, reported nor spooled", token, to)
		}
	}
	if spooled && fate != fateHeld {
		return fmt.Errorf("drains: %s to %s is still in a spool %v after the last fault", token, to, theEnd-healed)
	}
	several := len(e.Acked) > 0 && (e.Acked[to] > 1 || fate == fateHeld || e.Uncertain > 0 || end.Lies > 0 || bounced || aliased(e, to) || s.risk[token])
	switch {
	case delivered > 0 && reported > 0 && !several && !s.flipped: // what rots may be that it was delivered
		return fmt.Errorf("one_fate: %s to %s was delivered, and reported failed", token, to)
	case fate == fateSure && reported > 0 && !bounced && !s.risk[token] && (delivered == 0 || !s.flipped):
		return fmt.Errorf("one_fate: %s to %s was reported failed; it could be delivered", token, to)
	case fate == fateDoomed && delivered > 0:
		return fmt.Errorf("one_fate: %s to %s was delivered; it could only fail", token, to)
	case fate == fateHeld && !s.unheld && (delivered > 0 || reported > 0):
		return fmt.Errorf("one_fate: %s to %s was held; delivered %d times, reported %d times", token, to, delivered, reported)
	}
	return nil
}

// reportsDestroyed tells whether the operator has bounced or dropped what was on its
// way to the sender: nobody is told of a report.
func (s *Site) reportsDestroyed() bool {
	return s.orderedOf(s.dropped, "sender@a.example") || s.orderedOf(s.bounced, "sender@a.example")
}

// aliased reports whether a letter reaches an address by more than one way.
func aliased(e *Entry, to string) bool {
	n := 0
	for _, original := range e.Letter.To {
		if slices.Contains(expand(original), to) {
			n++
		}
	}
	return n > 1
}

// expand is whom an address stands for.
func expand(to string) []string {
	if all := teams[to]; all != nil {
		return all
	}
	return []string{to}
}

// damaged reports whether a machine has said that it had to set something aside.
func (s *Site) damaged() bool {
	return slices.ContainsFunc(s.alarms, func(a string) bool { return strings.Contains(a, "damaged") || strings.Contains(a, "aside") })
}

// Limits of the checker "bounded".
const (
	filesMax = 300
	connsMax = 20 // at one destination, of one machine: the limit of package queue
	// Attempts at a time, by the limit of package queue, and as many looks.
	leasesMax = 400
	draftsMax = 12 * smallMax // what Machine.tune allows at most
)

// bounded looks at what the machines hold, again and again.
func (s *Site) bounded() {
	for s.age() < healed {
		time.Sleep(10 * time.Minute)
		for _, name := range machineNames {
			m := s.Machines[name]
			files := m.Disk().Opened()
			st := m.holds()
			s.Ledger.mu.Lock()
			s.mostOpened, s.mostLeases, s.mostDrafts = max(s.mostOpened, files), max(s.mostLeases, st.Leases), max(s.mostDrafts, st.Drafts)
			switch {
			case files > filesMax:
				s.wrong("bounded: %s has %d files open", name, files)
			case st.Leases > leasesMax:
				s.wrong("bounded: %s has %d leases out", name, st.Leases)
			case st.Drafts > draftsMax:
				s.wrong("bounded: %s has %d octets of drafts in memory", name, st.Drafts)
			}
			s.Ledger.mu.Unlock()
		}
	}
}

// holds is what the spool of a machine has in memory.
func (m *Machine) holds() (st spool.Stat) {
	if sp := m.memory.Load(); sp != nil && !m.Disk().Dead() {
		st = sp.Stat()
	}
	return st
}

// closed looks at a machine that has stopped in good order: nothing of it may be
// left.
func (s *Site) closed(m *Machine) {
	files, conns, listeners := m.Disk().Opened(), m.host.Conns(), m.host.Listeners()
	if files+conns+listeners > 0 {
		s.Ledger.mu.Lock()
		defer s.Ledger.mu.Unlock()
		s.wrong("bounded: %s has stopped, and left %d files, %d connections and %d listeners open", m.name, files, conns, listeners)
	}
}

// filesIdle is how many files a machine may have open that has nothing to do but
// to hold some mail.
const filesIdle = 40

// idle looks at machines that have had nothing to do for days.
func (s *Site) idle() error {
	for pair, n := range s.Net.Dialed() {
		return fmt.Errorf("bounded: %d connections are left over, %s", n, pair)
	}
	for _, name := range machineNames {
		if n := s.Machines[name].Disk().Opened(); n > filesIdle {
			return fmt.Errorf("bounded: %s has nothing to do and %d files open", name, n)
		}
		// One that is held, or has rotted, may be looked at in this very moment.
		if s.Machines[name].holds().Leases > 0 {
			time.Sleep(time.Minute)
		}
		if st := s.Machines[name].holds(); st.Leases > 0 && !s.flipped || st.Drafts > 0 {
			return fmt.Errorf("bounded: %s has nothing to do, %d leases out and %d octets of drafts in memory", name, st.Leases, st.Drafts)
		}
	}
	return nil
}

// answers is called when a server is about to answer a final dot. For some that it
// takes it looks at what a power cut at this moment would leave. What it puts off
// while its disk fails it may find there again after a start.
func (s *Site) answers(server, token string, taken bool, n int) {
	i := slices.IndexFunc(machineNames, func(name string) bool { return machines[name].addr == server })
	if i >= 0 && !taken && s.Machines[machineNames[i]].faults.lately() {
		s.uncertain(token)
	}
	if i < 0 || !taken || Stream(s.Plan.Seed, fmt.Sprint("commit ", token, n)).IntN(16) > 0 {
		return
	}
	found := false
	image := s.Machines[machineNames[i]].Disk().Image(vfs.KeepNone)
	err := spooledOn(context.Background(), image, func(t, _ string) { found = found || t == token })
	s.Ledger.mu.Lock()
	defer s.Ledger.mu.Unlock()
	s.commits++
	if (err != nil || !found) && !s.flipped {
		s.wrong("order_of_commit: %s says 250 to %s, and a power cut now would lose it (%v)", machineNames[i], token, err)
	}
}

// A where is what a machine says of a letter.
type where struct {
	machine, token string
	steps          []admin.Step
	err            error
}

// wheresOf is how many letters each machine is asked about.
const wheresOf = 4

// wheres asks the machines what became of some letters.
func (s *Site) wheres(ctx context.Context) {
	for _, name := range machineNames {
		client, done := s.client(s.Machines[name])
		rng := Stream(s.Plan.Seed, "where "+name)
		for range min(wheresOf, len(s.Plan.Letters)) {
			w := where{machine: name, token: s.Plan.Letters[rng.IntN(len(s.Plan.Letters))].Token(s.Plan.Seed)}
			for step, err := range client.Where(ctx, "<"+w.token+"@sender.example>", 0) {
				if w.err = err; err != nil {
					break
				}
				w.steps = append(w.steps, step)
			}
			s.wheresTold = append(s.wheresTold, w)
		}
		done()
	}
}

// check holds what a machine says of a letter against what happened.
func (w *where) check(s *Site, ends map[string]*End) error {
	e := s.entries[w.token]
	if w.err != nil && !s.flipped {
		return fmt.Errorf("journal_agrees: %s does not say where %s is: %w", w.machine, w.token, w.err)
	}
	if s.flipped {
		return nil
	}
	accepted, removed := map[string]int{}, map[string]int{}
	ended := map[string]int{} // by ID and recipient
	inbox := map[string]int{}
	for _, st := range w.steps {
		id := string(st.ID)
		switch st.Event {
		case admin.StepAccepted:
			if strings.Contains(st.Header, w.token) {
				accepted[id]++
			}
		case admin.StepRemoved:
			removed[id]++
		case admin.StepDelivered, admin.StepFailed, admin.StepBounced, admin.StepDropped:
			if accepted[id] == 0 {
				continue // a report
			}
			to := strings.Trim(st.To, "<>")
			if ended[id+" "+to]++; ended[id+" "+to] > 1 && st.Event != admin.StepFailed {
				return fmt.Errorf("journal_agrees: %s says that %s to %s of %s ended twice", w.machine, id, to, w.token)
			}
			if st.Event == admin.StepDelivered {
				inbox[to]++
			}
		}
	}
	for id, n := range accepted {
		if n != 1 || removed[id] > 1 {
			return fmt.Errorf("journal_agrees: %s accepted %s %d times, and removed it %d times", w.machine, id, n, removed[id])
		}
	}
	if s.Machines[e.Letter.Server].name == w.machine && len(accepted) == 0 && len(e.Acked) > 0 {
		return fmt.Errorf("journal_agrees: %s has taken %s, and says that it does not know it", w.machine, w.token)
	}
	for to, n := range inbox {
		if w.machine == homeOf(to) && ends[w.token].Delivered[to] != n {
			return fmt.Errorf("journal_agrees: %s says that %s came to %s %d times; there it is %d times", w.machine, w.token, to, n,
				ends[w.token].Delivered[to])
		}
	}
	return nil
}

// homeOf is the machine that has the mailbox of an address.
func homeOf(to string) string {
	switch {
	case strings.HasSuffix(to, "@a.example"):
		return "a"
	case strings.HasSuffix(to, "@b.example"), strings.HasSuffix(to, "@c.example"):
		return "b"
	}
	return ""
}
