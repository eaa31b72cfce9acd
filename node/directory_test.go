package node

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/vfs"
)

// VRFY, EXPN, 251 and 551 by a whole server: the alias file, the guard, and the
// networks that are not served, also after a reload.
func TestAsking(t *testing.T) {
	dir := t.TempDir()
	aliases := filepath.Join(dir, "aliases")
	if err := os.WriteFile(aliases, []byte("sales: Alice Liddell <alice>, bob@far.example\ndave: :forward: dave@far.example\nerin: :moved: erin@far.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	domain := `domain "our.example" {
  mailboxes = ["alice"]
  aliases   = "` + aliases + `"
}
route "*" { via = "hold" }
`
	const listener = `listener "mx" {
  address  = "127.0.0.1:0"
  verify   = "anyone"
  announce = true
}
`
	w, f := reloadable(t, conf(dir, listener+domain))
	at := w.Addr("mx")
	greeted := &client{t, &smtpTalk{conn: dial(t, at)}}
	greeted.expect("220 mx.example.org ESMTP Postrider")
	c := talk(t, at)
	c.say("VRFY alice", "250 2.1.5 <alice@our.example>")
	c.say("VRFY nobody", "550 5.1.1")
	c.say("EXPN sales", "250 2.1.5 <bob@far.example>")
	c.say("VRFY dave", "251 2.1.5 User not local; will forward to <dave@far.example>")
	c.say("VRFY erin", "551 5.1.6 User not local; please try <erin@far.example>")
	c.say("HELP", "214 ")
	c.say("EHLO c.example", "250 ")
	c.say("MAIL FROM:<a@far.example>", "250")
	c.say("RCPT TO:<dave@our.example>", "251 2.1.5 User not local; will forward to <dave@far.example>")
	c.say("RCPT TO:<erin@our.example>", "551 5.1.6 User not local; please try <erin@far.example>")

	// The guard of the newest configuration holds at once, on old connections too.
	f.write(conf(dir, mx+domain))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(dial(t, at)).ReadString('\n'); err != nil || line != "220 mx.example.org ESMTP\r\n" {
		t.Errorf("without announce: %q, %v", line, err)
	}
	c.say("VRFY alice", "252 2.5.0")
	c.say("EXPN sales", "252 2.5.0")
	c.say("RSET", "250")

	f.write(conf(dir, `listener "mx" {
  address = "127.0.0.1:0"
  refuse  = ["127.0.0.0/8"]
}
`+domain))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := &client{t, &smtpTalk{conn: dial(t, at)}}
	refused.expect("554 5.7.1 No SMTP service here for 127.0.0.1")
	refused.say("EHLO c.example", "503 5.5.1")
	refused.say("QUIT", "221")
}

func dial(t *testing.T, to net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A server that sends to one where an address has moved tells the sender the new
// one, and where it is forwarded says nothing.
func TestMovedIsReported(t *testing.T) {
	dir := t.TempDir()
	aliases := filepath.Join(dir, "aliases")
	if err := os.WriteFile(aliases, []byte("dave: :forward: dave@far.example\nerin: :moved: erin@far.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := reloadable(t, conf(dir, mx+`domain "b.example" { aliases = "`+aliases+`" }
route "*" { via = "hold" }`))
	a, _ := reloadable(t, conf(t.TempDir(), `listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.0/8"]
}
domain "a.example" { mailboxes = ["alice"] }
route "b.example" { via = "smtp://`+b.Addr("mx").String()+`" }`))
	if r := send(t, a.Addr("mx"), "alice@a.example", content, "dave@b.example", "erin@b.example"); !r.Positive() {
		t.Fatal(r)
	}
	b.wait(map[string]string{"msg": "refused", "to": "<erin@b.example>", "code": "551"})
	b.wait(map[string]string{"msg": "accepted", "from": "<alice@a.example>"})
	a.wait(map[string]string{"msg": "recipient", "to": "<dave@b.example>", "status": "delivered"})
	a.wait(map[string]string{"msg": "recipient", "to": "<alice@a.example>", "from": "<>", "status": "delivered"})
	box := folder(t, a.Node.cfg.DataDir, "a.example", "alice")
	if len(box) != 1 || !bytes.Contains(box[0], []byte("551 5.1.6 User not local; please try <erin@far.example>")) || bytes.Contains(box[0], []byte("dave@")) {
		t.Errorf("the report to alice: %q", box)
	}
}

// What the router knows of a name VRFY and EXPN know, and no more of a closed list than
// that it is one (RFC 5321 7.3).
func TestDirectoryIsTheRouter(t *testing.T) {
	disk := vfs.NewMem()
	if err := replaceFile(disk, "aliases", []byte("sales: Ann Li <alice>, alice@any.example\nboard: :closed:, alice, alice@any.example\nli: Ann Li <alice>\nerin: :moved: erin@far.example\n")); err != nil {
		t.Fatal(err)
	}
	hold := postrider.Route{Via: postrider.ViaHold}
	r, err := route.New(route.Table{Files: Files(disk), Domains: []route.Domain{{Name: "our.example", Mailboxes: []string{"alice"}, Aliases: "aliases", Deliver: hold},
		{Name: "any.example", Mailboxes: []string{"*"}, Deliver: hold}}})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{}
	n.gen.Store(&generation{router: r})
	for name, want := range map[string]string{
		"alice@our.example":  "alice@our.example",
		"who@any.example":    "who@any.example vague",
		"board@our.example":  "board@our.example list closed",
		"sales@our.example":  "sales@our.example list [Ann Li alice@our.example] [ alice@any.example]",
		"li@our.example":     `alice@our.example "Ann Li" list [Ann Li alice@our.example]`,
		"erin@our.example":   "erin@our.example 551",
		"nobody@our.example": "",
	} {
		found, err := directory{n}.Lookup(t.Context(), mailbox(t, name))
		if err != nil {
			t.Error(err)
		}
		got := ""
		for _, e := range found {
			got += e.Address.String()
			for _, is := range []struct {
				so   bool
				what string
			}{{e.Name != "", strconv.Quote(e.Name)}, {e.Vague, "vague"}, {e.List, "list"}, {e.Closed, "closed"}, {e.Reply.Code != 0, strconv.Itoa(e.Reply.Code)}} {
				if is.so {
					got += " " + is.what
				}
			}
			for _, m := range e.Members {
				got += " [" + m.Name + " " + m.Address.String() + "]"
			}
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
