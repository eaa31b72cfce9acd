package node

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// pair are two nodes: a, at home for a.example, relays to b, at home for b.example,
// which holds what it has for a.
func pair(t *testing.T) (a, b *world) {
	t.Helper()
	zone := dns.NewZone().MX("b.example", 10, "mx.b.example").A("mx.b.example", "127.0.0.1")
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name = "mx.b.example", "b.example"
	cfg.Domains[0].Aliases = filepath.Join(t.TempDir(), "aliases")
	if err := os.WriteFile(cfg.Domains[0].Aliases, []byte("team: bob, carol\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b = start(t, cfg, zone)
	cfg = base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name = "mx.a.example", "a.example"
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaMX, Port: addrPort(b.Addr("mx")).Port(), Private: true}
	return start(t, cfg, zone), b
}

// submit sends one transaction to the MX listener of a node.
func (w *world) transact(tx smtpc.Transaction) smtpc.Result {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.Addr("mx").String())
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := smtpc.NewConn(w.t.Context(), conn, smtpc.Options{Hello: "client.example", ChunkSize: 7})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	res := c.Send(w.t.Context(), tx)
	if res.Err != nil {
		w.t.Fatal(res.Err)
	}
	return res
}

// report reads the report that lies in the queue or the mailbox.
func report(t *testing.T, r io.Reader) *dsn.Notice {
	t.Helper()
	n, err := dsn.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// held is the first report that waits in the queue.
func (w *world) held() (*postrider.Message, *dsn.Notice) {
	w.t.Helper()
	for m, err := range w.spool.Scan(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Null() {
			c, err := w.spool.Open(w.t.Context(), m.ID)
			if err != nil {
				w.t.Fatal(err)
			}
			defer c.Close()
			return m, report(w.t, c.Reader())
		}
	}
	w.t.Fatal("no report waits")
	return nil, nil
}

// What is asked for at A is heard at B: RFC 3461 5.2.1 with the parameters of DSN,
// RFC 2852 4.1.4 with BY, RFC 6710 4.2 with MT-PRIORITY; a binary message goes as it
// is (RFC 3030 3); A tells of the relay, and B of the delivery.
func TestExtensionsGoOn(t *testing.T) {
	a, b := pair(t)
	text := "MIME-Version: 1.0\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n.\r\n\xff\r"
	res := a.transact(smtpc.Transaction{
		From: mailbox(t, "alice@a.example"),
		Params: smtp.MailParams{Body: smtp.BodyBinaryMIME, EnvID: "QQ314159", Ret: smtp.RetHeaders, Priority: 3,
			By: smtp.DeliverBy{Seconds: 600, Mode: smtp.ByReturn, Trace: true}},
		Rcpts: []smtpc.Rcpt{{To: mailbox(t, "bob@b.example"),
			Params: smtp.RcptParams{Notify: smtp.NotifySuccess | smtp.NotifyFailure, ORcpt: "rfc822;Bob@b.example"}}},
		Content: strings.NewReader(text),
	})
	if reply, _ := res.Decides(0); !reply.Positive() {
		t.Fatal(reply)
	}
	b.wait(map[string]string{"msg": "accepted", "priority": "3"})
	b.wait(map[string]string{"msg": "recipient", "to": "<bob@b.example>", "status": "delivered"})
	box := folder(t, b.dir, "b.example", "bob")
	if len(box) != 1 || !bytes.HasSuffix(box[0], []byte("\r\n"+text)) {
		t.Fatalf("bob has %q", box)
	}
	if n := strings.Count(strings.ToUpper(strings.Join(strings.Fields(string(box[0])), " ")), "PRIORITY 3"); n != 2 {
		t.Errorf("%d hops say the priority in\n%q", n, box[0])
	}
	// RFC 2852 4.1.4: "When a message with a by-trace field with value "T" is relayed, a
	// "relayed" DSN SHOULD be generated".
	a.wait(map[string]string{"msg": "recipient", "to": "<alice@a.example>", "from": "<>", "status": "delivered"})
	mail := folder(t, a.dir, "a.example", "alice")
	if len(mail) != 1 {
		t.Fatalf("alice has %q", mail)
	}
	n := report(t, bytes.NewReader(mail[0]))
	if r := n.Recipients[0]; n.EnvID != "QQ314159" || r.Action != dsn.Relayed || r.ORcpt != "rfc822;Bob@b.example" || r.RemoteMTA != "mx.b.example" {
		t.Errorf("A says %+v", n)
	}
	if !bytes.Contains(mail[0], []byte("\r\nDeliver-By-Date: ")) {
		t.Errorf("no Deliver-By-Date in\n%s", mail[0])
	}
	b.wait(map[string]string{"msg": "reported"})
	m, n := b.held()
	if r := n.Recipients[0]; n.EnvID != "QQ314159" || r.Action != dsn.Delivered || r.ORcpt != "rfc822;Bob@b.example" || n.Full {
		t.Errorf("B says %+v", n)
	}
	if m.Priority != 3 || m.Recipients[0].To != mailbox(t, "alice@a.example") || m.Recipients[0].Notify != smtp.NotifyNever {
		t.Errorf("B reports by %+v", m)
	}
}

// RFC 3461 5.2.7.3 (c): the alias is told of as expanded, and nobody of whom it stands
// for as delivered.
func TestExpansionIsReported(t *testing.T) {
	_, b := pair(t)
	res := b.transact(smtpc.Transaction{
		From:    mailbox(t, "alice@a.example"),
		Rcpts:   []smtpc.Rcpt{{To: mailbox(t, "team@b.example"), Params: smtp.RcptParams{Notify: smtp.NotifySuccess}}},
		Content: strings.NewReader("Subject: x\r\n\r\nx\r\n"),
	})
	if reply, _ := res.Decides(0); !reply.Positive() {
		t.Fatal(reply)
	}
	b.wait(map[string]string{"msg": "accepted", "rcpts": "1", "expanded": "2"})
	b.wait(map[string]string{"msg": "reported"})
	_, n := b.held()
	if len(n.Recipients) != 1 || n.Recipients[0].Action != dsn.Expanded || n.Recipients[0].Final != mailbox(t, "team@b.example") {
		t.Errorf("told %+v", n)
	}
	for _, who := range []string{"bob", "carol"} {
		if box := folder(t, b.dir, "b.example", who); len(box) != 1 {
			t.Errorf("%s has %d", who, len(box))
		}
	}
}

// An oldHost is a server that knows no extension at all.
type oldHost struct {
	net.Listener
	heard    chan string // command lines
	contents chan string
	mute     atomic.Bool // it hangs up instead of the reply to the final dot
	over     sync.WaitGroup
}

func newOldHost(t *testing.T) (*oldHost, *world) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &oldHost{Listener: l, heard: make(chan string, 1000), contents: make(chan string, 100)}
	h.over.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.over.Go(func() { h.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.over.Wait()
	})
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name = "mx.a.example", "a.example"
	cfg.Queue.Retry = []time.Duration{time.Second}
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "127.0.0.1", Port: addrPort(l.Addr()).Port(), Private: true}
	return h, start(t, cfg, dns.NewZone())
}

