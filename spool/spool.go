// Package spool is the embedded durable store: a log of segments in which a
// message becomes ours, with an index of what is due in memory. Commit, in
// commit.go, is the only verb that makes mail durable; one write and one sync
// serve all batches that gathered while the last sync ran.
//
// The layout below the folder of the spool is
//
//	seg/NNNNNNNNNN.seg   the log (segment.go, record.go, codec.go)
//	big/ID               contents too large for the log (draft.go)
//	index.snap           the index at some point of the log (snapshot.go)
//	damaged/             what a recovery set aside (recover.go)
//	spare                space kept for settlements on a full disk (guard.go)
//	lock                 held by the process that has the spool open
//
// The log grows at its end and is removed from its front. What lives in the
// oldest segment is written again at the end when the log has grown to more
// than twice what lives in it (compact.go).
package spool

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// Options of a Spool. Zero fields have the default that is said beside them.
type Options struct {
	FS            vfs.FS            // required
	Dir           string            // required; made if it is not there
	Now           func() time.Time  // wall clock; time.Now
	Rand          *rand.Rand        // for the random parts of IDs and segments; seeded by the system
	SegmentSize   int64             // octets of a segment; 64 MiB, and less on a small file system
	SmallMax      int64             // octets of a content that goes into the log; larger ones go to files; 256 KiB
	DraftMemory   int64             // octets of drafts in memory at once; beyond it they go to files; 16 MiB
	MaxRecipients int               // waiting in all; beyond it ErrFull; 2,000,000
	Slack         int64             // octets that the log may hold beyond twice the live ones; 32 MiB
	MinFree       int64             // octets of the file system that new mail leaves free; 0: the larger of 1 GiB and 5 % of it
	SnapshotEvery int64             // octets of log between two snapshots of the index, and at least half of the live ones; 512 MiB
	FeedMax       int64             // octets of log that are kept for readers of the feed that lag; 4 GiB
	ReadOnly      bool              // for Scan and Open alone, beside a process that has the spool or after it
	Alarm         func(text string) // told what an operator must know, by several goroutines; nil: nobody
}

// A Spool implements postrider.Spool on a vfs.FS. All methods may be called at
// once.
type Spool struct {
	fs   vfs.FS
	dir  string
	opt  Options
	now  func() time.Time
	lock io.Closer

	draftBytes atomic.Int64
	idClock    atomic.Int64 // milliseconds, shifted by idCountBits, and a count
	bootID     string
	bufs       sync.Pool // *[]byte of drafts
	answers    sync.Pool // chan error of requests
	records    sync.Pool // *[]byte that contents are read into

	// Of the committer alone (run).
	rand          *rand.Rand
	active        *segment // nil: to be made
	nextSegment   uint64
	lsn           uint64 // of the last record written
	lastFilled    uint64 // of the last that is no commit record
	unsynced      []*item
	rewrite       []*item // to be written again with the next group
	buf           []byte
	group         []*request // that is being written
	pace          pace
	trash         []trashItem
	spare         bool  // the file is there
	spent         bool  // it was, and is not there yet again
	sinceSnapshot int64 // octets of log
	proof         proof
	lazyPause     time.Duration
	stuck         bool // what a start alone can mend: no snapshot may spare it the reading
	refusals      map[handle]refusal

	segs    *vfs.Folder // seg/
	bigs    *vfs.Folder // big/
	remover remover     // of recovery, and then of runRemovals
	recent  recent      // for the readers of the feed
	fresh   fresh       // for those who deliver
	known   known       // of the room that is left

	snapping  atomic.Bool    // a snapshot is being written
	snapshots sync.WaitGroup // and what else is done beside

	requests chan *request
	remove   chan removal
	stop     chan struct{} // closed: the committer ends
	stopped  chan struct{}
	removed  chan struct{}
	commits  sync.WaitGroup

	mu          sync.Mutex // guards what follows; never held across I/O
	closed      bool
	segments    []*segment // oldest first
	abandons    int        // segments given up
	synced      uint64     // LSN up to which all is durable
	slots       []*segment // of entry.at and rcptState.last; the first is not used
	freeSlots   []uint32
	slab        slab                      // the entries
	many        map[ref][]rcptState       // recipients of messages that have not just one
	outings     map[ref]*outing           // of messages with leases out
	wants       map[ref]map[int32]*wanted // of recipients that are leased
	rotten      map[spot]uint64           // records that an operator was told are damaged, and their segment
	futures     map[string]map[ref]int64  // by account: messages that their sender holds back, and until when
	futureOf    map[ref]string
	domains     interner  // of the recipients, in lower case
	replies     interner  // that were heard last, encoded
	recovered   recovered // until the first Rekey
	dests       map[postrider.Dest]*destQueue
	queues      []*destQueue // by destQueue.num; the first is nil
	freeQueues  []uint32
	sweptDests  int
	byDue       *order[parcel]
	byRank      *order[parcel]
	ready       heap[*destQueue] // by when more of one is due
	ripe        heap[*destQueue] // those of which something is due, by rank
	wakes       heap[ref]
	leases      map[uint64]*lease
	token       uint64
	keyOf       func(smtp.Path) postrider.Dest
	waiting     int // recipients
	stand       [stands]int
	scratch     []byte
	liveBytes   int64
	logBytes    int64
	snapBytes   int64 // of the snapshot
	readers     map[string]*feedReader
	readerNames []string      // in the order of their first appearance
	changed     chan struct{} // closed when more is durable; nil: nobody waits
	told        durable       // when it was made
	sooner      chan struct{} // closed when a lease can be given before awaited; nil: nobody waits
	awaited     int64
}

