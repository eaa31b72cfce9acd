package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/postrider/postrider"
)

// keepCopy sees to it that what a segment holds is kept when it goes.
func (s *Spool) keepCopy(segment string) error {
	err := s.fs.Link(path.Join(s.dir, "seg", segment), path.Join(s.dir, "damaged", segment))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = s.fs.SyncDir(path.Join(s.dir, "damaged"))
	}
	return err
}

// orphan removes a content that no message names, and keeps it in damaged/ where
// the record that named it may be among what is damaged.
func (r *recovery) orphan(name string) error {
	s := r.s
	from := path.Join(s.dir, "big", name)
	if len(r.damage) == 0 {
		return s.fs.Remove(from)
	}
	if err := s.fs.Rename(from, path.Join(s.dir, "damaged", name)); err != nil {
		return err
	}
	return s.fs.SyncDir(path.Join(s.dir, "damaged"))
}

// checkBig removes files that no message names, and misses those that are gone.
func (s *Spool) checkBig(r *recovery) error {
	dir := path.Join(s.dir, "big")
	entries, err := s.fs.ReadDir(dir)
	if err != nil && !(s.opt.ReadOnly && errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("spool: read folder: %w", err)
	}
	there := map[postrider.ID]bool{}
	for _, de := range entries {
		id := postrider.ID(de.Name())
		there[id] = true
		if e := s.slab.find(id); (e == nil || !e.big) && !s.opt.ReadOnly {
			if err := r.orphan(de.Name()); err != nil {
				return fmt.Errorf("spool: remove a content without message: %w", err)
			}
		}
	}
	s.slab.each(func(e *entry) {
		if e.big && !there[e.id.name()] {
			r.damage = append(r.damage, fmt.Sprintf("the content of message %s is gone from %s", e.id.name(), dir))
		}
	})
	return nil
}
