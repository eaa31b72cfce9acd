package receive

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/smtp"
)

// RFC 5321 6.1: "a receiver-SMTP MUST seek to minimize the time required to respond to
// the final <CRLF>.<CRLF> end of data indicator": it takes as long as the spool does, and
// nobody else is waited for.
func TestFinalReplyWaitsForTheSpoolAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, slow := range []time.Duration{0, 3 * time.Second} {
			o := options(&memSpool{committing: func() { time.Sleep(slow) }})
			o.Data = policy.Standard(policy.Options{}).Data
			s := start(t, o)
			began := time.Now()
			if r := send(t, s, smtp.MailParams{}, strings.NewReader("x\r\n")); !r.Positive() || time.Since(began) != slow {
				t.Errorf("%v after %v, where the spool took %v", r, time.Since(began), slow)
			}
		}
	})
}
