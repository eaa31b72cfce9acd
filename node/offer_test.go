package node

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/smtp"
)

// secured is a client of a listener under TLS, who has said EHLO and authenticated.
func secured(t *testing.T, to net.Addr, account, password string) *client {
	t.Helper()
	c := talk(t, to)
	c.say("EHLO c.example", "250 ")
	c.say("STARTTLS", "220")
	c = &client{t, &smtpTalk{conn: tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})}}
	c.say("EHLO c.example", "250 ")
	c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+account+"\x00"+password)), "235")
	return c
}

// RFC 1985 5.1: what waits for a node is begun to be sent at once, by who may relay,
// and the reply counts it. What its sender holds stays.
func TestETRN(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := nobody.Addr().String()
	nobody.Close()
	w, _ := reloadable(t, conf(t.TempDir(), `listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.0/8"]
}
listener "strangers" { address = "127.0.0.1:0" }
listener "submission" {
  address = "127.0.0.1:0"
  role    = "submission"
}
domain "our.example" { mailboxes = ["alice"] }
route "held.example" { via = "hold" }
route "*" { via = "smtp://`+gone+`" }
`))
	if err := w.Accounts().Add("alice@our.example", "open sesame"); err != nil {
		t.Fatal(err)
	}
	c := talk(t, w.Addr("mx"))
	c.say("EHLO c.example", "250 ")
	c.say("ETRN far.example", "251 2.0.0 OK, no messages waiting for node far.example")
	for _, to := range []string{"bob@far.example", "bob@sub.far.example", "bob@held.example"} {
		if r := send(t, w.Addr("mx"), "alice@our.example", content, to); !r.Positive() {
			t.Fatal(r)
		}
	}
	// One of them tries whether the host is there, and the other waits.
	deferred := map[string]string{"msg": "recipient", "status": "deferred"}
	w.wait(deferred)
	// Without ETRN the next attempt would be a minute from here.
	c.say("ETRN Far.Example", "253 2.0.0 OK, 1 pending messages for node Far.Example started")
	w.wait(deferred)
	c.say("ETRN @far.example", "253 2.0.0 OK, 2 pending messages for node @far.example started")
	w.wait(deferred)
	c.say("ETRN held.example", "251")
	c.say("ETRN other.example", "251")
	c.say("ETRN #far", "458")

	s := secured(t, w.Addr("submission"), "alice@our.example", "open sesame")
	s.say("MAIL FROM:<alice@our.example> HOLDFOR=3600", "250")
	s.say("RCPT TO:<carol@later.example>", "250")
	s.say("BDAT 0 LAST", "250")
	s.say("ETRN later.example", "502")
	c.say("ETRN later.example", "251")
	o := talk(t, w.Addr("strangers"))
	o.say("EHLO c.example", "250 ")
	o.say("ETRN far.example", "459 4.7.0")
}

