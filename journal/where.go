package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// whereMost is how many messages Where finds when nobody says how many.
const whereMost = 100

// Where yields the events of each message that a query names, in the order of the
// log: by ID, by Message-ID, or by the address of the sender or of a recipient,
// each with angle brackets or without. It finds the newest messages, at most
// limit (0: 100), and yields the oldest of them first. After a message come its
// reports to the sender, beyond the limit. A refusal is a message of its own,
// with one event and no ID.
//
// Where finds what Run had written when it is called, and Run goes on meanwhile.
func (j *Journal) Where(ctx context.Context, query string, limit int) iter.Seq2[[]postrider.Event, error] {
	return func(yield func([]postrider.Event, error) bool) {
		if limit <= 0 {
			limit = whereMost
		}
		stories, err := j.stories(ctx, j.newQuery(query), limit)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, evs := range stories {
			if !yield(evs, nil) {
				return
			}
		}
	}
}

// A query is what is looked for, read in each way that it may be meant.
type query struct {
	id        postrider.ID
	header    string
	addresses []string // one, in the spellings of its domain
	hashes    []uint64
}

func (j *Journal) newQuery(text string) query {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		text = strings.TrimSuffix(inner, ">")
	}
	if text == "" {
		return query{}
	}
	p := smtp.Path{Local: text}
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		p = smtp.Path{Local: text[:i], Domain: text[i+1:]}
	}
	q := query{id: postrider.ID(strings.ToLower(text)), header: text, addresses: []string{addressKey(p)}}
	if j.opt.Spellings != nil && p.Domain != "" {
		for _, domain := range j.opt.Spellings(p.Domain) {
			if key := addressKey(smtp.Path{Local: p.Local, Domain: domain}); !slices.Contains(q.addresses, key) {
				q.addresses = append(q.addresses, key)
			}
		}
	}
	q.hashes = []uint64{hashOf(keyID, string(q.id)), hashOf(keyHeader, q.header)}
	for _, a := range q.addresses {
		q.hashes = append(q.hashes, hashOf(keyAddress, a))
	}
	return q
}

// match reports whether an event is of what is looked for.
func (q *query) match(ev *postrider.Event) bool {
	if q.header == "" {
		return false
	}
	found := ev.ID == q.id || ev.Report == q.id || ev.HeaderID == q.header
	addresses(ev, func(p smtp.Path) { found = found || slices.Contains(q.addresses, addressKey(p)) })
	return found
}

// A view is the files as they were when a query came.
type view struct {
	j       *Journal
	files   []dayFile
	live    bool // entries are those of the last
	entries entries
	tail    []numbered
}

func (j *Journal) view() view {
	j.mu.Lock()
	defer j.mu.Unlock()
	return view{j: j, files: slices.Clone(j.files), live: j.live, entries: j.entries, tail: j.tail}
}

// search calls found for the events of file i that have one of the keys, in the
// order of the file.
func (v *view) search(ctx context.Context, i int, hashes []uint64, found func(numbered)) error {
	d := v.files[i]
	f, err := v.j.opt.FS.OpenFile(v.j.dataName(d), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its time is over
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	var offs []uint32
	look := func(find lookup) error {
		offs = offs[:0]
		for _, h := range hashes {
			more, err := find(h)
			if err != nil {
				return err
			}
			offs = append(offs, more...)
		}
		return nil
	}
	if v.live && i == len(v.files)-1 {
		err = look(v.entries.lookup)
	} else {
		err = v.j.withIndex(ctx, d, f, look)
	}
	if err != nil {
		return err
	}
	slices.Sort(offs)
	for _, off := range slices.Compact(offs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := recordAt(f, d.size, int64(off))
		var ev postrider.Event
		if err == nil {
			ev, err = decodeEvent(&r)
		}
		switch {
		case errors.Is(err, errNoRecord) || errors.Is(err, errPayload):
			v.j.alarm("%s is damaged: an event cannot be read", d.stem())
		case err != nil:
			return err
		default:
			found(numbered{r.seq, &ev})
		}
	}
	return nil
}

// A story is what is found of one message.
type story struct {
	id     postrider.ID
	since  time.Time // no event of it is older
	over   bool      // no event of it is younger than those that were found
	events []numbered
}

// told returns the events alone.
func (s *story) told() []postrider.Event {
	evs := make([]postrider.Event, len(s.events))
	for i, n := range s.events {
		evs[i] = *n.ev
	}
	return evs
}

// stories finds the messages that q names, and then all that is known of them.
func (j *Journal) stories(ctx context.Context, q query, limit int) ([][]postrider.Event, error) {
	v := j.view()
	all, err := v.named(ctx, q, limit)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b *story) int { return a.since.Compare(b.since) })
	all = all[max(0, len(all)-limit):]
	if err := v.fill(ctx, all); err != nil {
		return nil, err
	}
	reports, err := v.reports(ctx, all)
	if err != nil {
		return nil, err
	}
	var out [][]postrider.Event
	for _, s := range all {
		if reports[s.id] != nil {
			continue // comes after what it reports
		}
		out = append(out, s.told())
		for _, n := range s.events {
			if r := reports[n.ev.Report]; r != nil {
				out = append(out, r.told())
			}
		}
	}
	return slices.DeleteFunc(out, func(evs []postrider.Event) bool { return len(evs) == 0 }), nil
}

