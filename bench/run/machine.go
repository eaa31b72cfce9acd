package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A group is a server with all processes that it has started. On Linux it is a
// control group, which counts the CPU time of what has ended too; where there is
// none, the processes of its session are summed up, with the children that they
// have waited for.
type group struct {
	name   string
	folder string // of the control group; "": there is none
	cmd    *exec.Cmd
	out    string // the file that it prints to
	done   chan struct{}
}

// controlFolder is where a control group of this process may be made, and which
// file of it has the CPU time.
func controlFolder() (dir, file string) {
	if st, err := os.Stat("/sys/fs/cgroup/cpuacct"); err == nil && st.IsDir() {
		return "/sys/fs/cgroup/cpuacct", "cpuacct.usage"
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(b)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join("/sys/fs/cgroup", own), "cpu.stat"
		}
	}
	return "", ""
}

// launch starts a command in a group of its own, which prints to a file in dir.
func launch(name, dir string, env []string, args ...string) (*group, error) {
	g := &group{name: name, out: filepath.Join(dir, name+".out"), done: make(chan struct{})}
	if parent, _ := controlFolder(); parent != "" {
		folder := filepath.Join(parent, fmt.Sprintf("postrider-bench-%d-%s", os.Getpid(), name))
		if err := os.Mkdir(folder, 0o755); err == nil || os.IsExist(err) {
			g.folder = folder
			args = append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(folder, "cgroup.procs")}, args...)
		}
	}
	g.cmd = exec.Command(args[0], args[1:]...)
	g.cmd.Dir = dir
	g.cmd.Env = append(os.Environ(), env...)
	// A file, as the others have: through a pipe this process would read all of it.
	out, err := os.OpenFile(g.out, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	g.cmd.Stdout, g.cmd.Stderr = out, out
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.done)
	}()
	return g, nil
}

// over reports whether the first process has ended.
func (g *group) over() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// said is the end of what it has printed.
func (g *group) said() string {
	b, _ := os.ReadFile(g.out)
	return string(b[max(0, len(b)-saidMax):])
}

const saidMax = 4096

// pids lists the processes of the group.
func (g *group) pids() (list []int) {
	if g.folder != "" {
		b, _ := os.ReadFile(filepath.Join(g.folder, "cgroup.procs"))
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				list = append(list, pid)
			}
		}
		return list
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := stat(pid); len(f) > 3 && f[3] == strconv.Itoa(g.cmd.Process.Pid) {
			list = append(list, pid)
		}
	}
	return list
}

// stat returns the fields of /proc/PID/stat after the name, the state first.
func stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// cpu is the CPU time of the whole group in seconds, of what has ended too.
func (g *group) cpu() float64 {
	if g.folder == "" {
		ticks := 0.0
		for _, pid := range g.pids() {
			if f := stat(pid); len(f) > 14 {
				for _, field := range f[11:15] { // utime, stime, and those of children that were waited for
					n, _ := strconv.ParseFloat(field, 64)
					ticks += n
				}
			}
		}
		return ticks / 100
	}
	_, file := controlFolder()
	b, _ := os.ReadFile(filepath.Join(g.folder, file))
	f := strings.Fields(string(b))
	switch {
	case len(f) == 1: // nanoseconds
		n, _ := strconv.ParseFloat(f[0], 64)
		return n / 1e9
	case len(f) > 1 && f[0] == "usage_usec":
		n, _ := strconv.ParseFloat(f[1], 64)
		return n / 1e6
	}
	return 0
}

// pss is the memory of the group in MiB: what is shared counts in parts.
func (g *group) pss() float64 {
	kib := 0
	for _, pid := range g.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				kib += n
			}
		}
	}
	return float64(kib) / 1024
}

// quiet returns when the group has used next to no CPU for a moment, or when it
// has been too long.
func (g *group) quiet(most time.Duration) {
	for until := time.Now().Add(most); time.Now().Before(until); {
		before := g.cpu()
		time.Sleep(300 * time.Millisecond)
		if g.cpu()-before < 0.01 {
			return
		}
	}
}

// stopMax is how long a server may take to end in good order.
const stopMax = time.Minute

// stop ends the group in good order, and what is left of it after that by force.
func (g *group) stop() {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(stopMax):
	}
	g.kill()
}

// kill ends it as a crash does.
func (g *group) kill() {
	for range 200 {
		for _, pid := range g.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if g.over() && len(g.pids()) == 0 {
			break
		}
		if !g.over() {
			_ = g.cmd.Process.Kill()
		}
		time.Sleep(20 * time.Millisecond)
	}
	<-g.done
	if g.folder != "" {
		_ = os.Remove(g.folder)
	}
}

// processor names the machine.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// load is the load average of the last minute.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// memory is that of the machine in GiB.
func memory() float64 {
	b, _ := os.ReadFile("/proc/meminfo")
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	kib, _ := strconv.ParseFloat(f[1], 64)
	return kib / (1 << 20)
}
