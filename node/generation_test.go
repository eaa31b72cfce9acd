package node

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A MAIL that is refused leaves nothing of the configuration under which it was: the next
// on the same connection is under the one that holds then. Who may not relay any more
// relays nothing, and mailboxes are those of now.
func TestReloadAfterARefusedMail(t *testing.T) {
	dir := t.TempDir()
	w, f := reloadable(t, conf(dir, `listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.1"]
}
domain "old.example" { mailboxes = ["*"] }`))
	c := talk(t, w.Addr("mx"))
	c.say("EHLO x.example", "250")
	c.say("MAIL FROM:<s@a\u05d0b.example> SMTPUTF8", "550 5.1.8") // RFC 5893 2: no label mixes the directions so
	f.write(conf(dir, mx+`domain "new.example" { mailboxes = ["*"] }`))
	if later, err := w.Reload(t.Context()); err != nil || len(later) != 0 {
		t.Fatal(later, err)
	}
	c.say("MAIL FROM:<s@x.example>", "250")
	c.say("RCPT TO:<u@far.example>", "550 5.7.1")
	c.say("RCPT TO:<u@old.example>", "550")
	c.say("RCPT TO:<u@new.example>", "250")
	c.say("QUIT", "221")
}

// A reload that changes how many recipients a message may have holds for who connects
// from then on. RFC 5321 4.5.3.1.10: "If an SMTP server has an implementation limit on the
// number of RCPT commands and this limit is exhausted, it MUST use a response code of 452".
func TestReloadChangesRecipients(t *testing.T) {
	dir := t.TempDir()
	text := func(most int) string {
		return conf(dir, mx+fmt.Sprintf("domain \"a.example\" { mailboxes = [\"*\"] }\nlimits { recipients = %d }\n", most))
	}
	w, f := reloadable(t, text(3))
	for i, most := range []int{3, 5, 2} {
		if i > 0 {
			f.write(text(most))
			if later, err := w.Reload(t.Context()); err != nil || len(later) != 0 {
				t.Fatal(later, err)
			}
		}
		c := talk(t, w.Addr("mx"))
		c.say("EHLO x.example", "250")
		c.say("MAIL FROM:<s@x.example>", "250")
		for n := range most {
			c.say(fmt.Sprintf("RCPT TO:<u%d@a.example>", n), "250")
		}
		c.say("RCPT TO:<more@a.example>", "452 4.5.3")
		c.say("QUIT", "221")
	}
}

// Mail is tried as long as expire says, and mail that nobody hears of, with the null
// reverse-path, as long as expire_bounce says, whichever of them is longer.
func TestNullReversePathHasItsOwnLife(t *testing.T) {
	const short, long = 6 * time.Hour, 48 * time.Hour
	for _, tt := range []struct{ expire, bounce time.Duration }{{short, long}, {long, short}} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			disk.SetHook(func(op vfs.Op) error {
				if strings.Contains(op.Name, "mail/") && op.Kind.Changes() {
					return syscall.ENOSPC // no attempt delivers
				}
				return nil
			})
			var s *still
			s = startStill(t, disk, func() (*config.Config, error) {
				next := *s.cfg
				next.Queue.Expire, next.Queue.ExpireBounce = tt.expire, tt.bounce
				return &next, nil
			})
			if _, err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for _, from := range []smtp.Path{{}, mailbox(t, "bob@our.example")} {
				l := admin.Letter{From: from, To: []smtp.Path{mailbox(t, "alice@our.example")}, Content: strings.NewReader("Subject: x\r\n\r\nx\r\n")}
				if r, _ := s.submit(t.Context(), l); !r.Positive() {
					t.Errorf("from <%s>: %v", from, r)
				}
			}
			time.Sleep(short + long)
			synctest.Wait()
			for from, want := range map[string]time.Duration{"<>": tt.bounce, "<bob@our.example>": tt.expire} {
				if got := s.life(from, "<alice@our.example>", began); got < want || got > want+time.Minute {
					t.Errorf("expire %v, expire_bounce %v: mail from %s was given up after %v", tt.expire, tt.bounce, from, got)
				}
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// life is how long after began the log says that a recipient was given up; negative: it
// does not.
func (s *still) life(from, to string, began time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		if line["msg"] == "recipient" && line["from"] == from && line["to"] == to && line["status"] == "failed" {
			at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["time"]))
			if err != nil {
				s.t.Error(err)
			}
			return at.Sub(began)
		}
	}
	return -1
}
