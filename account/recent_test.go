package account

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/vfs"
)

// counted counts how often a file is looked at, and how often it is opened.
func counted(fsys *vfs.Mem) (stats, opens *int) {
	stats, opens = new(int), new(int)
	fsys.SetHook(func(op vfs.Op) error {
		switch {
		case op.Name != "accounts":
		case op.Kind == vfs.OpStat:
			*stats++
		case op.Kind == vfs.OpOpen:
			*opens++
		}
		return nil
	})
	return stats, opens
}

// A list of many members, before the file of accounts has settled and after: it is
// looked at once, and then once in a while.
func TestListOfMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		s := open(t, fsys, Options{})
		stats, opens := counted(fsys)
		for _, age := range []time.Duration{0, time.Second, time.Minute} {
			time.Sleep(age)
			*stats, *opens = 0, 0
			for i := range 9999 {
				name := mustPath(fmt.Sprintf("m%d@our.example", i))
				if s.Has(name) || !s.Since(name).IsZero() {
					t.Fatal("there is one more")
				}
			}
			if *stats > 2 || *opens > 1 {
				t.Errorf("%v old: %d looks, %d times read", age, *stats, *opens)
			}
		}
		// Logins look each time, and read what has not settled no oftener.
		put(t, fsys, "accounts", quick("alice@our.example", "another"))
		*opens = 0
		for range 100 {
			s.Keys("alice@our.example")
		}
		if *opens != 1 {
			t.Errorf("read %d times", *opens)
		}
	})
}

// A change by another process is seen after lookEvery, one by a login at once, and
// so is each of our own; also where none of them can be told by its time.
func TestChangeIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		s, other := open(t, fsys, Options{}), open(t, fsys, Options{})
		has := func(name string, want bool) {
			t.Helper()
			if s.Has(mustPath(name)) != want || s.Since(mustPath(name)).IsZero() == want {
				t.Errorf("%s: has %v", name, !want)
			}
		}
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(s.Add("a1@our.example", "one"))
		has("a1@our.example", true)
		ok(other.Add("b1@our.example", "one"))
		time.Sleep(lookEvery)
		has("b1@our.example", true)
		ok(other.Add("c1@our.example", "one"))
		if verify(t, s, "c1@our.example", "one") != 235 {
			t.Error("a login does not see it")
		}
		has("c1@our.example", true)

		text, err := vfs.ReadFile(fsys, "accounts")
		ok(err)
		put(t, fsys, "accounts", strings.Replace(string(text), "c1@", "c2@", 1))
		time.Sleep(lookEvery)
		has("c1@our.example", false)
		has("c2@our.example", true)
		ok(s.Remove("c2@our.example"))
		has("c2@our.example", false)
		ok(s.Add("c3@our.example", "one"))
		has("c3@our.example", true)
		ok(s.SetPassword("c3@our.example", "two")) // as long, and at the same time
		if verify(t, s, "c3@our.example", "two") != 235 {
			t.Error("a new password is not seen")
		}
	})
}

// A slow disk is for the one who reads: nobody waits behind him.
func TestNobodyWaitsForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		slow := &slowFS{FS: fsys, held: make(chan struct{})}
		close(slow.held)
		s := open(t, slow, Options{})
		put(t, fsys, "accounts", quick("robert@our.example", "one"))
		slow.held = make(chan struct{})
		time.Sleep(lookEvery)
		done := make(chan bool)
		go func() { done <- s.Has(mustPath("robert@our.example")) }()
		synctest.Wait()
		time.Sleep(lookEvery)
		start := time.Now()
		if !s.Has(mustPath("alice@our.example")) || time.Since(start) != 0 {
			t.Error("it is not as it was before")
		}
		close(slow.held)
		if !<-done || s.Has(mustPath("alice@our.example")) {
			t.Error("what was read is not taken")
		}
	})
}

// A slowFS opens no file while it is held.
type slowFS struct {
	vfs.FS
	held chan struct{}
}

func (f *slowFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	<-f.held
	return f.FS.OpenFile(name, flag, perm)
}

// A file that is there and cannot be read for a while is read when it can be, though
// nothing else of it has changed.
func TestUnreadableForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		alarms := 0
		s := open(t, fsys, Options{Alarm: func(error) { alarms++ }})
		put(t, fsys, "accounts", quick("bob@our.example", "one"))
		time.Sleep(time.Minute)
		bad := true
		fsys.SetHook(func(op vfs.Op) error {
			if bad && op.Name == "accounts" && op.Kind == vfs.OpOpen {
				return syscall.EACCES
			}
			return nil
		})
		for range 5 {
			if !s.Has(mustPath("alice@our.example")) {
				t.Error("what could not be read takes accounts away")
			}
			time.Sleep(lookEvery)
		}
		bad = false
		if time.Sleep(lookEvery); !s.Has(mustPath("bob@our.example")) || alarms != 1 {
			t.Errorf("it is not read again; %d alarms", alarms)
		}
	})
}
