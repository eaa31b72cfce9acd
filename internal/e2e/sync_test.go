package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// In the calls of the real binary, the octets of each message are synced before
// the write of its 250. RFC 5321 6.1: "It MUST NOT lose the message for
// frivolous reasons, such as because the host later crashes".
func TestSyncedBeforeItsReply(t *testing.T) {
	need(t, "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	s := newServer(t, "mx.example", localDomain)
	s.wrap = []string{"strace", "-f", "-y", "-s", "1000000", "-e", "signal=none",
		"-e", "trace=write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync", "-o", trace}
	if out, status := output(t, s.dir, "strace", "-o", os.DevNull, "true"); status != 0 {
		miss(t, "strace may not trace here: %s", out)
	}
	s.start()
	ids := map[string]string{}
	for i, size := range []int{1_000, 5_000, 600_000} { // the last has a file of its own
		marker := fmt.Sprintf("marker-%d-of-this-test", i)
		ids[mustSubmit(t, s.addr(), mail{"s@client.example", []string{"user@localhost"}, message(marker, size)})] = marker
	}
	s.signal(syscall.SIGTERM)
	s.ended(0)
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := readTrace(b)
	for id, marker := range ids {
		// The spool's file, and not that of the mailbox: to that it may be on its way before the 250 is out.
		if err := syncedBefore(calls, "/spool/", marker, id); err != nil {
			t.Errorf("%s: content: %v", marker, err)
		}
		if err := syncedBefore(calls, "/seg/", id, id); err != nil {
			t.Errorf("%s: record in the log: %v", marker, err)
		}
	}
}

// A call is one system call: the line where it began, and where it returned.
type call struct {
	name, file, args string
	began, ended     int
	result           string
}

var (
	callForm    = regexp.MustCompile(`^(\d+) +(\w+)\((?:\d+)<([^>]*)>(.*)$`)
	resultForm  = regexp.MustCompile(`\) += (-?\d+)[^=]*$`)
	resumedForm = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
)

// readTrace reads the output of strace -f -y.
func readTrace(b []byte) []*call {
	var calls []*call
	open := map[string]*call{} // by thread
	for n, line := range strings.Split(string(b), "\n") {
		if m := callForm.FindStringSubmatch(line); m != nil {
			c := &call{name: m[2], file: m[3], args: m[4], began: n, ended: -1}
			calls = append(calls, c)
			if strings.HasSuffix(line, "<unfinished ...>") {
				open[m[1]] = c
				continue
			}
			c.ended, c.result = n, resultOf(line)
		} else if m := resumedForm.FindStringSubmatch(line); m != nil && open[m[1]] != nil {
			c := open[m[1]]
			c.ended, c.result = n, resultOf(line)
			delete(open, m[1])
		}
	}
	return calls
}

func resultOf(line string) string {
	if m := resultForm.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return "?"
}

// syncedBefore wants, before the write of the 250 with an ID began: the last
// write of octets with the marker, to a file whose name has the part, returned;
// then a sync of that file began and returned 0.
func syncedBefore(calls []*call, part, marker, id string) error {
	reply := -1
	for _, c := range calls {
		if strings.Contains(c.args, `"250 2.0.0 `) && strings.Contains(c.args, id) {
			reply = c.began
			break
		}
	}
	if reply < 0 {
		return fmt.Errorf("no write of the 250 with %s in the trace", id)
	}
	var wrote *call
	for _, c := range calls {
		if c.began < reply && c.ended >= 0 && strings.HasPrefix(c.file, "/") && strings.Contains(c.file, part) && strings.Contains(c.name, "write") && strings.Contains(c.args, marker) {
			wrote = c
		}
	}
	if wrote == nil {
		return fmt.Errorf("written to no file before the 250")
	}
	for _, c := range calls {
		if strings.HasPrefix(c.name, "f") && c.file == wrote.file && c.began > wrote.ended && c.ended >= 0 && c.ended < reply && c.result == "0" {
			return nil
		}
	}
	return fmt.Errorf("no sync of %s returned between the write and the 250", wrote.file)
}

// The check above can fail: on traces that are wrong.
func TestSyncedBeforeCanFail(t *testing.T) {
	const good = `7 write(5</d/1.seg>, "x marker x", 10) = 10
7 fdatasync(5</d/1.seg> <unfinished ...>
8 write(9<socket:[1]>, "250 2.0.0 other", 15) = 15
7 <... fdatasync resumed>) = 0
8 write(9<socket:[1]>, "250 2.0.0 ID queued\r\n", 21) = 21
`
	swap := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	lines := bytes.SplitAfter([]byte(good), []byte("\n"))
	late := string(bytes.Join([][]byte{lines[0], lines[1], lines[2], lines[4], lines[3]}, nil))
	for _, tt := range []struct {
		name, part, trace string
		ok                bool
	}{
		{"good", "/", good, true},
		{"the log", ".seg", good, true},
		{"another file", "/big/", good, false},
		{"sync returns after the reply", "/", late, false},
		{"sync failed", "/", swap("resumed>) = 0", "resumed>) = -1 EIO (Input/output error)"), false},
		{"sync of another file", "/", swap("fdatasync(5</d/1.seg>", "fdatasync(6</d/2.seg>"), false},
		{"no sync", "/", string(bytes.Join([][]byte{lines[0], lines[4]}, nil)), false},
		{"never written", "/", swap("marker", "other"), false},
		{"no reply", "/", swap("ID queued", "queued"), false},
	} {
		if err := syncedBefore(readTrace([]byte(tt.trace)), tt.part, "marker", "ID"); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
