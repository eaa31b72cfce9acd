// Package maildir delivers into Maildir folders: one file for each message and
// recipient, written in tmp, synced, and linked into new under a name that
// depends on nothing but the message and the recipient. A delivery that is
// repeated after a crash finds that name and adds no second copy.
package maildir

import (
	"context"
	"errors"
	"io/fs"
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

	mu    sync.Mutex
	known map[string]bool // folders that are durable, and all above them
}

// New returns a Transport.
func New(opt Options) *Transport {
	return &Transport{
		fs:     opt.FS,
		host:   hostPart(opt.Hostname),
		making: make(chan struct{}, 1),
		known:  make(map[string]bool),
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
	found   map[string]string // of names that are there already: in which folder, "new" or "cur"
	placed  map[string]bool   // names that this attempt put into new
	touched map[string]bool   // folders to be synced
}

// deliver returns an error for each recipient, nil where the mail is durable.
func (t *Transport) deliver(ctx context.Context, d *postrider.Delivery) []error {
	errs := make([]error, len(d.Rcpts))
	a := &attempt{Delivery: d, dir: d.Route.Dir, placed: map[string]bool{}, touched: map[string]bool{}}
	err := checkDir(a.dir)
	if err == nil {
		err = t.prepare(ctx, a.dir)
	}
	if err == nil && a.Again {
		a.found, err = t.find(a)
	}
	if err != nil {
		for k := range errs {
			errs[k] = err
		}
		return errs
	}
	for k, i := range a.Rcpts {
		errs[k] = t.place(ctx, a, i)
		if errors.Is(errs[k], fs.ErrNotExist) {
			// Somebody removed the folder since it was made.
			t.forget()
			if errs[k] = t.prepare(ctx, a.dir); errs[k] == nil {
				errs[k] = t.place(ctx, a, i)
			}
		}
	}
	if err := t.sync(a); err != nil {
		for k := range errs {
			errs[k] = errors.Join(errs[k], err)
		}
	}
	return errs
}

// sync makes the names durable that are in new, or have been moved to cur. When
// that fails it takes back what this attempt put there: the next SyncDir may
// succeed without writing what this one did not, and would make a promise of it.
func (t *Transport) sync(a *attempt) error {
	for _, folder := range [...]string{"new", "cur"} {
		if !a.touched[folder] {
			continue
		}
		if err := t.fs.SyncDir(a.dir + "/" + folder); err != nil {
			for name := range a.placed {
				t.fs.Remove(a.dir + "/new/" + name)
			}
			return err
		}
	}
	return nil
}

// find looks for what an earlier attempt delivered. It looks in new first: mail
// is moved from new to cur and never back, so that none slips past.
func (t *Transport) find(a *attempt) (map[string]string, error) {
	want := make(map[string]bool, len(a.Rcpts))
	for _, i := range a.Rcpts {
		want[stem(a.Message, i)] = true
	}
	found := make(map[string]string)
	for _, folder := range [...]string{"new", "cur"} {
		list, err := t.fs.ReadDir(a.dir + "/" + folder)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if s := stemOf(e.Name()); want[s] {
				found[s] = folder
			}
		}
	}
	return found, nil
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
