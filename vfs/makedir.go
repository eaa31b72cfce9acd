package vfs

import (
	"errors"
	"io/fs"
	"path"
)

// MakeDir makes a directory durable, and first those above it; what is missing is
// made for ourselves alone (0700). One that is there may have been made by a
// process that died before it synced it, so each is synced. When that fails, what
// was made is taken back: a later sync would come back, and not make it durable.
func MakeDir(fsys FS, name string) error {
	name = path.Clean(name)
	parent := path.Dir(name)
	if parent == name {
		return nil
	}
	if err := MakeDir(fsys, parent); err != nil {
		return err
	}
	_, err := fsys.Stat(name)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		err = fsys.MkdirAll(name, 0o700)
	}
	if err != nil {
		return err
	}
	err = fsys.SyncDir(parent)
	if !made && errors.Is(err, fs.ErrPermission) {
		return nil // a directory that we may not read is none of our making
	}
	if err != nil && made {
		err = errors.Join(err, fsys.Remove(name))
	}
	return err
}
