package main

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/vfs"
)

// slowDiskArg makes this program a Postrider on a disk that flushes slowly:
// "run slow-disk DELAY CONFIG".
const slowDiskArg = "slow-disk"

// serveSlowDisk runs a node as "postrider serve" does, but for its disk.
func serveSlowDisk(delay, name string) error {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return err
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	cfg, said := config.Load(name, src, os.LookupEnv, node.Files(vfs.OS()))
	if said.HasErrors() {
		return said
	}
	env := node.System(cfg)
	disk := &platter{busy: make(chan struct{}, 1)}
	env.FS = slowFS{env.FS, disk}
	n, err := node.New(cfg, env)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := n.Start(ctx); err != nil {
		return err
	}
	disk.delay.Store(int64(d)) // what a start takes is not asked here
	return n.Wait(ctx)
}

// A platter flushes one after another, each in the same time.
type platter struct {
	delay atomic.Int64  // nanoseconds
	busy  chan struct{} // one element while it flushes
}

// flush does what makes something durable, which takes as long as a flush does, to the
// tenth of a millisecond.
func (p *platter) flush(do func() error) error {
	p.busy <- struct{}{}
	defer func() { <-p.busy }()
	over := time.Now().Add(time.Duration(p.delay.Load()))
	err := do()
	for left := time.Until(over); left > 0; left = time.Until(over) {
		load.Pause(left)
	}
	return err
}

// A slowFS is the machine's file system on a platter.
type slowFS struct {
	vfs.FS
	disk *platter
}

func (f slowFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return slowFile{file, f.disk}, nil
}

func (f slowFS) SyncDir(name string) error {
	return f.disk.flush(func() error { return f.FS.SyncDir(name) })
}

type slowFile struct {
	vfs.File
	disk *platter
}

func (f slowFile) Sync() error {
	return f.disk.flush(f.File.Sync)
}

// startOnSlowDisk starts a Postrider whose every flush takes so long.
func (b *bench) startOnSlowDisk(m mode, delay time.Duration) (*instance, error) {
	dir, addr, err := b.config(m)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	i := &instance{addr: addr, dir: dir}
	if i.group, err = launch("postrider", dir, nil, self, slowDiskArg, delay.String(), filepath.Join(dir, "postrider.hcl")); err != nil {
		return nil, err
	}
	if err := b.greets(i.group, addr); err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

const (
	slowFlush = 5 * time.Millisecond
	lameFlush = 2 * time.Second
	// answerMax is how long a person waits for a command without a doubt.
	answerMax = 0.5
)

// slowDisk measures how fast mail is accepted where a flush takes 5 ms, and
// whether a server whose flush takes 2 s answers what wants no flush.
func slowDisk(b *bench) ([]row, error) {
	rates, answers := series{}, series{}
	for range roundsFew(b) {
		i, err := b.startOnSlowDisk(mode{extra: held}, slowFlush)
		if err != nil {
			return nil, err
		}
		t, err := b.send(acceptSource(i.addr, b.n(40_000)))
		i.end()
		if err != nil {
			return nil, err
		}
		rates.add(ours, t.Rate())
	}
	if err := b.lameDisk(answers); err != nil {
		return nil, err
	}
	r := rowOf("accepted on a disk that flushes in 5 ms, 100 sessions, pipelined", "messages/s", rates, ours)
	r.Checks = append(r.Checks, atLeast("#", r.Figures[ours].Median, 8000))
	rows := []row{r}
	for _, what := range []string{"QUIT", "queue stat", "metrics"} {
		r := row{Work: what + " while a flush takes 2 s, 100 sessions", Unit: "s", Figures: map[string]spread{ours: answers.of(what)}, Order: []string{ours}}
		r.Checks = append(r.Checks, atMost("#", r.Figures[ours].Max, answerMax))
		rows = append(rows, r)
	}
	return rows, nil
}

// lameDisk asks a server under load whose disk is all but dead.
func (b *bench) lameDisk(answers series) error {
	admin, err := freeAddr()
	if err != nil {
		return err
	}
	i, err := b.startOnSlowDisk(mode{extra: held + fmt.Sprintf("admin { address = %q }\n", admin)}, lameFlush)
	if err != nil {
		return err
	}
	defer i.end()
	s := acceptSource(i.addr, 1<<30)
	s.For = 15 * time.Second
	done := make(chan error, 1)
	go func() {
		_, err := s.Run(b.ctx)
		done <- err
	}()
	time.Sleep(2 * time.Second)
	for range 5 {
		for what, ask := range map[string]func() error{
			"QUIT":       func() error { return quit(i.addr) },
			"queue stat": func() error { _, err := b.cli(i, "queue", "stat"); return err },
			"metrics":    func() error { return get("http://" + admin + "/metrics") },
		} {
			began := time.Now()
			if err := ask(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			answers.add(what, time.Since(began).Seconds())
		}
	}
	return <-done
}

// cli runs a command of the binary with the configuration of a server.
func (b *bench) cli(i *instance, args ...string) (string, error) {
	cmd := exec.CommandContext(b.ctx, b.binary, append(args, "--config", filepath.Join(i.dir, "postrider.hcl"))...)
	cmd.Dir = i.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v: %w: %.300s", args, err, out)
	}
	return string(out), nil
}

// quit is a session of two commands.
func quit(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	t := textproto.NewConn(c)
	if _, _, err := t.ReadResponse(220); err != nil {
		return err
	}
	if err := t.PrintfLine("QUIT"); err != nil {
		return err
	}
	_, _, err = t.ReadResponse(221)
	return err
}

func get(url string) error {
	c := http.Client{Timeout: patience}
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, r.Status)
	}
	return nil
}
