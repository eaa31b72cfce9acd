package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
)

// A want is a message that wants something of the next host which it lacks, and
// what becomes of it.
type want struct {
	what   string
	lack   smtp.Extensions
	body   smtp.Extensions // what the content needs
	route  string          // settings
	mail   string          // parameters
	rcpt   string          // local part, and parameters
	more   int             // recipients
	result string
}

// everything is all extensions.
const everything = ^smtp.Extensions(0)

// wants are what the relay does for hosts that lack an extension.
var wants = []want{
	{what: "a plain message", lack: everything, result: "arrives"},
	{what: "a message of 1.2 MB", lack: smtp.ExtChunking, result: "arrives"},
	{what: "any", lack: smtp.ExtPipelining, result: "arrives"},
	{what: "any", lack: smtp.ExtEnhancedStatusCodes, result: "arrives"},
	{what: "any", lack: smtp.ExtSize, result: "arrives"},
	{what: "eight bits", lack: smtp.Ext8BitMIME | smtp.ExtBinaryMIME, body: smtp.Ext8BitMIME, mail: "BODY=8BITMIME", result: "arrives encoded"},
	{what: "eight bits, `downgrade = \"bounce\"`", lack: smtp.Ext8BitMIME | smtp.ExtBinaryMIME, body: smtp.Ext8BitMIME, mail: "BODY=8BITMIME",
		route: `downgrade = "bounce"`, result: "returned with 5.6.3"},
	{what: "binary", lack: smtp.ExtBinaryMIME, body: smtp.ExtBinaryMIME, mail: "BODY=BINARYMIME", result: "arrives encoded"},
	{what: "binary", lack: smtp.ExtBinaryMIME | smtp.Ext8BitMIME | smtp.ExtChunking, body: smtp.ExtBinaryMIME, mail: "BODY=BINARYMIME", result: "arrives encoded"},
	{what: "binary, CHUNKING alone missing", lack: smtp.ExtChunking, body: smtp.ExtBinaryMIME, mail: "BODY=BINARYMIME", result: "arrives encoded"},
	{what: "binary, `downgrade = \"bounce\"`", lack: smtp.ExtBinaryMIME, body: smtp.ExtBinaryMIME, mail: "BODY=BINARYMIME",
		route: `downgrade = "bounce"`, result: "returned with 5.6.3"},
	{what: "a recipient in UTF-8", lack: smtp.ExtSMTPUTF8, mail: "SMTPUTF8", rcpt: "zoë", result: "returned with 5.6.7"},
	{what: "a header in UTF-8", lack: smtp.ExtSMTPUTF8, body: smtp.ExtSMTPUTF8 | smtp.Ext8BitMIME, mail: "SMTPUTF8 BODY=8BITMIME", result: "returned with 5.6.9"},
	{what: "SMTPUTF8 that nothing needs", lack: smtp.ExtSMTPUTF8, mail: "SMTPUTF8", result: "arrives"},
	{what: "NOTIFY=SUCCESS", lack: smtp.ExtDSN, mail: "RET=HDRS ENVID=QQ1", rcpt: "bob NOTIFY=SUCCESS ORCPT=rfc822;bob@x.example", result: "arrives, and a report says relayed"},
	{what: "nine recipients", lack: smtp.ExtLimits, more: 8, result: "arrives"},
	{what: "BY with mode R", mail: "BY=3600;R", lack: smtp.ExtDeliverBy, result: "returned with 5.3.3"},
	{what: "BY with mode N", mail: "BY=3600;N", lack: smtp.ExtDeliverBy, result: "arrives with NOTIFY=FAILURE,DELAY, and a report says relayed"},
	{what: "MT-PRIORITY", mail: "MT-PRIORITY=4", lack: smtp.ExtMTPriority, result: "arrives"},
	{what: "RRVS", rcpt: "bob RRVS=2026-11-22T00:00:00Z", lack: smtp.ExtRRVS, result: "returned with 5.7.19"},
	{what: "RRVS with C", rcpt: "bob RRVS=2026-11-22T00:00:00Z;C", lack: smtp.ExtRRVS, result: "arrives"},
	{what: "`tls = \"opportunistic\"`", lack: smtp.ExtStartTLS, route: `tls = "opportunistic"`, result: "arrives"},
	{what: "`tls = \"require\"`", lack: smtp.ExtStartTLS, route: `tls = "require"`, result: "waits"},
	{what: "a password", lack: smtp.ExtAuth, route: "tls = \"require\"\n  username = \"alice@b.example\"\n  password_file = \"DIR/password\"", result: "waits"},
}

// wantDomain is that of the recipients of a case.
func wantDomain(i int) string { return fmt.Sprintf("x%d.example", i) }

