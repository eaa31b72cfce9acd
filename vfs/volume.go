package vfs

import (
	"errors"
	"sync/atomic"
	"time"
)

// A DeviceFS is an FS that can make durable, at once, everything of a file system
// that it has: many files of many folders with one flush of the disk.
type DeviceFS interface {
	FS
	// DeviceOf returns the number of the file system that an open file lies on.
	DeviceOf(f File) (uint64, error)
	// OpenDevice opens the file system of a directory. It is errors.ErrUnsupported
	// where one sync of all is not known to tell of every failure.
	OpenDevice(dir string) (Device, error)
}

// A Device is an open file system.
type Device interface {
	Number() uint64 // that DeviceOf returns for its files
	// Sync makes durable what was done on the file system, files and names, by
	// whomever. An error says that some of what was done since the Device was opened,
	// or since its last Sync, may be lost, and nobody knows what. A File that was
	// open then tells it once more at its next Sync, and SyncDir of a directory does.
	Sync() error
	Close() error
}

// A Volume syncs a file system for all who write there at once: one sync runs at a
// time, and serves all who waited when it began. Its methods may be called by many
// goroutines at once.
type Volume struct {
	dev    Device
	inside atomic.Int32
	slow   atomic.Int64 // when the last sync that took long had ended, in Unix nanoseconds
	syncs
}

// volumeRest is the longest time between two syncs of a file system. In it more come
// whom the next one serves, and the disk is left to others, such as a spool.
const volumeRest = 20 * time.Millisecond

// A sync of a file system also writes what others have written there. One that
// takes slowSync has much of that to write, and for slowTime it is better not asked
// for again.
const (
	slowSync = 250 * time.Millisecond
	slowTime = 5 * time.Second
)

// ErrVolume is the error of who wrote to a file system while a sync of it failed.
var ErrVolume = errors.New("a sync of the file system has failed meanwhile")

// NewVolume returns the Volume of a Device.
func NewVolume(dev Device) *Volume {
	v := &Volume{dev: dev}
	v.do, v.rest = v.syncAll, volumeRest
	return v
}

func (v *Volume) syncAll() error {
	begun := time.Now()
	err := v.dev.Sync()
	if time.Since(begun) > slowSync {
		v.slow.Store(time.Now().UnixNano())
	}
	return err
}

// Slow reports whether a sync has taken long a short while ago: where there is
// another way, that is better.
func (v *Volume) Slow() bool {
	last := v.slow.Load()
	return last != 0 && time.Since(time.Unix(0, last)) < slowTime
}

// Number is that of the Device.
func (v *Volume) Number() uint64 { return v.dev.Number() }

// Enter says that somebody is about to write, and returns how many syncs have
// failed, and how many write now, who asks counted. Leave ends it.
func (v *Volume) Enter() (since, inside int) { return v.mark(), int(v.inside.Add(1)) }

// Leave is called once for each Enter.
func (v *Volume) Leave() { v.inside.Add(-1) }

// Sync makes durable what was done since Enter returned since. After an error
// nothing is known of that.
func (v *Volume) Sync(since int) error {
	if failed, err := v.join(); err != nil || failed == since {
		return err
	}
	return ErrVolume
}

// Check is for who syncs on his own what he wrote since Enter returned since: it
// is ErrVolume when a sync of the file system has failed meanwhile, which may
// have lost it.
func (v *Volume) Check(since int) error {
	if v.mark() == since {
		return nil
	}
	return ErrVolume
}
