package account

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// fileMax is how large a file of accounts may be, in octets.
const fileMax = 64 << 20

// settled is how old a change of a file must be before its time stands for its
// content: within the step of a file system's clock two changes have one time.
const settled = 2 * time.Second

// lookEvery is how often at most a file is looked at for the questions of Has and
// Since, and how often one is read again that has not settled.
const lookEvery = 100 * time.Millisecond

// Options are the options of a Store.
type Options struct {
	// Exempt says which clients may guess as often as they like: web mail and other
	// machines that speak for many people. Nil: none.
	Exempt func(netip.Addr) bool
	Now    func() time.Time // nil: time.Now
	// Alarm is told once of a file that cannot be read. Nil: nobody is told.
	Alarm func(error)
}

// A Store is the accounts of one file. Its methods may be called at once from
// many goroutines, and from many processes.
type Store struct {
	fs     vfs.FS
	name   string
	o      Options
	guard  *guard
	hasher *hasher
	cache  *cache

	reading chan struct{} // holds one token: who has it reads the file

	mu     sync.Mutex
	table  *table
	seen   stamp
	looked time.Time // when the look for the table began
	read   time.Time // when the file had been read
	unread bool      // it was there, and could not be
	said   string    // what the Alarm was told of the file as it is
}

// A stamp tells one state of a file from another.
type stamp struct {
	size    int64
	modTime time.Time
	missing bool
	fresh   bool // it may have changed again within the same modTime
}

// Open reads the accounts of a file. One that is not there has none. An error
// says which line of it cannot be read.
func Open(fsys vfs.FS, name string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Alarm == nil {
		o.Alarm = func(error) {}
	}
	s := &Store{fs: fsys, name: name, o: o, guard: newGuard(o.Exempt), hasher: newHasher(), cache: newCache(), reading: make(chan struct{}, 1)}
	s.looked = o.Now()
	seen, err := s.stat()
	if err != nil {
		return nil, err
	}
	t, err := s.load()
	if err != nil {
		return nil, err
	}
	s.table, s.seen, s.read = t, seen, o.Now()
	return s, nil
}

// stat returns the stamp that the file has now.
func (s *Store) stat() (stamp, error) {
	info, err := s.fs.Stat(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{missing: true}, nil
	}
	if err != nil {
		return stamp{}, fmt.Errorf("account: %w", err)
	}
	st := stamp{size: info.Size(), modTime: info.ModTime()}
	age := s.o.Now().Sub(st.modTime)
	st.fresh = -settled < age && age < settled
	return st, nil
}

