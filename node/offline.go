package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"

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
// nothing. A server that runs on it may go on.
func CheckSpool(ctx context.Context, cfg *config.Config, fsys vfs.FS) (SpoolCheck, error) {
	found := SpoolCheck{Wrong: []string{}, Aside: []string{}}
	dir := path.Join(cfg.DataDir, spoolDir)
	s, err := spool.Open(ctx, spool.Options{FS: fsys, Dir: dir, ReadOnly: true,
		Alarm: func(text string) { found.Wrong = append(found.Wrong, text) }})
	if err != nil {
		return found, err
	}
	defer s.Close(ctx)
	for m, err := range s.Scan(ctx) {
		if err == nil {
			err = readWhole(ctx, s, m.ID, &found)
		}
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		if err != nil && !errors.Is(err, postrider.ErrNotFound) {
			found.Wrong = append(found.Wrong, err.Error())
		}
	}
	aside, err := fsys.ReadDir(path.Join(dir, "damaged"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	for _, f := range aside {
		found.Aside = append(found.Aside, path.Join(dir, "damaged", f.Name()))
	}
	return found, nil
}

// readWhole reads one content to its end.
func readWhole(ctx context.Context, s *spool.Spool, id postrider.ID, found *SpoolCheck) error {
	c, err := s.Open(ctx, id)
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := io.Copy(io.Discard, c.Reader())
	if err == nil {
		found.Messages++
		found.Octets += n
	}
	return err
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
			if !yield(admin.View(m, dest, nil), nil) {
				return
			}
		}
	}
}
