package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/bench/load"
)

// A bench is one run of this program.
type bench struct {
	options
	ctx    context.Context
	root   string // of all that is written; goes at the end
	curves []curve
	stops  []func()        // of what runs until the end
	turn   int             // folders made so far
	lost   map[string]bool // who has failed in this scenario
}

// tmpfsMagic is how statfs(2) calls a file system in memory.
const tmpfsMagic = 0x01021994

func newBench(ctx context.Context, o options) (*bench, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(o.dir, &st); err != nil {
		return nil, fmt.Errorf("%s: %w: give a folder with -dir", o.dir, err)
	}
	if int64(st.Type) == tmpfsMagic {
		return nil, fmt.Errorf("%s is in memory, where a sync costs nothing: give a folder on a disk with -dir", o.dir)
	}
	if o.peers == "" {
		if o.peers = os.Getenv("POSTRIDER_PEERS"); o.peers == "" {
			o.peers = "/var/tmp/postrider-peers"
		}
	}
	root, err := os.MkdirTemp(o.dir, "bench")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, ctx: ctx, root: root}
	if err := os.Chmod(root, 0o755); err != nil { // for the users of other servers
		return nil, err
	}
	if o.binary == "" {
		b.binary = filepath.Join(root, "postrider")
		build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "github.com/postrider/postrider/cmd/postrider")
		if out, err := build.CombinedOutput(); err != nil {
			b.close()
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
	} else if b.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	for _, stop := range b.stops {
		stop()
	}
	_ = os.RemoveAll(b.root)
}

// say tells how far it is, on standard error.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// conditions says under what all of it was measured.
func (b *bench) conditions() string {
	var names []string
	for _, c := range b.contenders() {
		names = append(names, c.name)
	}
	if b.hasChasquid() {
		names = append(names, "chasquid")
	}
	if len(names) == 1 {
		names = append(names, "nobody else, for none is unpacked in "+b.peers)
	}
	text := fmt.Sprintf("%s; %d processors (%s), %.0f GiB, Linux %s, %s; %d rounds in turn, messages x %s; load before: %s; measured: %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		runtime.NumCPU(), processor(), memory(), kernel(), runtime.Version(), b.rounds, number(b.scale), loadAverage(), strings.Join(names, ", "))
	if b.as != "" {
		text += "; " + b.as
	}
	return text
}

// n scales a number of messages.
func (b *bench) n(messages int) int { return max(1, int(float64(messages)*b.scale)) }

// folder makes a new one that everyone may enter.
func (b *bench) folder(name string) (string, error) {
	b.turn++
	dir := filepath.Join(b.root, fmt.Sprintf("%s%d", name, b.turn))
	return dir, os.MkdirAll(dir, 0o755)
}

// freeIP is a loopback address that nobody else is likely to use.
func freeIP() string {
	return fmt.Sprintf("127.%d.%d.%d", 10+rand.IntN(50), rand.IntN(256), 1+rand.IntN(254))
}

// freeAddr is one with a port that is free there.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", freeIP()+":0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// patience is how long nothing may come.
const patience = 60 * time.Second

// missMax is the share of messages that a server may not take.
const missMax = 0.1

// send runs a source, and wants that next to all was taken: of servers that fork for
// each connection some fail under load. What was not taken does not count.
func (b *bench) send(s load.Source) (load.Tally, error) { return b.sendMost(s, missMax) }

// sendMost is send to a server that may refuse another share than missMax.
func (b *bench) sendMost(s load.Source, misses float64) (load.Tally, error) {
	t, err := s.Run(b.ctx)
	if err == nil && t.Errors > 0 {
		b.say("%d of %d messages were not taken, most often: %s", t.Errors, t.Errors+t.Messages, t.Worst())
	}
	if err == nil && float64(t.Errors) > misses*float64(t.Messages+t.Errors) {
		err = fmt.Errorf("%d of %d messages were not taken, most often: %s", t.Errors, t.Errors+t.Messages, t.Worst())
	}
	return t, err
}

// greets waits until a server says 220.
func (b *bench) greets(g *group, addr string) error {
	for until := time.Now().Add(patience); time.Now().Before(until) && b.ctx.Err() == nil; {
		if g.over() {
			return fmt.Errorf("%s has ended:\n%s", g.name, g.said())
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			var code [4]byte
			_, err := io.ReadFull(c, code[:])
			_ = c.Close()
			if err == nil && string(code[:3]) == "220" {
				return nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.Join(b.ctx.Err(), fmt.Errorf("%s does not greet at %s", g.name, addr))
}
