package node

import (
	"context"
	"errors"
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