func (h *oldHost) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 old\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		h.heard <- line
		switch verb := strings.ToUpper(line[:4]); verb {
		case "EHLO":
			io.WriteString(conn, "500 what\r\n")
			continue
		case "DATA":
			io.WriteString(conn, "354 go\r\n")
			var all strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				all.WriteString(line)
			}
			h.contents <- all.String()
			if h.mute.Load() {
				return
			}
		}
		io.WriteString(conn, "250 ok\r\n")
		if strings.HasPrefix(line, "QUIT") {
			return
		}
	}
}

// RFC 2852 4.1.4.1: what is to be returned when it is late is never relayed to one who
// does not know of it; the sender hears at once.
func TestByReturnsFromOldHosts(t *testing.T) {
	old, a := newOldHost(t)
	a.transact(smtpc.Transaction{
		From: mailbox(t, "alice@a.example"), Params: smtp.MailParams{By: smtp.DeliverBy{Seconds: 600, Mode: smtp.ByReturn}},
		Rcpts: []smtpc.Rcpt{{To: mailbox(t, "bob@far.example")}}, Content: strings.NewReader("Subject: x\r\n\r\nx\r\n"),
	})
	a.wait(map[string]string{"msg": "recipient", "to": "<alice@a.example>", "from": "<>", "status": "delivered"})
	n := report(t, bytes.NewReader(folder(t, a.dir, "a.example", "alice")[0]))
	if r := n.Recipients[0]; r.Action != dsn.Failed || r.Status != (smtp.Status{Class: 5, Subject: 3, Detail: 3}) {
		t.Errorf("told %+v", n)
	}
	for len(old.heard) > 0 {
		if line := <-old.heard; strings.HasPrefix(line, "MAIL") {
			t.Errorf("the host heard %q", line)
		}
	}
}

// RFC 6152 3: what is not 7-bit reaches a host without 8BITMIME as "valid 7-bit MIME".
// RFC 1047: when the answer to its end is lost, the host may have it, and is asked again.
func TestOldHostsGetMailTheyCanTake(t *testing.T) {
	old, a := newOldHost(t)
	old.mute.Store(true)
	text := "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\xc3\xbc\r\n"
	a.transact(smtpc.Transaction{
		From: mailbox(t, "alice@a.example"), Params: smtp.MailParams{Body: smtp.Body8BitMIME},
		Rcpts: []smtpc.Rcpt{{To: mailbox(t, "bob@far.example")}}, Content: strings.NewReader(text),
	})
	line := a.wait(map[string]string{"msg": "recipient", "to": "<bob@far.example>", "status": "deferred"})
	if reply, _ := line["reply"].(string); !strings.Contains(reply, "it may have the message, and is tried first") {
		t.Errorf("the log says %q", reply)
	}
	old.mute.Store(false)
	a.wait(map[string]string{"msg": "recipient", "to": "<bob@far.example>", "status": "delivered"})
	for range 2 {
		got := <-old.contents
		want := "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n..=C3=BC\r\n"
		if !strings.HasSuffix(got, want) {
			t.Errorf("the host has %q", got)
		}
	}
}
