package maildir

import (
	"context"
	"errors"
	"io/fs"
	"path"
)

const (
	// knownMax bounds how many folders are remembered as durable.
	knownMax = 1 << 16
	// doubtMax bounds how many are remembered that are not. No other is made then.
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
// it later and believes in it.
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
			if err := t.fs.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.doubt[dir] = true
			}
		}
		return err
	}
	t.learn(dirs)
	return nil
}

// missing makes the directories that are missing and returns them.
func (t *Transport) missing(dirs []string) (made []string, err error) {
	for _, dir := range dirs {
		if t.doubt[dir] {
			if err := t.fs.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return made, err
			}
			delete(t.doubt, dir)
		}
		_, err := t.fs.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if len(t.doubt) >= doubtMax {
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
