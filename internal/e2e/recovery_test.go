package e2e

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The environment of the recovery measurement.
const (
	recoveryAsked = "POSTRIDER_RECOVERY"      // how many messages are queued, such as 0,100000,1000000
	recoveryRuns  = "POSTRIDER_RECOVERY_RUNS" // how often each start is measured; 3 where it is not set
	recoveryWith  = "POSTRIDER_RECOVERY_WITH" // words before the command line that is measured, such as chrt -r 1, before what else the machine does
)

// fillers is how many connections fill the queue.
const fillers = 50

// settleTime is when memory is looked at again after a start.
const settleTime = 10 * time.Second

// A recovered is what one start took.
type recovered struct {
	greeting  time.Duration // from the start of the process to its first 220
	accepting time.Duration // to the first 250 for a message
	scheduled time.Duration // until that message was in its mailbox: nothing is claimed before all is scheduled
	counted   time.Duration // until the metrics, asked then, said that the queue holds all
	peak      int64         // octets of memory at most, by then
	resident  int64         // octets then
	settled   int64         // a while later
	share     int64         // of that, what is this process's alone or its part of what is shared
	processor time.Duration // that was used until then: other work on the machine adds little to it
}

// A start with a queue of some length, after a stop in good order and after kill
// -9: how long until mail is taken, until all is scheduled again, and how much
// memory that holds. It asserts no time; what it wants is that all is there.
func TestRecoveryTimes(t *testing.T) {
	asked := os.Getenv(recoveryAsked)
	if asked == "" {
		t.Skipf("%s says how long the queues are, and is not set", recoveryAsked)
	}
	runs := 3
	if v := os.Getenv(recoveryRuns); v != "" {
		var err error
		if runs, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	var lines []string
	for _, word := range strings.Split(asked, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(word, func(t *testing.T) { lines = append(lines, measureStarts(t, n, runs)...) })
	}
	fmt.Printf("%s, %d processors, load %s before the last start\n%s\n%s\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), loadAverage(),
		"| queued | stopped by | 220 | first 250 | all scheduled | counted | processor | peak | resident | after 10 s | PSS | log | load |\n"+
			"| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", strings.Join(lines, "\n"))
}

// measureStarts fills a queue and returns a line of the table for each kind of
// stop, each number the median of the runs.
func measureStarts(t *testing.T, n, runs int) (lines []string) {
	s := newServer(t, "a.example", `
route "dead.example" { via = "hold" }
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
queue { max_recipients = 3000000 }
`)
	s.start()
	began := time.Now()
	fillQueue(t, s, n)
	t.Logf("filled with %d messages over %d connections in %v", n, fillers, time.Since(began).Round(time.Millisecond))
	s.wrap = strings.Fields(os.Getenv(recoveryWith))
	probes := 0
	for _, way := range []struct {
		name string
		stop func()
	}{{"SIGTERM", s.stop}, {"kill -9", s.kill}} {
		var all []recovered
		load := ""
		for range runs {
			way.stop()
			load = loadAverage()
			probes++
			all = append(all, measureStart(t, s, n, probes))
			t.Logf("%s: %+v, load %s", way.name, all[len(all)-1], load)
		}
		log := folderSize(t, filepath.Join(s.dir, "data", "spool", "seg"))
		lines = append(lines, fmt.Sprintf("| %d | %s | %.2f s | %.2f s | %.2f s | %.2f s | %.2f s | %d MiB | %d MiB | %d MiB | %d MiB | %d MiB | %s |", n, way.name,
			median(all, func(r recovered) time.Duration { return r.greeting }).Seconds(),
			median(all, func(r recovered) time.Duration { return r.accepting }).Seconds(),
			median(all, func(r recovered) time.Duration { return r.scheduled }).Seconds(),
			median(all, func(r recovered) time.Duration { return r.counted }).Seconds(),
			median(all, func(r recovered) time.Duration { return r.processor }).Seconds(),
			median(all, func(r recovered) int64 { return r.peak })>>20,
			median(all, func(r recovered) int64 { return r.resident })>>20,
			median(all, func(r recovered) int64 { return r.settled })>>20,
			median(all, func(r recovered) int64 { return r.share })>>20, log>>20, load))
	}
	s.stop()
	return lines
}

func median[T cmp.Ordered](all []recovered, of func(recovered) T) T {
	var values []T
	for _, r := range all {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// measureStart starts the server with n recipients in the queue. The metrics keep
// a look at the queue for some seconds, so they are asked once, when a message
// that came after the start has gone through the queue.
func measureStart(t *testing.T, s *server, n, probe int) (r recovered) {
	t.Helper()
	began := time.Now()
	s.spawn()
	var c *client
	for c == nil {
		if s.over() || time.Since(began) > 5*patience {
			t.Fatalf("no greeting\n%s", s.log)
		}
		var err error
		if c, err = dial(s.addr()); err != nil {
			c = nil
			<-time.After(time.Millisecond)
		}
	}
	r.greeting = time.Since(began)
	defer c.close()
	if _, err := c.want(250, "EHLO client.example"); err != nil {
		t.Fatal(err)
	}
	box := fmt.Sprintf("probe%d", probe)
	if _, err := c.send(mail{"s@client.example", []string{box + "@a.example"}, message(box, 100)}); err != nil {
		t.Fatal(err)
	}
	r.accepting = time.Since(began)
	eventually(t, says("the probe does not arrive"), func() bool { return len(s.maildir("a.example", box)) == 1 })
	r.scheduled = time.Since(began)
	_, page := s.get("/metrics")
	r.counted = time.Since(began)
	if want := fmt.Sprintf("postrider_queue_recipients{state=\"held\"} %v\n", float64(n)); !strings.Contains(page, want) {
		t.Errorf("the queue does not hold %d recipients:\n%s", n, page)
	}
	r.processor = processorTime(t, s.cmd.Process.Pid)
	r.resident, r.peak = s.status(t, "VmRSS"), s.status(t, "VmHWM")
	<-time.After(settleTime)
	r.settled, r.share = s.status(t, "VmRSS"), s.share(t)
	return r
}

// status reads a size of /proc/PID/status.
func (s *server) status(t *testing.T, key string) (octets int64) {
	t.Helper()
	return procSize(t, s.cmd.Process.Pid, "status", key)
}

// share reads the proportional set size.
func (s *server) share(t *testing.T) (octets int64) {
	t.Helper()
	return procSize(t, s.cmd.Process.Pid, "smaps_rollup", "Pss")
}

func procSize(t *testing.T, pid int, file, key string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no %s in %s", key, file)
	return 0
}

// processorTime is what a process has used, in user mode and in the kernel, in
// steps of 10 ms.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ") // the state is field 3
	fields := strings.Fields(after)
	if len(fields) < 13 {
		t.Fatalf("no times in %s", b)
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// folderSize is the length of the files of a folder together. That of the last
// segment counts with what is reserved for it.
func folderSize(t *testing.T, dir string) (octets int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			octets += fi.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// fillQueue sends n messages of about 1 KiB, one recipient each, that are held.
func fillQueue(t *testing.T, s *server, n int) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, fillers)
	for range fillers {
		all.Go(func() {
			if err := fillOne(s.addr(), &next, int64(n)); err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}

// fillOne sends messages over one connection until there are n. The commands of
// the next message go with the content of the one before (RFC 2920 3.1).
func fillOne(addr string, next *atomic.Int64, n int64) error {
	c, err := greeted(addr)
	if err != nil {
		return err
	}
	defer c.close()
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 12)
	open := false // a content is under way
	for {
		k := next.Add(1)
		var b bytes.Buffer
		if open {
			fmt.Fprintf(&b, "From: Sender <s@client.example>\r\nTo: x@dead.example\r\nSubject: one of many\r\nMessage-ID: <fill-%d@client.example>\r\n\r\n%s.\r\n", k, body)
		}
		if k <= n {
			fmt.Fprintf(&b, "MAIL FROM:<s%d@client.example>\r\nRCPT TO:<user%d@dead.example>\r\nDATA\r\n", k%1000, k)
		}
		if err := c.raw(b.String()); err != nil {
			return err
		}
		var want []int
		if open {
			want = []int{250}
		}
		if open = k <= n; open {
			want = append(want, 250, 250, 354)
		}
		for _, code := range want {
			if r, err := c.read(); err != nil || r.code != code {
				return fmt.Errorf("message %d: %v, want %d: %w", k, r, code, err)
			}
		}
		if !open {
			return nil
		}
	}
}
