package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// ours is how Postrider is called in series and tables.
const ours = "Postrider"

// A contender is a server that can be started.
type contender struct {
	name string
	// part is how much of the messages of Postrider it is given, so that each takes
	// about as long.
	part  float64
	start func(*bench, mode) (*instance, error)
}

// A mode is what a server is to do with mail.
type mode struct {
	next  string // host:port that all mail goes to; "": none
	boxes int    // Maildirs u0, u1... of sink.test; 0: no local mail
	conns int    // more connections than usual; 0: as usual
	extra string // of the configuration of Postrider
}

// boxDomain is where the Maildirs are.
const boxDomain = "sink.test"

// An instance is a server that runs.
type instance struct {
	*group
	addr string
	dir  string
	mail string // where the Maildirs are, a folder for each
	// What it does not share with the others.
	to     string  // whom it takes mail for; "": everyone
	misses float64 // the share of messages that it may refuse; 0: missMax
}

// end stops it and wipes what it has written.
func (i *instance) end() {
	i.stop()
	_ = os.RemoveAll(i.dir)
}

// contenders is Postrider and whoever else is there.
func (b *bench) contenders() []contender {
	all := []contender{{ours, 1, startPostrider}}
	if os.Getuid() != 0 {
		return all // the others want to be root
	}
	if b.unpacked("postfix/usr/lib/postfix/sbin/master") {
		all = append(all, contender{"Postfix", 0.1, startPostfix})
	}
	if b.unpacked("exim/usr/sbin/exim4") {
		all = append(all, contender{"Exim", 0.01, startExim})
	}
	return all
}

// each lets everyone have a turn. One of the others that fails is left out from then
// on, and the rest goes on without.
func (b *bench) each(turn func(contender) error) error { return b.eachOf(b.contenders(), turn) }

func (b *bench) eachOf(all []contender, turn func(contender) error) error {
	for _, w := range all {
		if b.lost[w.name] {
			continue
		}
		err := turn(w)
		switch {
		case err == nil:
		case w.name == ours || b.ctx.Err() != nil:
			return fmt.Errorf("%s: %w", w.name, err)
		default:
			b.say("%s is left out: %v", w.name, err)
			b.lost[w.name] = true
		}
	}
	return nil
}

func (b *bench) unpacked(program string) bool {
	_, err := os.Stat(filepath.Join(b.peers, program))
	return err == nil
}

// delivered counts what lies in the Maildirs.
func (i *instance) delivered(boxes int) (n int) {
	for k := range boxes {
		f, err := os.Open(filepath.Join(i.mail, "u"+strconv.Itoa(k), "new"))
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(-1)
		_ = f.Close()
		n += len(names)
	}
	return n
}

// lastDelivered is when the newest of them came.
func (i *instance) lastDelivered(boxes int) (last time.Time) {
	for k := range boxes {
		fi, err := os.Stat(filepath.Join(i.mail, "u"+strconv.Itoa(k), "new"))
		if err == nil && fi.ModTime().After(last) {
			last = fi.ModTime()
		}
	}
	return last
}

// own makes a folder of a user and a group, by number.
func own(dir string, perm os.FileMode, uid, gid int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return err
	}
	return os.Chmod(dir, perm)
}