// named finds the newest messages that q names, from the last file to the first.
func (v *view) named(ctx context.Context, q query, limit int) ([]*story, error) {
	var all []*story
	seen := map[postrider.ID]*story{}
	take := func(n numbered) {
		if !q.match(n.ev) {
			return
		}
		if n.ev.Kind == postrider.EventRefused {
			all = append(all, &story{since: n.ev.Time, events: []numbered{n}})
			return
		}
		s := seen[n.ev.ID]
		if s == nil && n.ev.ID != "" {
			s = &story{id: n.ev.ID, since: began(n.ev)}
			seen[s.id] = s
			all = append(all, s)
		}
		if s != nil && began(n.ev).Before(s.since) {
			s.since = began(n.ev)
		}
	}
	for _, n := range v.tail {
		take(n)
	}
	for i := len(v.files) - 1; i >= 0 && len(all) < limit; i-- {
		if err := v.search(ctx, i, q.hashes, take); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// began is a time before which there is no event of the message of ev.
func began(ev *postrider.Event) time.Time {
	if !ev.Arrived.IsZero() && ev.Arrived.Before(ev.Time) {
		return ev.Arrived
	}
	return ev.Time
}

// fill finds all events of the messages, from the first file that may have some.
func (v *view) fill(ctx context.Context, stories []*story) error {
	byID := map[postrider.ID]*story{}
	for _, s := range stories {
		if s.id != "" {
			byID[s.id] = s
		}
	}
	take := func(n numbered) {
		if s := byID[n.ev.ID]; s != nil {
			s.events = append(s.events, n)
			s.over = s.over || n.ev.Kind == postrider.EventRemoved
		}
	}
	for i, d := range v.files {
		var hashes []uint64
		for _, s := range stories {
			if s.id != "" && !s.over && d.day >= s.since.UTC().Format(dayLayout) {
				hashes = append(hashes, hashOf(keyID, string(s.id)))
			}
		}
		if len(hashes) == 0 {
			continue
		}
		if err := v.search(ctx, i, hashes, take); err != nil {
			return err
		}
	}
	for _, n := range v.tail {
		take(n)
	}
	for _, s := range stories {
		s.events = inOrder(s.events)
	}
	return nil
}

// inOrder sorts the events of a message as they stand in the log, each once.
func inOrder(evs []numbered) []numbered {
	slices.SortStableFunc(evs, func(a, b numbered) int {
		return cmp.Or(cmp.Compare(a.lsn, b.lsn), cmp.Compare(a.n, b.n))
	})
	return slices.CompactFunc(evs, func(a, b numbered) bool {
		return a.seq == b.seq && a.lsn != 0 && fingerprint(a.ev) == fingerprint(b.ev)
	})
}

// reports finds the reports that the messages led to.
func (v *view) reports(ctx context.Context, of []*story) (map[postrider.ID]*story, error) {
	found := map[postrider.ID]*story{}
	var all []*story
	for _, s := range of {
		for _, n := range s.events {
			if id := n.ev.Report; id != "" && found[id] == nil {
				found[id] = &story{id: id, since: n.ev.Time}
				all = append(all, found[id])
			}
		}
	}
	return found, v.fill(ctx, all)
}
