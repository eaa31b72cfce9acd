package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Tally counts what one run, or many, have shown.
type Tally struct {
	Runs                       int
	Letters, Recipients        int // offered
	Acked, Delivered, Reported int // of recipients, but for Acked: of letters
	Duplicates                 int // copies beyond what was acknowledged
	Lost                       int // recipients whose message a bit that turned has taken, and the machine said so
	Faults, Recovered          int // that struck what was at work; and after which it was at work again
	Kinds                      map[string]int
	Commits, Wheres            int // 250s at which a power cut was tried; answers of journals that were compared
	Retold, Changed            int // worlds that were run twice; and those that told another story then
	MostOpened                 int // files, of one machine at a time
	MostLeases                 int
	MostDrafts                 int64 // octets of drafts in memory
	Digest                     string
	Wrong                      []string // seeds that failed, and why
}

// Add sums up.
func (t *Tally) Add(o Tally) {
	for _, f := range []struct {
		to *int
		n  int
	}{
		{&t.Runs, o.Runs}, {&t.Letters, o.Letters}, {&t.Recipients, o.Recipients}, {&t.Acked, o.Acked}, {&t.Delivered, o.Delivered},
		{&t.Reported, o.Reported}, {&t.Duplicates, o.Duplicates}, {&t.Lost, o.Lost}, {&t.Faults, o.Faults}, {&t.Recovered, o.Recovered},
		{&t.Commits, o.Commits}, {&t.Wheres, o.Wheres}, {&t.Retold, o.Retold}, {&t.Changed, o.Changed},
	} {
		*f.to += f.n
	}
	t.MostOpened, t.MostLeases, t.MostDrafts = max(t.MostOpened, o.MostOpened), max(t.MostLeases, o.MostLeases), max(t.MostDrafts, o.MostDrafts)
	t.Wrong = append(t.Wrong, o.Wrong...)
	if t.Kinds == nil {
		t.Kinds = map[string]int{}
	}
	for k, n := range o.Kinds {
		t.Kinds[k] += n
	}
}

// String tells the counts, and each kind of fault.
func (t *Tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d worlds: %d letters to %d recipients, %d letters acknowledged; recipients: %d delivered, %d reported, %d extra copies, %d lost to turned bits\n",
		t.Runs, t.Letters, t.Recipients, t.Acked, t.Delivered, t.Reported, t.Duplicates, t.Lost)
	fmt.Fprintf(&b, "%d worlds were run twice, and %d of them told another story then\n", t.Retold, t.Changed)
	fmt.Fprintf(&b, "%d faults struck, after %d of them the machine was seen at work again; %d commits and %d answers of journals looked into; at most %d files open, %d leases out and %d octets of drafts in memory",
		t.Faults, t.Recovered, t.Commits, t.Wheres, t.MostOpened, t.MostLeases, t.MostDrafts)
	for _, k := range slices.Sorted(maps.Keys(t.Kinds)) {
		fmt.Fprintf(&b, "\n  %-20s %d", k, t.Kinds[k])
	}
	return b.String()
}

// Never returns the kinds of faults that there are and that did not strike.
func (t *Tally) Never() []string {
	var never []string
	machine := []string{"bit-flip", "power-twice", "guest", "stop-in-settle", "kill-in-making"}
	for _, k := range strikeKinds {
		switch k.kind {
		case "hold", "long-hold", "retry", "bounce", "drop", "partition":
		default:
			if nameFaults[k.kind] == "" {
				machine = append(machine, k.kind)
			}
		}
	}
	for _, k := range slices.Concat(machine, NetworkFaults, PeerFaults, NameFaults, SenderFaults) {
		if t.Kinds[k] == 0 {
			never = append(never, k)
		}
	}
	slices.Sort(never)
	return slices.Compact(never)
}
