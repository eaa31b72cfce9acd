package vfs

// DeviceOf implements DeviceFS: a Mem is one file system.
func (m *Mem) DeviceOf(File) (uint64, error) { return memNumber, nil }

// OpenDevice implements DeviceFS.
func (m *Mem) OpenDevice(dir string) (Device, error) {
	if _, err := m.Stat(dir); err != nil {
		return nil, err
	}
	return memDevice{m}, nil
}

const memNumber = 1

// A memDevice is all of a Mem.
type memDevice struct{ m *Mem }

func (memDevice) Number() uint64 { return memNumber }
func (memDevice) Close() error   { return nil }

// Sync makes everything durable that was done before it was called. When it fails,
// all of it is lost, as with the Sync of a file; each file that has lost something
// tells it at the next Sync of whoever has it open, and each directory at the next
// SyncDir.
func (v memDevice) Sync() error {
	upto := v.m.mark()
	failed := v.m.start(Op{Kind: OpSyncFS, Name: "/"})
	return v.m.do("syncfs", "/", func(d *disk) error {
		f := sure
		if failed != nil {
			f = lost
		}
		for n := range d.dirty {
			if d.settleFile(n, upto, f) && f == lost {
				n.lost++
			}
		}
		steps := d.stepsOf(nil, upto)
		if f == lost {
			for s := range steps {
				for _, e := range s.sets {
					e.dir.lost++
				}
			}
		}
		d.settle(steps, f)
		return failed
	})
}
