package receive

import (
	"bufio"
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpd"
)

// serve runs a real server in front of a Receiver and connects to it.
func serve(t *testing.T, o Options) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &smtpd.Server{Handler: New(o), Hostname: o.Hostname}
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-done
	})
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func TestDialogue(t *testing.T) {
	script, err := os.ReadFile("testdata/main.txt")
	if err != nil {
		t.Fatal(err)
	}
	spool := &memSpool{}
	conn := serve(t, options(spool))
	in := bufio.NewReader(conn)
	for i, line := range strings.Split(strings.TrimSuffix(string(script), "\n"), "\n") {
		line = strings.ReplaceAll(line, `\n`, "\n")
		if text, ok := strings.CutPrefix(line, "C:"); ok {
			conn.Write([]byte(strings.TrimPrefix(text, " ") + "\r\n"))
		} else if want, ok := strings.CutPrefix(line, "S: "); ok {
			if got := readReply(t, in); !strings.HasPrefix(got, want) {
				t.Fatalf("line %d: server says %q, want %q", i+1, got, want)
			}
		}
	}
	first, n := spool.kept["00000000000000000001"], len(spool.order)
	if n != 2 || spool.open() != 0 || string(first.content) != "Subject: hello\r\n\r\n.dot\r\n" || len(first.message.Recipients) != 1 {
		t.Fatalf("%d messages, %d drafts, the first %q", n, spool.open(), first.content)
	}
	if last, _ := spool.last(); !last.message.Null() || last.message.Recipients[0].To.String() != "ops@our.example" {
		t.Fatalf("last %+v", last.message)
	}
}

// A client that leaves in the middle of its content leaves nothing behind.
func TestLostConnection(t *testing.T) {
	spool := &memSpool{}
	conn := serve(t, options(spool))
	in := bufio.NewReader(conn)
	readReply(t, in)
	for _, c := range []string{"EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<alice@our.example>", "DATA"} {
		conn.Write([]byte(c + "\r\n"))
		readReply(t, in)
	}
	conn.Write([]byte("Subject: x\r\n\r\nhalf\r\n"))
	conn.(*net.TCPConn).CloseWrite()
	for { // the server closes when it is done with it
		if _, err := in.ReadByte(); err != nil {
			break
		}
	}
	if _, n := spool.last(); n != 0 || spool.open() != 0 {
		t.Fatalf("%d messages, %d drafts", n, spool.open())
	}
}

// readReply reads one reply, and returns its last line.
func readReply(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("reading a reply: %v", err)
		}
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}