// load reads the file. One that is not there is an empty table.
func (s *Store) load() (*table, error) {
	data, err := s.readFile()
	if errors.Is(err, fs.ErrNotExist) {
		return parseTable(s.name, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	t, err := parseTable(s.name, data)
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return t, nil
}

func (s *Store) readFile() ([]byte, error) {
	info, err := s.fs.Stat(s.name)
	if err != nil {
		return nil, err
	}
	if info.Size() > fileMax {
		return nil, fmt.Errorf("%s: over 64 MiB", s.name)
	}
	return vfs.ReadFile(s.fs, s.name)
}

// current returns the accounts as the file has them now, or as it had them when
// it could last be read. Logins go by these: a password that was changed is not
// good any longer.
func (s *Store) current() *table {
	now, err := s.stat()
	s.mu.Lock()
	t, same := s.table, err == nil && s.same(now)
	s.mu.Unlock()
	if same {
		return t
	}
	s.reading <- struct{}{}
	defer func() { <-s.reading }()
	return s.reload(false)
}

// recent returns the accounts as current did at most lookEvery ago. It waits for
// nobody: while another reads the file they are those of before.
func (s *Store) recent() *table {
	now := s.o.Now()
	s.mu.Lock()
	t, due := s.table, !lately(s.looked, now)
	s.mu.Unlock()
	if !due {
		return t
	}
	select {
	case s.reading <- struct{}{}:
	default:
		return t
	}
	defer func() { <-s.reading }()
	return s.reload(false)
}

// lately reports whether a time is less than lookEvery ago.
func lately(at, now time.Time) bool {
	d := now.Sub(at)
	return 0 <= d && d < lookEvery
}

// same reports whether the table is that of a file with this stamp. One that has
// not settled may have changed again without another stamp, and one that could not be
// read may be readable: they are read again after lookEvery. The caller holds mu.
func (s *Store) same(now stamp) bool {
	return now == s.seen && (!now.fresh && !s.unread || lately(s.read, s.o.Now()))
}

// reload reads the file where it has changed, or anew, and tells the Alarm what is
// wrong with it. The caller holds the token of reading.
func (s *Store) reload(anew bool) *table {
	looked := s.o.Now()
	now, err := s.stat()
	s.mu.Lock()
	s.looked = looked
	old, seen := s.table, s.seen
	same := err == nil && !anew && s.same(now)
	s.mu.Unlock()
	if same {
		return old // another has read it meanwhile
	}
	var t *table
	switch {
	case err != nil:
	case now.missing && !seen.missing:
		err = fmt.Errorf("account: %s is gone: the accounts stay as they were", s.name)
	case now.missing:
		return old
	default:
		t, err = s.load()
	}
	read := s.o.Now()
	_, unread := errors.AsType[*fs.PathError](err)
	s.mu.Lock()
	s.seen, s.read, s.unread = now, read, unread
	if t != nil {
		s.table = t
	}
	t = s.table
	said := s.said
	s.said = ""
	if err != nil {
		s.said = err.Error()
	}
	s.mu.Unlock()
	if err != nil && err.Error() != said {
		s.o.Alarm(err)
	}
	return t
}

// Has reports whether there is an account of that address. It does not wait for
// others, and sees what another process has changed a tenth of a second later, at
// most, and what it takes to read the file.
func (s *Store) Has(to smtp.Path) bool { return s.recent().byName[pathKey(to)] != nil }

// Since says when the account of an address was made; zero: there is none, or that
// was not written down then. An account that is taken away and made again has the
// time of the second making. It answers as Has does.
func (s *Store) Since(to smtp.Path) time.Time {
	if e := s.recent().byName[pathKey(to)]; e != nil {
		return e.since
	}
	return time.Time{}
}

// List returns the accounts in the order of the file.
func (s *Store) List() []Account {
	var all []Account
	for _, l := range s.current().lines {
		if l.entry != nil {
			all = append(all, Account{Address: l.entry.Address, SendAs: slices.Clone(l.entry.SendAs)})
		}
	}
	return all
}

// Add makes an account. ErrExists: there is one of that name. What sendAs may
// hold is said at Account.
func (s *Store) Add(address, password string, sendAs ...string) error {
	name, err := parseName(address)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if err := checkPatterns(sendAs); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	prepared, err := prepare(password)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	keys, err := newKeys(password)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	e := &entry{Account: Account{Address: name, SendAs: sendAs}, hash: newHash(prepared), keys: keys, since: s.o.Now()}
	return s.change(address, func(t *table, at int) error {
		if at >= 0 {
			return ErrExists
		}
		t.lines = append(t.lines, line{text: e.String()})
		t.keepSecret()
		return nil
	})
}

// SetPassword gives an account another password.
func (s *Store) SetPassword(address, password string) error {
	prepared, err := prepare(password)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	h := newHash(prepared)
	keys, err := newKeys(password)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	return s.change(address, func(t *table, at int) error {
		if at < 0 {
			return ErrNoAccount
		}
		e := *t.lines[at].entry
		e.hash, e.keys = h, keys
		t.lines[at].text = e.String()
		t.keepSecret()
		return nil
	})
}

// Remove takes an account away. Sessions that have logged in with it go on.
func (s *Store) Remove(address string) error {
	return s.change(address, func(t *table, at int) error {
		if at < 0 {
			return ErrNoAccount
		}
		t.lines = slices.Delete(t.lines, at, at+1)
		return nil
	})
}

// change reads the file, lets edit change the lines of it, at being the line of
// address or -1, and puts the new file in its place: durably, or not at all; but
// where only the sync of the folder fails, the new one is there and may go with
// the power, and the next change makes it durable. No other process changes it
// meanwhile: one that does is vfs.ErrLocked.
func (s *Store) change(address string, edit func(t *table, at int) error) (err error) {
	lock, err := s.fs.Lock(s.name + ".lock")
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	t, err := s.load()
	if err != nil {
		return err
	}
	if err := edit(t, t.index(nameKey(address))); err != nil {
		return err
	}
	data := t.bytes()
	if _, err := parseTable(s.name, data); err != nil {
		return fmt.Errorf("account: %w", err)
	}
	err = s.write(data)
	s.reading <- struct{}{}
	s.reload(true) // our own questions see it at once
	<-s.reading
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	return nil
}

// write replaces the file.
func (s *Store) write(data []byte) error {
	next := s.name + ".new"
	err := s.writeNew(next, data)
	if err == nil {
		err = s.fs.Rename(next, s.name)
	}
	if err != nil {
		_ = s.fs.Remove(next) // which may not be there
		return err
	}
	return s.fs.SyncDir(path.Dir(s.name))
}

func (s *Store) writeNew(name string, data []byte) error {
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
