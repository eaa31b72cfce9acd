package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// A SpoolCheck is what CheckSpool has found.
type SpoolCheck struct {
	Messages int      `json:"messages"` // that were read whole
	Octets   int64    `json:"octets"`   // of their contents
	Wrong    []string `json:"wrong"`    // what cannot be read, or is missing
	Aside    []string `json:"aside"`    // files that recoveries have set aside
}

// CheckSpool reads every message in the spool, contents too, and changes
// nothing. A server that runs on it may go on. What it moves or ends looks wrong to
// who reads it meanwhile: wrong is what is found again when the spool is opened anew.
func CheckSpool(ctx context.Context, cfg *config.Config, fsys vfs.FS) (SpoolCheck, error) {
	dir := path.Join(cfg.DataDir, spoolDir)
	l := &spoolLook{found: SpoolCheck{Wrong: []string{}, Aside: []string{}}, counted: map[postrider.ID]bool{}}
	err := l.open(ctx, fsys, dir, l.everything)
	for n, quiet := 1, false; n < spoolLooks && !quiet && err == nil && len(l.wrong) > 0; n++ {
		oldest := oldestSegment(fsys, dir)
		err = l.again(ctx, fsys, dir)
		quiet = oldestSegment(fsys, dir) == oldest
	}
	for _, w := range l.wrong {
		l.found.Wrong = append(l.found.Wrong, w.what)
	}
	if err != nil {
		return l.found, err
	}
	aside, err := fsys.ReadDir(path.Join(dir, "damaged"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l.found, err
	}
	for _, f := range aside {
		l.found.Aside = append(l.found.Aside, path.Join(dir, "damaged", f.Name()))
	}
	return l.found, nil
}

// spoolLooks is how often at most something is looked at that seems wrong: twice
// is enough, but for a look in which the server has removed a segment, which proves
// nothing. All looks but the first are short.
const spoolLooks = 8

// oldestSegment names the file that the log begins with: another one when it was removed.
func oldestSegment(fsys vfs.FS, dir string) string {
	list, err := fsys.ReadDir(path.Join(dir, "seg"))
	if err != nil || len(list) == 0 {
		return ""
	}
	return list[0].Name()
}

// A spoolLook is a look at a spool, and what is known from those before.
type spoolLook struct {
	found   SpoolCheck
	wrong   []wrongThing
	counted map[postrider.ID]bool // messages that were read whole, of those with which something is wrong
}

// A wrongThing is what is wrong, and with which message; the empty ID: with the log.
type wrongThing struct {
	id   postrider.ID
	what string
}

// open opens a spool anew, and calls read with it.
func (l *spoolLook) open(ctx context.Context, fsys vfs.FS, dir string, read func(context.Context, *spool.Spool) error) error {
	s, err := spool.Open(ctx, spool.Options{FS: fsys, Dir: dir, ReadOnly: true,
		Alarm: func(text string) { l.wrong = append(l.wrong, wrongThing{what: text}) }})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	return read(ctx, s)
}

// everything reads every message.
func (l *spoolLook) everything(ctx context.Context, s *spool.Spool) error {
	from := len(l.wrong)
	for m, err := range s.Scan(ctx) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			id := postrider.ID("")
			if m != nil {
				id = m.ID
			}
			l.wrong = append(l.wrong, wrongThing{id, err.Error()})
		default:
			l.message(ctx, s, m.ID, from)
		}
		from = len(l.wrong)
	}
	return ctx.Err()
}

// again reads the messages once more with which something is wrong, and leaves of
// what is wrong what is so still.
func (l *spoolLook) again(ctx context.Context, fsys vfs.FS, dir string) error {
	before, seen := map[string]bool{}, map[postrider.ID]bool{"": true}
	var ids []postrider.ID
	for _, w := range l.wrong {
		if before[w.what] = true; !seen[w.id] {
			seen[w.id] = true
			ids = append(ids, w.id)
		}
	}
	l.wrong = nil
	err := l.open(ctx, fsys, dir, func(ctx context.Context, s *spool.Spool) error {
		for _, id := range ids {
			l.message(ctx, s, id, len(l.wrong))
		}
		return ctx.Err()
	})
	l.wrong = slices.DeleteFunc(l.wrong, func(w wrongThing) bool { return !before[w.what] })
	return err
}

// message reads one message to its end. What was told from the alarm with the number
// from on is of it.
func (l *spoolLook) message(ctx context.Context, s *spool.Spool, id postrider.ID, from int) {
	n, err := readWhole(ctx, s, id)
	if err != nil && !errors.Is(err, postrider.ErrNotFound) {
		l.wrong = append(l.wrong, wrongThing{id, err.Error()})
	}
	for i := range l.wrong[from:] {
		l.wrong[from+i].id = id
	}
	if err == nil && !l.counted[id] {
		l.found.Messages++
		l.found.Octets += n
		if len(l.wrong) > from {
			l.counted[id] = true
		}
	}
}

// readWhole reads one content to its end, and returns its length.
func readWhole(ctx context.Context, s *spool.Spool, id postrider.ID) (int64, error) {
	c, err := s.Open(ctx, id)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return io.Copy(io.Discard, c.Reader())
}

// ReadQueue yields the messages in the spool of a server that does not run,
// oldest first, and changes nothing. A spool that is not there is empty.
func ReadQueue(ctx context.Context, cfg *config.Config, fsys vfs.FS) iter.Seq2[admin.Message, error] {
	return func(yield func(admin.Message, error) bool) {
		router, err := route.New(cfg.Table())
		if err != nil {
			yield(admin.Message{}, err)
			return
		}
		dir := path.Join(cfg.DataDir, spoolDir)
		if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return
		}
		s, err := spool.Open(ctx, spool.Options{FS: fsys, Dir: dir, ReadOnly: true})
		if err != nil {
			yield(admin.Message{}, err)
			return
		}
		defer s.Close(ctx)
		dest := func(to smtp.Path) postrider.Dest { return router.Route(to).Dest }
		for m, err := range s.Scan(ctx) {
			if err != nil {
				if !yield(admin.Message{}, err) {
					return
				}
				continue
			}
			if !yield(admin.View(m, dest, nil, time.Now()), nil) {
				return
			}
		}
	}
}
