package smtpd

import (
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
