// Package maildir delivers into Maildir folders: one file for each message and
// recipient, written in tmp, synced, and linked into new under a name that
// depends on nothing but the message and the recipient. A delivery that is
// repeated after a crash finds that name and adds no second copy. Those that come
// together on one file system are made durable together (volume.go).
package maildir

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// Options are what a Transport needs.
type Options struct {
	FS vfs.FS
	// Hostname is the last part of file names, as Maildir readers expect it. It
	// may change without making duplicates. Empty: "localhost".
	Hostname string
}

// A Transport delivers into the folder that the route names. It may be used by
// several goroutines, for one folder too.
type Transport struct {
	fs   vfs.FS
	host string

	// making is held, as a channel of one, by who makes folders, so that nobody
	// believes in a folder that another could not sync and will take back.
	making chan struct{}

	// doubt has, of who holds making, the folders whose sync has failed, true for those
	// that we made and could not take back: a later sync of the parent does not make them
	// durable. Wary: so it may be of any.
	doubt map[string]bool
	wary  bool

	mu    sync.Mutex
	known map[string]bool    // folders that are durable, and all above them
	boxes map[string]*shared // new and cur, while somebody delivers there

	volumes map[uint64]*volume // file systems, while somebody delivers there

	alone  int       // aloneMax
	blocks sync.Pool // of *blocks
}

// New returns a Transport.
func New(opt Options) *Transport {
	return &Transport{
		fs:     opt.FS,
		host:   hostPart(opt.Hostname),
		making: make(chan struct{}, 1),
		doubt:  make(map[string]bool),
		known:  make(map[string]bool),
		boxes:  make(map[string]*shared),

		volumes: make(map[uint64]*volume),
		alone:   aloneMax,
		blocks:  sync.Pool{New: func() any { return newBlocks() }},
	}
}

// Deliver writes one file for each recipient into the Maildir Route.Dir, which
// is made if it is missing, and says Delivered once file and name are durable.
// The file has a Return-Path and a Delivered-To field and then the content, but
// for Return-Path fields of others, octet for octet, lines ended by CRLF as they
// came. Nothing that stops it is final: the mail is kept, and tried again.
func (t *Transport) Deliver(ctx context.Context, a *postrider.Delivery) []postrider.Outcome {
	outcomes := make([]postrider.Outcome, len(a.Rcpts))
	for k, err := range t.deliver(ctx, a) {
		outcomes[k] = outcome(err)
	}
	return outcomes
}

// An attempt is one call of Deliver.
type attempt struct {
	*postrider.Delivery
	dir     string
	errs    []error          // by place in Rcpts
	first   map[string]int   // by stem: the first place in Rcpts that has it
	found   map[string]found // by stem: what is there already
	letters []letter         // what waits in tmp
	placed  map[string]bool  // names that this attempt put into new
	touched map[string]bool  // folders that names were changed in, but for placed
	names   map[string]names // by folder: "new" and "cur"
	visit   visit
}

// A letter is a file in tmp.
type letter struct {
	k         int // place in Rcpts
	tmp, name string
}

// deliver returns an error for each recipient, nil where the mail is durable.
func (t *Transport) deliver(ctx context.Context, d *postrider.Delivery) []error {
	a := &attempt{Delivery: d, dir: path.Clean(d.Route.Dir), errs: make([]error, len(d.Rcpts)), first: map[string]int{},
		found: map[string]found{}, placed: map[string]bool{}, touched: map[string]bool{}, names: map[string]names{}}
	t.enter(a)
	defer t.leave(a)
	err := checkDir(d.Route.Dir)
	if err == nil {
		err = t.prepare(ctx, a.dir)
	}
	if err == nil && a.Again {
		err = t.find(a)
	}
	if err != nil {
		for k := range a.errs {
			a.errs[k] = err
		}
		return a.errs
	}
	for k := range a.Rcpts {
		a.errs[k] = t.place(ctx, a, k)
		if errors.Is(a.errs[k], fs.ErrNotExist) {
			// Somebody removed the folder since it was made.
			t.forget()
			if a.errs[k] = t.prepare(ctx, a.dir); a.errs[k] == nil {
				a.errs[k] = t.place(ctx, a, k)
			}
		}
	}
	t.link(a)
	if err := t.sync(a); err != nil {
		for k := range a.errs {
			a.errs[k] = errors.Join(a.errs[k], err)
		}
	}
	for k, i := range a.Rcpts {
		a.errs[k] = a.errs[a.first[stem(a.Message, i)]]
	}
	return a.errs
}

// sync makes the names durable that are in new, or have been moved to cur. When
// that fails it takes back what this attempt put there, or the owner would have
// the mail twice if he moved it before the next attempt.
func (t *Transport) sync(a *attempt) error {
	err := a.syncNames()
	if err != nil {
		for _, name := range slices.Sorted(maps.Keys(a.placed)) {
			t.fs.Remove(a.dir + "/new/" + name)
		}
	}
	return err
}

func (a *attempt) syncNames() error {
	if len(a.placed) > 0 && !a.touched["new"] {
		if err := a.visit.syncNames(a.names["new"]); err != nil {
			return err
		}
	}
	for _, folder := range [...]string{"new", "cur"} {
		if a.touched[folder] {
			if err := a.names[folder].sync(); err != nil {
				return err
			}
		}
	}
	return a.visit.check()
}

// checkDir refuses what no configuration means.
func checkDir(dir string) error {
	if dir == "" {
		return &dirError{dir, "it is empty"}
	}
	for part := range strings.SplitSeq(dir, "/") {
		if part == ".." {
			return &dirError{dir, `it has an element ".."`}
		}
	}
	if strings.IndexByte(dir, 0) >= 0 {
		return &dirError{dir, "it has a NUL"}
	}
	return nil
}
