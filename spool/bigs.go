package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/postrider/postrider"
)

// keepCopy sees to it that what a segment holds is kept when it goes.
func (s *Spool) keepCopy(segment string) error { return s.setAside("seg", segment) }

// setAside gives a file a second name in damaged/, where it stays. A name that is there
// already may come from a start that did not live to see it durable; one of which the
// disk does not say whether it is, is taken back, so that it can be given anew.
func (s *Spool) setAside(folder, name string) error {
	damaged := path.Join(s.dir, "damaged")
	to := path.Join(damaged, name)
	err := s.fs.Link(path.Join(s.dir, folder, name), to)
	linked := err == nil
	if linked || errors.Is(err, fs.ErrExist) {
		err = s.fs.SyncDir(damaged)
	}
	if err != nil && linked {
		s.fs.Remove(to)
	}
	return err
}

// orphan removes a content that no message names, and keeps it in damaged/ where
// the record that named it may be among what is damaged.
func (r *recovery) orphan(name string) error {
	s := r.s
	if len(r.damage) > 0 {
		if err := s.setAside("big", name); err != nil {
			return err
		}
	}
	return s.fs.Remove(path.Join(s.dir, "big", name))
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
			if err := r.orphan(de.Name()); err != nil { // it stands in nobody's way
				s.alarm("spool: remove a content without message: %v", err)
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
