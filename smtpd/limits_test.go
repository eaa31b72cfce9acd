package smtpd

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What every server takes at the least (RFC 5321 4.5.3.1), if nobody has said
// otherwise: a path of 256 octets, 100 recipients, lines of 1000 octets and a
// content of 64 KiB.
func TestLeastSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.say("HELO x")
		p.expect("250")
		domain := strings.Repeat(strings.Repeat("d", 63)+".", 2) + strings.Repeat("d", 61)
		p.say("MAIL FROM:<%s@%s>", strings.Repeat("a", 64), domain) // 256 octets with the angle brackets
		p.expect("250")
		for i := range 100 {
			p.say("RCPT TO:<u%d@d>", i)
			p.expect("250")
		}
		p.say("DATA")
		p.expect("354")
		p.say("%s.", strings.Repeat(strings.Repeat("x", 998)+"\r\n", 66))
		p.expect("250")
	})
}

// RFC 3461 5.4: "the MTA MUST be able to accept a command-line large enough for each
// SMTP command and any combination of ESMTP parameters which may be used with that
// command", each as long as its RFC lets it be.
func TestLongestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{offer: Offer{
			Extensions: promises, HoldMax: 100_000_000 * time.Second,
		}}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.say("EHLO x")
		p.expect("250")
		path := strings.Repeat("a", 64) + "@" + strings.Repeat(strings.Repeat("d", 63)+".", 2) + strings.Repeat("d", 61)
		solicit := strings.Repeat("org.example:ADV,", 62) + "org.foo"
		for _, line := range []string{
			"MAIL FROM:<" + path + "> SIZE=" + strings.Repeat("1", 18) + " BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID=" + strings.Repeat("x", 100) +
				" BY=-99999999;NT MT-PRIORITY=-9 SOLICIT=" + solicit,
			"RCPT TO:<" + path + "> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + strings.Repeat("x", 493) + " RRVS=2014-04-03T23:01:00-23:59;C",
		} {
			p.say("%s", line)
			p.expect("250")
		}
	})
}

// However a connection ends, it is counted no more, neither in all nor for its address:
// who could make one that is counted for ever could shut out its whole network.
func TestEveryEndIsCounted(t *testing.T) {
	forever := func(p *peer, line string) {
		for {
			if _, err := io.WriteString(p, line); err != nil {
				return
			}
		}
	}
	upgrade := func(p *peer) {
		p.say("EHLO x")
		p.expect("250")
		p.say("STARTTLS")
		p.expect("220")
	}
	for name, end := range map[string]func(p *peer){
		"QUIT":             func(p *peer) { p.say("QUIT"); p.expect("221") },
		"a lost client":    func(p *peer) { p.Close() },
		"a silent client":  func(p *peer) { p.expect("421 4.4.2") },
		"too many errors":  func(p *peer) { p.say("FOO"); p.expect("500"); p.expect("421") },
		"HTTP":             func(p *peer) { p.say("GET / HTTP/1.1"); p.expect("421") },
		"takes no replies": func(p *peer) { forever(p, "RSET\r\n") },
		"takes no verdict": func(p *peer) {
			p.transaction()
			p.say("DATA")
			p.expect("354")
			p.say(".")
			time.Sleep(5 * time.Minute)
		},
		"takes no 421":     func(p *peer) { p.say("GET / HTTP/1.1"); time.Sleep(5 * time.Minute) },
		"content too slow": func(p *peer) { p.transaction(); p.say("DATA"); p.expect("354"); p.expect("421") },
		"lost in content":  func(p *peer) { p.transaction(); p.say("DATA"); p.expect("354"); p.say("half"); p.Close() },
		"no TLS":           func(p *peer) { upgrade(p); forever(p, "no") },
		"no handshake":     func(p *peer) { upgrade(p); time.Sleep(2 * time.Minute) },
		"takes no replies in TLS": func(p *peer) {
			upgrade(p)
			c := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true})
			if err := c.Handshake(); err != nil {
				p.t.Fatal(err)
			}
			p.Conn = c
			forever(p, "RSET\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxConnsPerPeer: 1, MaxErrors: 1, TLS: testConfig})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				p.expect("220")
				end(p)
				time.Sleep(lingerTime)
				synctest.Wait()
				if len(r.s.conns) != 0 || len(r.s.peers) != 0 {
					t.Errorf("%v %v are counted when nobody is there", r.s.conns, r.s.peers)
				}
				again := r.dial("192.0.2.1:2")
				again.expect("220")
				p.Close()
				again.Close()
			})
		})
	}
}

// However fast a client has sent, it may fall behind by as much as any: what it has sent
// quickly buys it no time to hold the connection with an octet now and then.
func TestHasteBuysNoTime(t *testing.T) {
	s := &Server{Timeouts: Timeouts{Data: time.Minute}, MinRate: 100}
	for _, n := range []int{1, 100, 1 << 20, 1 << 30} {
		p := s.pace()
		p.read(n, time.Millisecond)
		slow := 0
		for ; p.patience(time.Minute) > 30*time.Second && slow < 1000; slow++ {
			p.read(1, 30*time.Second)
		}
		if slow > 4 {
			t.Errorf("after %d octets it sends %d more in half a minute each", n, slow)
		}
	}
}
