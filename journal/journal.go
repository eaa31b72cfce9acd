// Package journal keeps the story of each message: every event of the spool's
// feed, and what was refused, in files that are kept for days after the message
// has gone. Where finds it again by ID, by Message-ID and by address.
//
// The layout below the folder of the journal is
//
//	YYYY-MM-DD.jnl        the events of a day, UTC, as they came (record.go)
//	YYYY-MM-DD.NNNN.jnl   more of that day, when a file is full
//	*.idx                 beside a file that is full: where in it an ID or an address is (index.go)
//	lock                  held by the process that writes
//
// The feed comes again from the last acknowledged place after a crash. An event
// is acknowledged when it is synced, so none is lost, and the writer knows the
// LSNs that it wrote last, so that what comes again is not written again. Where
// it cannot know, it writes, and Where leaves out what is there twice.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// Options of a Journal. Zero fields have the default that is said beside them.
type Options struct {
	FS       vfs.FS           // required
	Dir      string           // required; made if it is not there
	Keep     time.Duration    // older days are removed; 90 days
	MaxSize  int64            // octets in all, beyond which the oldest files are removed; 20 GiB
	PartSize int64            // octets of a file, beyond which another is begun; 16 MiB, and no more than 1 GiB
	ReadOnly bool             // for Where, beside a process that writes or after it; Run keeps what it reads in memory
	Now      func() time.Time // wall clock; time.Now
	// Spellings returns the other ways to write a domain, in A-labels and U-labels,
	// for Where; nil: there are none.
	Spellings func(domain string) []string
	Alarm     func(text string) // told what an operator must know, by several goroutines; nil: nobody
}

// A Journal is the story of each message. Where and Refuse may be called at any
// time, by many goroutines.
type Journal struct {
	opt      Options
	lock     io.Closer
	refused  chan *postrider.Event
	dropped  atomic.Uint64
	indexing chan struct{} // holds one token: who has it makes a missing index

	// Of Run alone, one at a time.
	f      vfs.File      // of the last of files; nil: to be made
	size   int64         // octets of f
	synced int64         // of those, that are durable
	took   time.Duration // the last sync
	last   uint64        // the highest LSN in recent
	recent map[seq]uint64
	buf    []byte
	fresh  []entry

	mu      sync.Mutex // guards what follows; never held across I/O
	files   []dayFile  // oldest first
	live    bool       // entries are those of the last of files
	entries entries
	tail    []numbered // of a read-only journal: what it was told and does not hold
}

// refusedMax is how many refusals wait to be written.
const refusedMax = 1024

func (o *Options) setDefaults() error {
	if o.FS == nil || o.Dir == "" {
		return errors.New("journal: no file system or no folder given")
	}
	if o.Keep <= 0 {
		o.Keep = 90 * 24 * time.Hour
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 20 << 30
	}
	if o.PartSize <= 0 {
		o.PartSize = 16 << 20 // what is found in the file that grows is in memory
	}
	o.PartSize = min(o.PartSize, 1<<30)
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Open opens the journal in o.Dir, after a crash too. Its story goes on with Run.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	j := &Journal{opt: o, refused: make(chan *postrider.Event, refusedMax), indexing: make(chan struct{}, 1), recent: map[seq]uint64{}}
	if err := j.open(ctx); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func (j *Journal) open(ctx context.Context) error {
	if !j.opt.ReadOnly {
		if err := vfs.MakeDir(j.opt.FS, j.opt.Dir); err != nil {
			return fmt.Errorf("journal: make folder: %w", err)
		}
		lock, err := j.opt.FS.Lock(path.Join(j.opt.Dir, "lock"))
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		j.lock = lock
		if err := j.opt.FS.SyncDir(j.opt.Dir); err != nil {
			return fmt.Errorf("journal: sync folder: %w", err)
		}
	}
	if err := j.list(); err != nil {
		return err
	}
	return j.recover(ctx)
}

// Refuse notes that something was refused, if there is room: it never waits. What
// a crash or a flood takes of these is lost.
func (j *Journal) Refuse(ev postrider.Event) {
	ev.Kind, ev.LSN = postrider.EventRefused, 0
	if ev.Time.IsZero() {
		ev.Time = j.opt.Now()
	}
	select {
	case j.refused <- &ev:
	default:
		j.dropped.Add(1)
	}
}

// Dropped returns how many refusals found no room.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Close closes the files, after Run has returned.
func (j *Journal) Close() error {
	var errs []error
	if j.f != nil {
		errs = append(errs, j.f.Close())
		j.f = nil
	}
	if j.lock != nil {
		errs = append(errs, j.lock.Close())
		j.lock = nil
	}
	return errors.Join(errs...)
}

func (j *Journal) alarm(format string, args ...any) {
	if j.opt.Alarm != nil {
		j.opt.Alarm(strings.TrimPrefix(fmt.Sprintf(format, args...), "journal: "))
	}
}
