package node

import (
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/postrider/postrider/config"
)

// Memory is how much of it the process may have.
type Memory struct {
	Limit int64  // octets; 0: as much as there is
	From  string // who said so, in words
}

// cgroupShare is the share of the limit of a cgroup that is our own: the rest is
// for what the Go runtime does not count, such as buffers of the kernel.
const cgroupShare = 0.9

// TakeMemory makes the runtime keep to the limit of memory, so that it collects
// sooner rather than dies: that of GOMEMLIMIT, which the runtime has read itself;
// else that of the configuration, in octets, 0 for none; else that of the cgroup.
// It is for a program with one node.
func TakeMemory(configured int64) Memory {
	if os.Getenv("GOMEMLIMIT") != "" {
		limit := debug.SetMemoryLimit(-1)
		if limit >= noLimit {
			return Memory{From: "GOMEMLIMIT"}
		}
		return Memory{limit, "GOMEMLIMIT"}
	}
	m := Memory{configured, "limits.memory"}
	if configured == 0 {
		m = Memory{int64(cgroupShare * float64(cgroupLimit(os.ReadFile))), "cgroup"}
	}
	if m.Limit == 0 {
		return Memory{}
	}
	debug.SetMemoryLimit(m.Limit)
	return m
}

// noLimit is where a number of octets is none that binds.
const noLimit = 1 << 60

// cgroupLimit is the lowest limit of memory of the cgroups that the process is in,
// of version 1 or 2; 0: there is none.
func cgroupLimit(read func(name string) ([]byte, error)) int64 {
	text, err := read("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	lowest := int64(noLimit)
	for line := range strings.Lines(string(text)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		top, files := "/sys/fs/cgroup/memory", []string{"memory.limit_in_bytes"}
		switch {
		case !ok || !strings.HasPrefix(group, "/"):
			continue
		case id == "0" && controllers == "":
			top, files = "/sys/fs/cgroup", []string{"memory.max", "memory.high"}
		case !strings.Contains(","+controllers+",", ",memory,"):
			continue
		}
		// In a container the group may be named as outside, and lie at the top.
		for dir := path.Clean(group); ; dir = path.Dir(dir) {
			for _, file := range files {
				if b, err := read(path.Join(top, dir, file)); err == nil {
					if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 {
						lowest = min(lowest, n)
					}
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	if lowest >= noLimit {
		return 0
	}
	return lowest
}

// What things take of memory, in octets, and the shares of a limit that they may
// have. The rest is for the program, and for what attempts and looking around need.
const (
	programMemory = 24 << 20
	connMemory    = 24 << 10 // a connection, in the middle of a transaction
	rcptMemory    = 400      // a recipient that waits
	draftsLeast   = 1 << 20
	draftsMost    = 16 << 20
	rcptsLeast    = 1000

	envelopesLeast = 2 << 20
	envelopesMost  = 128 << 20
)

// A budget is how much there may be at a time of what takes memory.
type budget struct {
	drafts     int64 // octets of contents on their way in; beyond, they go to files
	conns      int   // of all listeners; beyond, 421
	recipients int   // that wait; beyond, 452
	envelopes  int64 // octets of recipients of transactions under way; beyond, 452
}

// budget is what a configuration says, or less where the memory is too small for it.
func (m Memory) budget(cfg *config.Config, listeners int) budget {
	b := budget{draftsMost, cfg.Limits.Connections * max(1, listeners), cfg.Queue.MaxRecipients, envelopesMost}
	if m.Limit == 0 {
		return b
	}
	rest := max(m.Limit-programMemory, m.Limit/4)
	b.drafts = min(b.drafts, max(draftsLeast, rest/8))
	b.envelopes = min(b.envelopes, max(envelopesLeast, rest/16))
	b.conns = int(min(int64(b.conns), max(connsMin, rest/4/connMemory)))
	b.recipients = int(min(int64(b.recipients), max(rcptsLeast, rest/2/rcptMemory)))
	return b
}

// tellMemory says what memory there is, and where it is too little for what the
// configuration would let in.
func (n *Node) tellMemory() {
	m := n.env.Memory
	if m.Limit == 0 {
		return
	}
	n.env.Log.Info("memory", "limit", config.FormatSize(m.Limit), "from", m.From)
	listeners := len(n.cfg.Listeners)
	want, got := (Memory{}).budget(n.cfg, listeners), m.budget(n.cfg, listeners)
	var less []any
	if got.recipients < want.recipients {
		less = append(less, slog.Int("queue.max_recipients", got.recipients))
	}
	if got.conns < want.conns {
		less = append(less, slog.Int("limits.connections", got.conns/max(1, listeners)))
	}
	if len(less) > 0 {
		n.env.Log.Warn("little memory: less is taken in than the configuration allows", less...)
	}
}
