package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/vfs"
)

// A Trace is the story of a world, a line for each thing that happened. The same
// seed tells the same story, octet by octet: within one instant the order of
// goroutines means nothing, and its lines are sorted.
type Trace struct {
	mu    sync.Mutex
	lines []traceLine
	fired map[string]int
	count int
	// When faults struck each machine, and when it was last seen at work: the one
	// that waits for them is recovered.
	struck map[string][]time.Time
	worked map[string]time.Time
}

type traceLine struct {
	at   time.Duration
	text string
}

// tell adds a line.
func (s *Site) tell(format string, args ...any) {
	l := traceLine{s.age(), fmt.Sprintf(format, args...)}
	s.Trace.mu.Lock()
	defer s.Trace.mu.Unlock()
	s.Trace.lines = append(s.Trace.lines, l)
}

// fault notes that a fault has struck.
func (s *Site) fault(kind, where string) {
	s.tell("FAULT %s %s", kind, where)
	s.Trace.mu.Lock()
	defer s.Trace.mu.Unlock()
	s.Trace.fired[kind]++
	s.Trace.count++
	m := machineOf(where)
	s.Trace.struck[m] = append(s.Trace.struck[m], time.Now())
}

// machineOf is what a fault strikes: the machine, or the peer, that what is told of
// begins with.
func machineOf(where string) string {
	for i, c := range where {
		if c == ' ' || c == '>' || c == '?' {
			return where[:i]
		}
	}
	return where
}

// works notes that something has done its work.
func (s *Site) works(who string) {
	s.Trace.mu.Lock()
	defer s.Trace.mu.Unlock()
	s.Trace.worked[who] = time.Now()
}

// recovered counts the faults after which what they struck has done its work.
func (t *Trace) recovered() int {
	n := 0
	for who, times := range t.struck {
		for _, at := range times {
			if t.worked[who].After(at) {
				n++
			}
		}
	}
	return n
}

// Lines returns the story in order.
func (t *Trace) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.lines, func(a, b traceLine) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return strings.Compare(a.text, b.text)
	})
	out := make([]string, len(t.lines))
	for i, l := range t.lines {
		out[i] = fmt.Sprintf("%v %s", l.at, l.text)
	}
	return out
}

// digestOf names a story.
func digestOf(lines []string) string {
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// lines is a slog.Handler that writes what a node logs into the story.
type lines struct {
	s    *Site
	boot string
	disk *vfs.Mem
	with string
}

func (l lines) Enabled(context.Context, slog.Level) bool { return true }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	if l.disk.Dead() {
		return nil // nobody hears what a process says that is dead
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v %s%s", l.boot, r.Level, r.Message, l.with)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	l.s.tell("%s", b.String())
	if r.Message == "accepted" || r.Message == "recipient" {
		l.s.works(machineOf(l.boot))
	}
	if r.Message == "recipient" {
		l.s.recipient(r)
	}
	if r.Level >= slog.LevelError {
		l.s.alarm(l.boot, b.String())
	}
	return nil
}

func (l lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.with += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return l
}

func (l lines) WithGroup(string) slog.Handler { return l }
