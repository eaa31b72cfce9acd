package smtpd

import (
	"strings"
	"testing"
	"testing/synctest"
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
