package maildir

import "github.com/postrider/postrider/vfs"

// A shared is a folder whose syncs are of all who deliver there at once.
type shared struct {
	*vfs.Folder
	users int
}

// The names that an attempt changes in a folder are durable when a sync has come
// back and none has failed since the attempt began.
type names struct {
	folder *shared
	since  int
}

func (n names) sync() error { return n.folder.Sync(n.since) }

// check is for who syncs the whole file system: it is vfs.ErrFolder when a sync of
// the folder alone has failed meanwhile.
func (n names) check() error {
	if n.folder.Mark() == n.since {
		return nil
	}
	return vfs.ErrFolder
}

// enter joins those who deliver into a Maildir; leave ends it.
func (t *Transport) enter(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, folder := range [...]string{"new", "cur"} {
		dir := a.dir + "/" + folder
		f := t.boxes[dir]
		if f == nil {
			f = &shared{Folder: vfs.NewFolder(t.fs, dir)}
			t.boxes[dir] = f
		}
		f.users++
		a.names[folder] = names{f, f.Mark()}
	}
}

func (t *Transport) leave(a *attempt) {
	t.depart(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	for folder, n := range a.names {
		if n.folder.users--; n.folder.users == 0 {
			delete(t.boxes, a.dir+"/"+folder)
		}
	}
}