// What a host lacks, it is never sent, and the message takes the way that
// docs/relaying.md says.
func TestMatrixLacks(t *testing.T) {
	h := hostGoSMTP(t)
	conf := ""
	taps := make([]*tap, len(wants))
	for i, w := range wants {
		taps[i] = newTap(t, h.addr, w.lack)
		conf += fmt.Sprintf("route %q {\n  via = \"smtp://%s\"\n  %s\n}\n", wantDomain(i), taps[i].addr, w.route)
	}
	s := newServer(t, "a.example", conf+`
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
queue {
  retry        = ["1s"]
  delay_notice = "0s"
}
`)
	secret(t, filepath.Join(s.dir, "password"), h.password)
	s.start()
	letters := make([]letter, len(wants))
	for i, w := range wants {
		size := 0
		if w.lack == smtp.ExtChunking && w.body == 0 {
			size = 1_200_000
		}
		letters[i] = newLetter(fmt.Sprintf("lacks-%d", i), w.body, size)
		w.give(t, s, i, letters[i])
	}
	for i, w := range wants {
		got := ""
		eventually(t, func() string { return fmt.Sprintf("%s without %s: %s", w.what, w.lack.Keywords(), got) }, func() bool {
			got = w.became(s, h, i, letters[i], taps[i])
			return got == w.result
		})
		all, wrong := taps[i].heard()
		for _, x := range wrong {
			t.Errorf("%s: %s", w.what, x)
		}
		for _, x := range all {
			if both := x.used & w.lack &^ smtp.ExtEnhancedStatusCodes; both != 0 {
				t.Errorf("%s: %s was used and is not offered", w.what, both.Keywords())
			}
		}
	}
	s.stop()
}

// A host that offers DELIVERBY and MT-PRIORITY and wants their parameters with RCPT, as
// go-smtp does, gets the message without them.
func TestMatrixStumbles(t *testing.T) {
	h := hostGoSMTPWith(t, func(srv *gosmtp.Server) { srv.EnableDELIVERBY, srv.EnableMTPRIORITY = true, true })
	s := newServer(t, "a.example", fmt.Sprintf(`
route "*" { via = "smtp://%s" }
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
`, h.addr))
	s.start()
	l := newLetter("stumbles", 0, 0)
	want{what: "go-smtp", mail: "MT-PRIORITY=4 BY=3600;N"}.give(t, s, 0, l)
	eventually(t, says("the message did not come"), func() bool { return len(h.box("bob")) == 1 })
	h.got.mu.Lock()
	notify := h.got.mails[l.name].rcpts[0].Notify
	h.got.mu.Unlock()
	if !slices.Contains(notify, gosmtp.DSNNotifyDelayed) {
		t.Errorf("the host heard NOTIFY=%v, and nobody tells of a delay", notify)
	}
	s.stop()
}

// give submits the message of a case.
func (w want) give(t *testing.T, s *server, i int, l letter) {
	t.Helper()
	rcpt := w.rcpt
	if rcpt == "" {
		rcpt = "bob"
	}
	user, params, _ := strings.Cut(rcpt, " ")
	to := []string{fmt.Sprintf("RCPT TO:<%s@%s> %s", user, wantDomain(i), params)}
	for n := range w.more {
		to = append(to, fmt.Sprintf("RCPT TO:<r%d@%s>", n, wantDomain(i)))
	}
	c, err := dial(s.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	lines := append([]string{"EHLO client.example", strings.TrimSpace(fmt.Sprintf("MAIL FROM:<case%d@a.example> %s", i, w.mail))}, to...)
	for _, line := range lines {
		if _, err := c.want(250, strings.TrimSpace(line)); err != nil {
			t.Fatalf("%s: %v", w.what, err)
		}
	}
	if err := c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(l.content), l.content)); err != nil {
		t.Fatal(err)
	}
	if r, err := c.read(); err != nil || r.code != 250 {
		t.Fatalf("%s: %v, %v", w.what, r, err)
	}
}

// reported is the status in a report.
var reported = regexp.MustCompile(`(?i)\r?\naction: (\w+)\r?\nstatus: ([\d.]+)`)

// became says what has become of it so far.
func (w want) became(s *server, h *host, i int, l letter, p *tap) string {
	if reports := s.maildir("a.example", fmt.Sprintf("case%d", i)); len(reports) > 0 {
		m := reported.FindSubmatch(reports[0])
		switch {
		case m == nil:
			return "a report that cannot be read"
		case string(m[1]) == "failed":
			return "returned with " + string(m[2])
		case !h.kept(l.name):
			return "a report of " + string(m[1])
		}
		return w.arrived(l, p) + ", and a report says " + string(m[1])
	}
	for _, q := range s.queue() {
		switch {
		case q.From != fmt.Sprintf("case%d@a.example", i):
		case q.Recipients[0].Tries > 0 && !h.kept(l.name):
			return "waits"
		default:
			return "is under way"
		}
	}
	if h.kept(l.name) {
		return w.arrived(l, p)
	}
	return "nothing yet"
}

// arrived says how it went over the wire.
func (w want) arrived(l letter, p *tap) string {
	if all, _ := p.heard(); len(all) > 0 {
		all, _ := p.heard()
		switch last := all[len(all)-1]; {
		case strings.Contains(strings.Join(last.rcpts, " "), "NOTIFY=FAILURE,DELAY"):
			return "arrives with NOTIFY=FAILURE,DELAY"
		case bytes.HasSuffix(last.content, l.content):
			return "arrives"
		case bytes.Contains(last.content, []byte("base64")) || bytes.Contains(last.content, []byte("quoted-printable")):
			return "arrives encoded"
		}
		return "arrives changed"
	}
	return "nothing yet"
}

// kept reports whether go-smtp has a message.
func (h *host) kept(name string) bool {
	h.got.mu.Lock()
	defer h.got.mu.Unlock()
	_, ok := h.got.mails[name]
	return ok
}
