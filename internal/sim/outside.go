package sim

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"
)

// abroad lets befall what is not a machine of ours: a peer, or a name.
func (s *Site) abroad(ctx context.Context, k Strike) error {
	if k.Kind != "peer-down" {
		s.misname(k)
		return nil
	}
	s.Ledger.mu.Lock()
	taken := s.down[k.Where]
	s.down[k.Where] = true
	s.Ledger.mu.Unlock()
	if taken {
		return nil // it is down already
	}
	s.Peers[k.Where].Stop()
	s.fault(k.Kind, k.Where)
	time.Sleep(min(k.For, healed-s.age()))
	err := s.Peers[k.Where].Start(ctx)
	s.Ledger.mu.Lock()
	s.down[k.Where] = false
	s.Ledger.mu.Unlock()
	return err
}

// read is what the owners of mailboxes do: what is new is moved, and marked as
// seen.
func (m *Machine) read() {
	disk := m.Disk()
	for _, domain := range []string{"a.example", "b.example", "c.example"} {
		users, err := disk.ReadDir(path.Join("/mail", domain))
		if err != nil {
			return
		}
		for _, user := range users {
			dir := path.Join("/mail", domain, user.Name())
			files, err := disk.ReadDir(path.Join(dir, "new"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return
			}
			for _, f := range files {
				if disk.Rename(path.Join(dir, "new", f.Name()), path.Join(dir, "cur", f.Name()+":2,S")) != nil {
					return
				}
			}
		}
	}
}

// boxes are the folders of a Maildir that hold mail.
func boxes(dir string) []string { return []string{path.Join(dir, "new"), path.Join(dir, "cur")} }

// unheld is the configuration of a machine whose operator has let held.example go.
func unheld(conf string) string {
	return strings.Replace(conf, `route "held.example" { via = "hold" }`, `route "held.example" {
  via     = "mx"
  private = true
  tls     = "none"
}`, 1)
}
