package maildir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"syscall"
)

const (
	// knownMax bounds how many folders are remembered as durable.
	knownMax = 1 << 16
	// doubtMax bounds how many are remembered that may not be. Beyond it all that are
	// not known are in doubt.
	doubtMax = 1 << 10
)

var errDoubt = errors.New("too many folders could not be made durable")

// prepare makes a Maildir durable with all that is above it. A folder that is
// there is not for that reason durable: who made it may have died before the
// sync. So each is synced once in the life of the process.
func (t *Transport) prepare(ctx context.Context, dir string) error {
	box := path.Clean(dir)
	if t.isKnown(box + "/new") {
		return nil
	}
	select {
	case t.making <- struct{}{}:
		defer func() { <-t.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.make(box); err != nil {
		return err
	}
	return t.settle(box, box+"/tmp", box+"/cur", box+"/new")
}

// make makes a directory durable, and first those above it.
func (t *Transport) make(dir string) error {
	parent := path.Dir(dir)
	if parent == dir || t.isKnown(dir) {
		return nil
	}
	if err := t.make(parent); err != nil {
		return err
	}
	return t.settle(parent, dir)
}

// settle makes directories in parent that are missing, and the entries of all of
// them durable. When it cannot, it takes back what it made, so that nobody finds
// it later and believes in it. Of those that were there nobody knows then: a process
// before us may have made one and died, and a later sync that succeeds does not make
// durable what this one has lost. They are in doubt, too.
func (t *Transport) settle(parent string, dirs ...string) error {
	made, err := t.missing(dirs)
	if err == nil {
		err = t.fs.SyncDir(parent)
		if len(made) == 0 && errors.Is(err, fs.ErrPermission) {
			err = nil // a directory that we may not read is none of our making
		}
	}
	if err != nil {
		for _, dir := range made {
			if err := t.fs.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				delete(t.doubt, dir)
			} else {
				t.doubt[dir] = true
			}
		}
		for _, dir := range dirs {
			if _, doubtful := t.doubt[dir]; doubtful || slices.Contains(made, dir) {
				continue
			}
			if t.wary = t.wary || len(t.doubt) >= doubtMax; !t.wary {
				t.doubt[dir] = false
			}
		}
		return err
	}
	for _, dir := range dirs {
		delete(t.doubt, dir)
	}
	t.learn(dirs)
	return nil
}

// missing makes the directories that are missing and returns them. Those in doubt have
// new entries then.
func (t *Transport) missing(dirs []string) (made []string, err error) {
	for _, dir := range dirs {
		err := t.found(dir)
		if ours, doubtful := t.doubt[dir]; err == nil && (doubtful || t.wary) {
			err = t.anew(dir, ours)
		}
		if errors.Is(err, fs.ErrNotExist) {
			if len(t.doubt) >= 2*doubtMax {
				return made, errDoubt
			}
			made = append(made, dir)
			err = t.fs.MkdirAll(dir, 0o700)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// aside is what the name of a directory ends in while it has another.
const aside = ".postrider-renamed"

// found reports whether a directory is there. One that has another name, since we died
// over it, gets its own back.
func (t *Transport) found(dir string) error {
	_, err := t.fs.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, other := t.fs.Stat(dir + aside); other != nil {
		return err
	}
	return t.fs.Rename(dir+aside, dir)
}

// anew makes the entry of a directory anew, with all that is in it: it gets another
// name, and its own back. These are changes that the next sync makes durable. One that
// was there and holds something is left: what is in it came after its entry was
// durable. So is one that may not be renamed, which is none of our making.
func (t *Transport) anew(dir string, ours bool) error {
	if list, err := t.fs.ReadDir(dir); err != nil || len(list) > 0 && !ours {
		return err
	}
	err := t.fs.Rename(dir, dir+aside)
	switch {
	case err == nil:
		return t.fs.Rename(dir+aside, dir)
	case !ours && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EBUSY)):
		return nil
	}
	return err
}

func (t *Transport) isKnown(dir string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[dir]
}

func (t *Transport) learn(dirs []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) > knownMax {
		clear(t.known)
	}
	for _, dir := range dirs {
		t.known[dir] = true
	}
}

// forget drops what is known of folders, as one of them has gone.
func (t *Transport) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.known)
}
