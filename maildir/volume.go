package maildir

import (
	"errors"

	"github.com/postrider/postrider/vfs"
)

// aloneMax is how many who deliver on a file system at a time sync their own files
// and folders: that is cheap, and waits for nobody else's writing. More share the
// syncs of the whole file system, two for each delivery: one after its contents
// were written, one after its names. The second of some is the first of others, so
// that however many deliver, one sync runs after the other. Where others write so
// much that such a sync takes long, each goes alone for a while.
const aloneMax = 2

// A volume is a file system while somebody delivers there. It is closed then, so
// that it can be unmounted.
type volume struct {
	*vfs.Volume
	dev   vfs.Device
	users int
}

// A visit is what an attempt has to do with the file system that it writes to.
type visit struct {
	volume   *volume // nil: none is known
	number   uint64
	since    int
	together bool // its syncs are shared
}

var errVolume = errors.New("the folder has come to lie on another file system")

// visit finds the file system of a file in tmp, before anything is written into it.
func (t *Transport) visit(a *attempt, f vfs.File) error {
	disk, ok := t.fs.(vfs.DeviceFS)
	if !ok || a.visit.volume == nil && len(a.letters) > 0 {
		return nil
	}
	number, err := disk.DeviceOf(f)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return err
	case a.visit.volume != nil && a.visit.number != number:
		return errVolume
	case a.visit.volume != nil:
		return nil
	}
	v, err := t.open(disk, a.dir+"/tmp", number)
	if v == nil || err != nil {
		return err
	}
	since, inside := v.Enter()
	a.visit = visit{volume: v, number: number, since: since, together: max(inside, len(a.Rcpts)) > t.alone && !v.Slow()}
	return nil
}

// open joins those who deliver on a file system; nil: it cannot sync as a whole.
func (t *Transport) open(disk vfs.DeviceFS, dir string, number uint64) (*volume, error) {
	if v := t.join(number, nil); v != nil {
		return v, nil
	}
	dev, err := disk.OpenDevice(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if dev.Number() != number {
		dev.Close()
		return nil, errVolume
	}
	v := t.join(number, dev)
	if v.dev != dev {
		dev.Close() // another was first
	}
	return v, nil
}

// join returns the volume of a number, which is that of dev if there is none.
func (t *Transport) join(number uint64, dev vfs.Device) *volume {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.volumes[number]
	if v == nil {
		if dev == nil {
			return nil
		}
		v = &volume{Volume: vfs.NewVolume(dev), dev: dev}
		t.volumes[number] = v
	}
	v.users++
	return v
}

// depart ends the visit of an attempt.
func (t *Transport) depart(a *attempt) {
	v := a.visit.volume
	if v == nil {
		return
	}
	v.Leave()
	t.mu.Lock()
	v.users--
	last := v.users == 0
	if last {
		delete(t.volumes, a.visit.number)
	}
	t.mu.Unlock()
	if last {
		v.dev.Close()
	}
}

// syncContents makes the contents durable that are not synced one by one.
func (v visit) syncContents() error {
	if !v.together {
		return v.check()
	}
	return v.volume.Sync(v.since)
}

// syncNames makes the names in a folder durable.
func (v visit) syncNames(n names) error {
	if !v.together {
		return n.sync()
	}
	if err := v.volume.Sync(v.since); err != nil {
		return err
	}
	return n.check()
}

// check is an error when a sync of the whole has failed since the visit began.
func (v visit) check() error {
	if v.volume == nil {
		return nil
	}
	return v.volume.Check(v.since)
}
