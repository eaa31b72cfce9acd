package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// idleEnv says that this process is the server of BenchmarkIdle, and how it speaks.
const idleEnv = "SMTPD_IDLE_SERVER"

// BenchmarkIdle measures what a connection costs that has said EHLO and waits, or
// has begun a command and does not end it:
// 10,000 of them, against a server in a process of its own. It reports the growth
// of the resident memory of that process for each connection, as it is, and after a
// collection; and of that how much is heap and how much stacks.
//
//	go test ./smtpd -run - -bench Idle -benchtime 1x
func BenchmarkIdle(b *testing.B) {
	for _, how := range []string{"plain", "begun", "tls"} {
		b.Run(how, func(b *testing.B) {
			for b.Loop() {
				idle(b, how, 10_000)
			}
		})
	}
}

func idle(b *testing.B, how string, conns int) {
	server := exec.Command(os.Args[0], "-test.run=^TestIdleServer$")
	server.Env = append(os.Environ(), idleEnv+"="+how)
	server.Stderr = os.Stderr
	in, err1 := server.StdinPipe()
	out, err2 := server.StdoutPipe()
	if err1 != nil || err2 != nil || server.Start() != nil {
		b.Fatal(err1, err2)
	}
	defer server.Wait()
	defer in.Close()
	said := bufio.NewScanner(out)
	ask := func(what string) []string {
		if _, err := io.WriteString(in, what+"\n"); err != nil || !said.Scan() {
			b.Fatal(err, said.Err())
		}
		return strings.Fields(said.Text())
	}
	addr := ask("address")[0]
	number := func(fields []string, i int) float64 {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	greet(b, addr, how).Close() // what is made once
	before, beforeClean := ask("memory"), ask("clean")
	all := make([]net.Conn, conns)
	for i := range all {
		all[i] = greet(b, addr, how)
		defer all[i].Close()
	}
	// The clients have all their answers, and the server is at rest.
	now, clean := ask("memory"), ask("clean")
	each := func(unit string, now, before []string, i int) {
		b.ReportMetric((number(now, i)-number(before, i))/float64(conns), unit)
	}
	each("resident-B/conn", now, before, 0)
	each("collected-B/conn", clean, beforeClean, 0)
	each("heap-B/conn", clean, beforeClean, 1)
	each("stack-B/conn", clean, beforeClean, 2)
	b.ReportMetric(0, "ns/op")
}

// greet connects and says EHLO.
func greet(b *testing.B, addr, how string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(c)
	read := func() {
		if reply, err := smtp.ReadReply(r); err != nil || !reply.Positive() {
			b.Fatal(reply, err)
		}
	}
	read()
	say := func(line string) {
		if _, err := io.WriteString(c, line); err != nil {
			b.Fatal(err)
		}
		read()
	}
	if how == "tls" {
		say("EHLO client.example\r\n")
		say("STARTTLS\r\n")
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		r = bufio.NewReader(c)
	}
	say("EHLO client.example\r\n")
	if how == "begun" {
		if _, err := io.WriteString(c, "MAIL FROM:<a@b"); err != nil {
			b.Fatal(err)
		}
	}
	return c
}

// TestIdleServer is no test, but the server of BenchmarkIdle.
func TestIdleServer(t *testing.T) {
	how := os.Getenv(idleEnv)
	if how == "" {
		t.Skip("only as the server of BenchmarkIdle")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: quiet{}, Hostname: "foo.com", MaxConns: 1 << 20, MaxConnsPerPeer: 1 << 20}
	if how == "tls" {
		config := testConfig()
		s.TLS = func() *tls.Config { return config }
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	asked := bufio.NewScanner(os.Stdin)
	for asked.Scan() {
		switch asked.Text() {
		case "address":
			fmt.Println(l.Addr())
			continue
		case "clean":
			for range 4 { // stacks shrink by half in each
				runtime.GC()
			}
			debug.FreeOSMemory()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(resident(t), m.HeapAlloc, m.StackInuse)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Shutdown(ctx)
	<-served
	os.Exit(0)
}

// resident is how much of this process is in memory, in octets.
func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// quiet takes everything and keeps nothing.
type quiet struct{}

func (quiet) Open(context.Context, Client) (Session, smtp.Reply) { return quietSession{}, smtp.Reply{} }

type quietSession struct{}

func (quietSession) Hello(context.Context, string, bool) smtp.Reply              { return smtp.OK }
func (quietSession) Mail(context.Context, smtp.Path, smtp.MailParams) smtp.Reply { return smtp.OK }
func (quietSession) Rcpt(context.Context, smtp.Path, smtp.RcptParams) smtp.Reply { return smtp.OK }
func (quietSession) Reset()                                                      {}
func (quietSession) Close()                                                      {}
func (quietSession) Data(_ context.Context, content io.Reader) []smtp.Reply {
	_, _ = io.Copy(io.Discard, content)
	return []smtp.Reply{smtp.OK}
}
