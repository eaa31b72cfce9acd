package vfs

// defaultSpace is that of a Mem to which nothing else was said.
var defaultSpace = Space{Total: 1 << 50, Free: 1 << 49, Inodes: -1}

// StatFS implements FS: it says what SetSpace has set, and knows nothing of what
// the files hold.
func (m *Mem) StatFS(string) (Space, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.dead {
		return Space{}, wrap("statfs", "/", ErrCrash)
	}
	if m.disk.space == (Space{}) {
		return defaultSpace, nil
	}
	return m.disk.space, nil
}

// SetSpace sets what StatFS says. That writes then fail is for a hook to do.
func (m *Mem) SetSpace(s Space) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.space = s
}
