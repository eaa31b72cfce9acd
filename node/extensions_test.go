package node

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// RFC 2852 4.1.4.1: what is to be returned when it is late is never relayed to one who
// does not know of it; the sender hears at once.
func TestByReturnsFromOldHosts(t *testing.T) {
	old, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := old.Accept()
			if err != nil {
				return
			}
			c := &client{t, &smtpTalk{conn: conn}}
			c.serveOld(heard)
		}
	}()
	t.Cleanup(func() {
		old.Close()
		<-done
	})
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name = "mx.a.example", "a.example"
	at := addrPort(old.Addr())
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "127.0.0.1", Port: at.Port(), Private: true}
	a := start(t, cfg, dns.NewZone())
	a.transact(smtpc.Transaction{
		From: mailbox(t, "alice@a.example"), Params: smtp.MailParams{By: smtp.DeliverBy{Seconds: 600, Mode: smtp.ByReturn}},
		Rcpts: []smtpc.Rcpt{{To: mailbox(t, "bob@far.example")}}, Content: strings.NewReader("Subject: x\r\n\r\nx\r\n"),
	})
	a.wait(map[string]string{"msg": "recipient", "to": "<alice@a.example>", "from": "<>", "status": "delivered"})
	n := report(t, bytes.NewReader(folder(t, a.dir, "a.example", "alice")[0]))
	if r := n.Recipients[0]; r.Action != dsn.Failed || r.Status != (smtp.Status{Class: 5, Subject: 3, Detail: 3}) {
		t.Errorf("told %+v", n)
	}
	for len(heard) > 0 {
		if line := <-heard; strings.HasPrefix(line, "MAIL") {
			t.Errorf("the host heard %q", line)
		}
	}
}

// serveOld is a server that knows HELO and EHLO, and no extension.
func (c *client) serveOld(heard chan<- string) {
	defer c.conn.Close()
	c.conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(c.conn, "220 old\r\n")
	buf := make([]byte, 1024)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		heard <- string(buf[:n])
		io.WriteString(c.conn, "250 old\r\n")
	}
}
