package examples

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// start runs an example and returns the address that it listens on, and its
// further lines.
func start(t *testing.T, bin string, args ...string) (addr string, lines *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(bin, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines = bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("%s says nothing: %v", bin, lines.Err())
	}
	addr, ok := strings.CutPrefix(lines.Text(), "listening on ")
	if !ok {
		t.Fatalf("%s says %q", bin, lines.Text())
	}
	return addr, lines
}

// A message goes through the filter and the forwarder to the sink, another is
// refused, and what the last server says is what the client hears.
func TestChain(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir, "./sink", "./forwarder", "./filter").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sink, lines := start(t, filepath.Join(dir, "sink"))
	forwarder, _ := start(t, filepath.Join(dir, "forwarder"), "-to", sink)
	filter, _ := start(t, filepath.Join(dir, "filter"), "-to", forwarder, "-word", "lottery")

	raw, err := net.Dial("tcp", filter)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := smtpc.NewConn(t.Context(), raw, smtpc.Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		to, content string
		code        int
	}{
		{"a@example.org", "Subject: lottery\r\n\r\nyou won\r\n", 550},
		{"b@example.org", "Subject: supper\r\n\r\n.at eight\r\n", 250},
	} {
		to, err := smtp.ParsePath(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		res := conn.Send(t.Context(), smtpc.Transaction{
			Rcpts:   []smtpc.Rcpt{{To: to}},
			Content: bytes.NewReader([]byte(tt.content)),
		})
		if reply, _ := res.Decides(0); reply.Code != tt.code || res.Err != nil {
			t.Errorf("%s: %v, %v", tt.to, reply, res.Err)
		}
	}
	if err := conn.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	// The first that the sink has seen is the second.
	want := len("X-Filtered: yes\r\nSubject: supper\r\n\r\n.at eight\r\n")
	if !lines.Scan() || !strings.Contains(lines.Text(), "from <> to [b@example.org]: ") || !strings.HasSuffix(lines.Text(), ": 47 octets") || want != 47 {
		t.Errorf("the sink says %q, %v; %d octets were sent", lines.Text(), lines.Err(), want)
	}
	// A server behind that is gone is for now, and never for good.
	lost, _ := start(t, filepath.Join(dir, "forwarder"), "-to", "127.0.0.1:1")
	raw, err = net.Dial("tcp", lost)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err = smtpc.NewConn(t.Context(), raw, smtpc.Options{}); err != nil {
		t.Fatal(err)
	}
	res := conn.Send(t.Context(), smtpc.Transaction{Rcpts: []smtpc.Rcpt{{To: smtp.Path{Local: "c", Domain: "example.org"}}}, Content: strings.NewReader("\r\n")})
	if reply, _ := res.Decides(0); reply.Code != 451 {
		t.Errorf("%v, %v", reply, res.Err)
	}
}