// setDefaults fills the zero fields of o.
func (o *Options) setDefaults() {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.SmallMax, 256<<10)
	def(&o.DraftMemory, 16<<20)
	def(&o.Slack, 32<<20)
	def(&o.FeedMax, 4<<30)
	def(&o.SnapshotEvery, 512<<20)
	if o.MaxRecipients == 0 {
		o.MaxRecipients = 2_000_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		var seed [32]byte
		crand.Read(seed[:])
		o.Rand = rand.New(rand.NewChaCha8(seed))
	}
}

// Open opens the spool in o.Dir, after a crash too, and starts its committer.
func Open(ctx context.Context, o Options) (*Spool, error) {
	if o.FS == nil || o.Dir == "" {
		return nil, errors.New("spool: no file system or no folder given")
	}
	o.setDefaults()
	s := &Spool{
		fs: o.FS, dir: o.Dir, opt: o, now: o.Now, rand: o.Rand,
		bootID:   base36(o.Rand.Uint64(), 7),
		slots:    make([]*segment, 1),
		readers:  map[string]*feedReader{},
		rotten:   map[spot]uint64{},
		requests: make(chan *request, requestsMax),
		remove:   make(chan removal, 64),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
		removed:  make(chan struct{}),
	}
	s.initIndex()
	s.segs = vfs.NewFolder(s.fs, path.Join(s.dir, "seg"))
	s.bigs = vfs.NewFolder(s.fs, path.Join(s.dir, "big"))
	s.remover.s = s
	s.bufs.New = func() any { b := make([]byte, 0, draftLeast); return &b }
	s.records.New = func() any { return new([]byte) }
	s.answers.New = func() any { return make(chan error, 1) }
	s.fresh.begin(&s.bufs)
	s.fitSegments()
	if err := s.openFiles(ctx); err != nil {
		s.closeFiles()
		return nil, err
	}
	s.recent.begin(s.lsn)
	if o.ReadOnly {
		close(s.stopped)
		close(s.removed)
		return s, nil
	}
	s.keepSpare()
	go s.run()
	go s.runRemovals(&s.remover)
	return s, nil
}

// openFiles takes the lock, recovers, and begins a new segment.
func (s *Spool) openFiles(ctx context.Context) error {
	if s.opt.ReadOnly {
		return s.recover(ctx)
	}
	if err := vfs.MakeDir(s.fs, s.dir); err != nil {
		return fmt.Errorf("spool: make folder: %w", err)
	}
	lock, err := s.fs.Lock(path.Join(s.dir, "lock"))
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.lock = lock
	for _, d := range []string{"seg", "big", "damaged"} {
		if err := vfs.MakeDir(s.fs, path.Join(s.dir, d)); err != nil {
			return fmt.Errorf("spool: make folder: %w", err)
		}
	}
	return s.recover(ctx)
}

// alarm tells the operator.
func (s *Spool) alarm(format string, args ...any) {
	if s.opt.Alarm != nil {
		s.opt.Alarm(fmt.Sprintf(format, args...))
	}
}

// Close implements postrider.Spool. Leases that are out end; what they were for
// is due again at the next start.
func (s *Spool) Close(ctx context.Context) error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	if !was {
		s.recent.end() // what is told from here on would come again
		s.kick()
	}
	s.mu.Unlock()
	if was {
		return postrider.ErrClosed
	}
	if !s.opt.ReadOnly {
		s.commits.Wait()
		close(s.stop)
		<-s.stopped
		s.snapshots.Wait()
		close(s.remove)
		<-s.removed
	}
	return s.closeFiles()
}

func (s *Spool) closeFiles() error {
	var errs []error
	s.mu.Lock()
	segments := s.segments
	s.segments = nil
	var files []vfs.File
	for _, g := range segments {
		g.gone = true
		if g.refs == 0 {
			files = append(files, g.f)
		}
	}
	s.mu.Unlock()
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Waiting returns how many recipients wait, leased ones among them.
func (s *Spool) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}
