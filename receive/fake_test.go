package receive

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A memSpool keeps what is committed in a map, and fails as told. What receive
// does not call is left to the nil Spool.
type memSpool struct {
	postrider.Spool
	mu         sync.Mutex
	drafts     int // open
	n          int // IDs given
	kept       map[postrider.ID]kept
	order      []postrider.ID
	createErr  error
	writeErr   error
	commitErr  error
	committing func() // called in Commit before it returns
}

// kept is a committed message.
type kept struct {
	message *postrider.Message
	head    []byte
	content []byte
	add     postrider.Addition
}

func (s *memSpool) Create(_ context.Context, id postrider.ID) (postrider.Draft, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.createErr != nil {
		return nil, s.createErr
	}
	s.n++
	s.drafts++
	return &memDraft{spool: s, id: postrider.ID(fmt.Sprintf("%020d", s.n))}, nil
}

func (s *memSpool) Commit(_ context.Context, b postrider.Batch) error {
	if s.committing != nil {
		s.committing()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.commitErr != nil {
		return s.commitErr
	}
	if s.kept == nil {
		s.kept = map[postrider.ID]kept{}
	}
	for _, a := range b.Add {
		d := a.Draft.(*memDraft)
		d.close()
		s.kept[d.id] = kept{a.Message, a.Head, d.buf.Bytes(), a}
		s.order = append(s.order, d.id)
	}
	return nil
}

// last returns the message committed last.
func (s *memSpool) last() (kept, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return kept{}, 0
	}
	return s.kept[s.order[len(s.order)-1]], len(s.order)
}

// open returns how many drafts are neither committed nor discarded.
func (s *memSpool) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drafts
}

type memDraft struct {
	spool *memSpool
	id    postrider.ID
	buf   bytes.Buffer
	done  bool
}

func (d *memDraft) Write(p []byte) (int, error) {
	if d.spool.writeErr != nil {
		return 0, d.spool.writeErr
	}
	return d.buf.Write(p)
}
func (d *memDraft) ID() postrider.ID { return d.id }
func (d *memDraft) Size() int64      { return int64(d.buf.Len()) }
func (d *memDraft) Discard() {
	d.spool.mu.Lock()
	defer d.spool.mu.Unlock()
	d.close()
}

// close ends the draft once. The caller holds the lock of the spool.
func (d *memDraft) close() {
	if !d.done {
		d.done = true
		d.spool.drafts--
	}
}

// A mapRouter knows the kinds of addresses by their domain and local part.
type mapRouter struct{ err error }

func (r mapRouter) Resolve(_ context.Context, to smtp.Path, _ postrider.Source) (postrider.Resolution, error) {
	res := postrider.Resolution{To: []smtp.Path{to}}
	switch {
	case r.err != nil:
		return postrider.Resolution{}, r.err
	case to.Domain == "":
		res = postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{{Local: "ops", Domain: "our.example"}}}
	case to.Domain != "our.example":
	case to.Local == "team":
		res = postrider.Resolution{Kind: postrider.KindAlias, To: []smtp.Path{{Local: "one", Domain: "our.example"}, {Local: "two", Domain: "far.example"}}}
	case to.Local == "alias":
		res = postrider.Resolution{Kind: postrider.KindAlias, To: []smtp.Path{{Local: "one", Domain: "our.example"}}}
	case to.Local == "nobody":
		res.Kind = postrider.KindUnknown
	case to.Local == "postmaster":
		res = postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{{Local: "ops", Domain: "our.example"}}}
	default:
		res.Kind = postrider.KindMailbox
	}
	return res, nil
}

func (mapRouter) Route(smtp.Path) postrider.Route { return postrider.Route{} }

// checkFunc is a check that is a function.
type checkFunc func(tx *postrider.Transaction) postrider.Verdict

func (f checkFunc) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	return f(tx)
}

// localOnly takes mailboxes of ours, as the checks of package policy do.
var localOnly = checkFunc(func(tx *postrider.Transaction) postrider.Verdict {
	if tx.Resolution.Kind == postrider.KindMailbox {
		return postrider.Verdict{Reply: smtp.Reply{Code: 250, Status: smtp.Status{Class: 2, Subject: 1, Detail: 5}, Text: "yes"}}
	}
	return postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no"}}
})
