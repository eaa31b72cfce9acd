package node

import (
	"io/fs"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/spool"
)

func TestCgroupLimit(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no /proc", nil, 0},
		{"version 2", map[string]string{"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "536870912\n"}, 512 << 20},
		{"version 2, of one above", map[string]string{"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "1048576\n"}, 1 << 20},
		{"version 2, in a container", map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "1048576\n"}, 1 << 20},
		{"version 2, high", map[string]string{"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "2097152\n", "/sys/fs/cgroup/a/memory.high": "1048576\n"}, 1 << 20},
		{"version 2, none", map[string]string{"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		{"version 1", map[string]string{"/proc/self/cgroup": "5:devices:/\n4:cpu,memory:/x\n0::/\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1048576\n"}, 1 << 20},
		{"version 1, in a container", map[string]string{"/proc/self/cgroup": "4:memory:/docker/1234\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n"}, 1 << 20},
		{"version 1, none", map[string]string{"/proc/self/cgroup": "4:memory:/x\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"nonsense", map[string]string{"/proc/self/cgroup": "x\n4:memory\n::\n4:memory:x\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1"}, 0},
	}
	for _, tt := range tests {
		got := cgroupLimit(func(name string) ([]byte, error) {
			if text, ok := tt.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestBudget(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Limits.Connections, cfg.Queue.MaxRecipients = 1000, 2_000_000
	for _, tt := range []struct {
		limit int64
		want  budget
	}{
		{0, budget{16 << 20, 2000, 2_000_000, 128 << 20}},
		{4 << 30, budget{16 << 20, 2000, 2_000_000, 128 << 20}},
		{512 << 20, budget{16 << 20, 2000, 639_631, 30<<20 + 512<<10}},
		{64 << 20, budget{5 << 20, 426, 52_428, 2560 << 10}},
		{1 << 20, budget{1 << 20, 10, 1000, 2 << 20}},
	} {
		if got := (Memory{Limit: tt.limit}).budget(cfg, 2); got != tt.want {
			t.Errorf("%s: %+v, want %+v", config.FormatSize(max(1, tt.limit)), got, tt.want)
		}
	}
}

// Little memory lets in less, and the operator is told.
func TestLittleMemory(t *testing.T) {
	w := newWorld(t, base(t.TempDir()), dns.NewZone())
	w.Node.env.Memory = Memory{64 << 20, "cgroup"}
	var opt spool.Options
	w.Node.env.Tune = func(o *spool.Options) { opt = *o }
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	w.wait(map[string]string{"level": "INFO", "msg": "memory", "limit": "64MiB", "from": "cgroup"})
	w.wait(map[string]string{"level": "WARN", "queue.max_recipients": "52428", "limits.connections": "213"})
	if n := w.Node.gen.Load().doors[0].served.MaxConns; n != 213 {
		t.Errorf("%d connections", n)
	}
	if opt.DraftMemory != 5<<20 || opt.MaxRecipients != 52428 || w.envelopes.Max != 2560<<10 {
		t.Errorf("the spool may have %d octets of contents and %d recipients, and transactions %d octets", opt.DraftMemory, opt.MaxRecipients, w.envelopes.Max)
	}
	opt.Alarm("a sector")
	w.wait(map[string]string{"level": "ERROR", "msg": "spool: a sector"})
	page := w.get("/metrics")
	for _, want := range []string{`postrider_limit{what="connections"} 426`, `postrider_connections{listener="submission"} 0`} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
}

// The runtime keeps to the limit of the configuration, unless the environment has set
// one, which it has read itself.
func TestTakeMemory(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(was)
	t.Setenv("GOMEMLIMIT", "")
	if m := TakeMemory(3 << 30); m != (Memory{3 << 30, "limits.memory"}) || debug.SetMemoryLimit(-1) != 3<<30 {
		t.Errorf("of the configuration: %+v, and the runtime keeps to %d", m, debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "2GiB")
	debug.SetMemoryLimit(2 << 30)
	if m := TakeMemory(3 << 30); m != (Memory{2 << 30, "GOMEMLIMIT"}) || debug.SetMemoryLimit(-1) != 2<<30 {
		t.Errorf("of the environment: %+v, and the runtime keeps to %d", m, debug.SetMemoryLimit(-1))
	}
}