// RFC 4865 6: the quota of an account counts what waits for its release, and nothing
// else; and limits of a configuration are announced, and kept to after a reload.
func TestFutureRelease(t *testing.T) {
	dir := t.TempDir()
	const listeners = `listener "submission" {
  address = "127.0.0.1:0"
  role    = "submission"
}
domain "our.example" { mailboxes = ["alice"] }
route "*" { via = "hold" }
`
	w, f := reloadable(t, conf(dir, listeners+`limits {
  future_release  = "1h"
  future_messages = 2
}`))
	for _, name := range []string{"alice@our.example", "bob@our.example"} {
		if err := w.Accounts().Add(name, "open sesame"); err != nil {
			t.Fatal(err)
		}
	}
	s := secured(t, w.Addr("submission"), "alice@our.example", "open sesame")
	s.say("MAIL FROM:<alice@our.example> HOLDFOR=3601", "501 5.5.4")
	submit := func(param string) {
		t.Helper()
		s.say("MAIL FROM:<alice@our.example>"+param, "250")
		s.say("RCPT TO:<alice@our.example>", "250")
		s.say("BDAT 0 LAST", "250")
	}
	submit(" HOLDFOR=3600")
	submit("")
	submit(" HOLDFOR=1800")
	s.say("MAIL FROM:<alice@our.example> HOLDFOR=60", "552 5.7.16")
	submit("")
	b := secured(t, w.Addr("submission"), "bob@our.example", "open sesame")
	b.say("MAIL FROM:<bob@our.example> HOLDFOR=60", "250")
	held := 0
	for m, err := range w.spool.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !m.Release.IsZero() {
			held++
			if at := m.Recipients[0].Due; m.Release.Before(w.env.Now().Add(20*time.Minute)) || at != m.Release {
				t.Errorf("released at %v, due at %v", m.Release, at)
			}
		}
	}
	if held != 2 {
		t.Errorf("%d messages are held", held)
	}
	if all := w.tally(); len(all) != 1 || !slices.ContainsFunc(all[0].Reasons, func(r admin.Reason) bool { return r.Reply == admin.SendersOrder && r.Recipients == 2 }) {
		t.Errorf("the operator does not hear why they wait: %+v", all)
	}
	f.write(conf(dir, listeners+`limits { future_release = "0s" }`))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.say("EHLO c.example", "250 ")
	s.say("MAIL FROM:<alice@our.example> HOLDFOR=60", "555 5.5.4")
}

// RFC 7293 5.1: an account that is younger than what the sender remembers is
// another's.
func TestRRVS(t *testing.T) {
	w, _ := reloadable(t, conf(t.TempDir(), mx+`domain "our.example" { mailboxes = ["carol"] }
route "*" { via = "hold" }
`))
	if err := w.Accounts().Add("alice@our.example", "open sesame"); err != nil {
		t.Fatal(err)
	}
	c := talk(t, w.Addr("mx"))
	c.say("EHLO c.example", "250 ")
	c.say("MAIL FROM:<a@far.example>", "250")
	c.say("RCPT TO:<alice@our.example> RRVS=2014-04-03T23:01:00Z", "550 5.7.17")
	c.say("RCPT TO:<carol@our.example> RRVS=2014-04-03T23:01:00Z", "550 5.7.19")
	c.say("RCPT TO:<alice@our.example> RRVS="+smtp.FormatDateTime(w.env.Now().Add(2*time.Second)), "250")
}

// What a listener says of proxies and solicitations holds for it, and for no other.
func TestListenerTrusts(t *testing.T) {
	w, _ := reloadable(t, conf(t.TempDir(), `listener "mx" {
  address       = "127.0.0.1:0"
  refuse        = ["203.0.113.7"]
  proxy_from    = ["127.0.0.1"]
  no_soliciting = ["org.example:ADV"]
}
listener "filter" {
  address      = "127.0.0.1:0"
  refuse       = ["203.0.113.7"]
  xclient_from = ["127.0.0.0/8"]
}
domain "our.example" { mailboxes = ["alice"] }
`))
	behind := func(header string) *client {
		c := &client{t, &smtpTalk{conn: dial(t, w.Addr("mx"))}}
		if _, err := c.conn.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	behind("PROXY TCP4 203.0.113.7 198.51.100.1 1 25\r\n").expect("554 5.7.1 No SMTP service here for 203.0.113.7")
	c := behind("PROXY TCP4 203.0.113.8 198.51.100.1 1 25\r\n")
	c.expect("220")
	c.say("EHLO c.example", "250 ")
	c.say("MAIL FROM:<a@far.example> SOLICIT=org.example:ADV", "550 5.7.1")
	c.say("XCLIENT ADDR=203.0.113.7", "550 5.7.1")
	x := talk(t, w.Addr("filter"))
	x.say("EHLO c.example", "250 ")
	x.say("MAIL FROM:<a@far.example> SOLICIT=org.example:ADV", "555 5.5.4")
	x.say("XCLIENT ADDR=203.0.113.7", "554 5.7.1")
}
