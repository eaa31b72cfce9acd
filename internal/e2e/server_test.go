package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// freeIP returns an address of the loopback range that no other test uses, so
// that ports found free there stay free.
func freeIP() string {
	if !linux() {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 10+rand.IntN(240), rand.IntN(256), 1+rand.IntN(254))
}

// given holds the addresses that freePort has returned: the system may name a
// port twice to whoever has closed it before asking again.
var given sync.Map

// freePort returns a port that is free at ip now, and that it has not returned
// before.
func freePort(t *testing.T, ip string) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", ip+":0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		addr := l.Addr().(*net.TCPAddr)
		if _, again := given.LoadOrStore(addr.String(), true); !again {
			return addr.Port
		}
	}
	t.Fatalf("no port of %s is new", ip)
	return 0
}

// A server is one running Postrider with a folder, a configuration and
// addresses of its own.
type server struct {
	t      *testing.T
	name   string // its host name
	dir    string // everything it writes
	ip     string
	port   int
	http   string
	config string
	wrap   []string // words before the command line, such as strace's

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	log  *buffer
}

// newServer writes a configuration; extra goes to its end. The data are below
// dir/data, Maildirs at dir/mail/DOMAIN/USER.
func newServer(t *testing.T, name, extra string) *server {
	t.Helper()
	ip := freeIP()
	return newServerAt(t, name, ip, freePort(t, ip), extra)
}

func newServerAt(t *testing.T, name, ip string, port int, extra string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{t: t, name: name, dir: dir, ip: ip, port: port, log: &buffer{}, config: filepath.Join(dir, "postrider.hcl")}
	s.http = net.JoinHostPort(ip, strconv.Itoa(freePort(t, ip)))
	text := fmt.Sprintf(`hostname = %q
data_dir = %q
listener "mx" {
  address    = %q
  relay_from = ["127.0.0.0/8"]
}
admin { address = %q }
`, name, filepath.Join(dir, "data"), s.addr(), s.http)
	text += strings.ReplaceAll(extra, "DIR", dir)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	return s
}

// addr is where it takes mail.
func (s *server) addr() string { return net.JoinHostPort(s.ip, strconv.Itoa(s.port)) }

// spawn runs it and returns at once.
func (s *server) spawn() {
	s.t.Helper()
	line := append(append([]string(nil), s.wrap...), binary, "serve", "--config", s.config)
	s.cmd = exec.Command(line[0], line[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.Env = environment()
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() {
		cmd.Wait()
		close(done)
	}()
}

// start runs it and returns when it has greeted us.
func (s *server) start() {
	s.t.Helper()
	s.spawn()
	eventually(s.t, func() string { return "no greeting from " + s.name + "\n" + s.log.String() }, func() bool {
		if s.over() {
			s.t.Fatalf("%s ended: %v\n%s", s.name, s.cmd.ProcessState, s.log)
		}
		c, err := dial(s.addr())
		if err != nil {
			return false
		}
		c.close()
		return true
	})
}

// signal sends a signal to the process, and to what wraps it.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil && err != syscall.ESRCH {
		s.t.Fatal(err)
	}
}

// kill ends the process as a crash does, and returns when it is gone.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.done
}

// stop ends the process as an operator does, and wants exit status 0.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.ended(0)
}

// ended waits for the end of the process and wants its exit status.
func (s *server) ended(status int) {
	s.t.Helper()
	eventually(s.t, func() string { return s.name + " does not end\n" + s.log.String() }, s.over)
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("%s ended with %v, want status %d\n%s", s.name, s.cmd.ProcessState, status, s.log)
	}
}

func (s *server) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// end is the cleanup: nothing outlives the test, and its output is told when
// the test has failed.
func (s *server) end() {
	if s.cmd != nil && !s.over() {
		s.kill()
	}
	out := s.log.String()
	if strings.Contains(out, "DATA RACE") || strings.Contains(out, "\npanic: ") || strings.Contains(out, "\ngoroutine ") {
		s.t.Errorf("%s raced or panicked", s.name)
	}
	if s.t.Failed() {
		const most = 8000
		if len(out) > most {
			out = "[...]" + out[len(out)-most:]
		}
		s.t.Logf("output of %s:\n%s", s.name, out)
	}
}

// cli runs a command of the binary with the configuration of s and wants exit
// status 0.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	out, status := output(s.t, s.dir, binary, append(args, "--config", s.config)...)
	if status != 0 {
		s.t.Fatalf("postrider %q: status %d\n%s", args, status, out)
	}
	return out
}

// get reads a page of the HTTP listener.
func (s *server) get(path string) (status int, page string) {
	s.t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + s.http + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// maildir returns what lies in the Maildir of a mailbox, octet for octet.
func (s *server) maildir(domain, user string) [][]byte {
	s.t.Helper()
	return readMaildir(s.t, filepath.Join(s.dir, "mail", domain, user))
}

// readMaildir returns the messages of a Maildir, read or not.
func readMaildir(t *testing.T, dir string) [][]byte {
	t.Helper()
	var all [][]byte
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(dir, sub, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
	}
	return all
}

// A buffer takes what a process prints, while others read it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// edit replaces words of the configuration, before the start.
func (s *server) edit(old, new string) {
	s.t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		s.t.Fatalf("the configuration does not hold %q", old)
	}
	if err := os.WriteFile(s.config, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// memory returns the octets of memory that the process holds, where the system
// tells.
func (s *server) memory() (octets int64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0, false
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0, false
	}
	return resident * int64(os.Getpagesize()), true
}
