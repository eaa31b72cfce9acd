package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// What the grammar does not allow gets a reply of its own and the connection
// stays usable. The octets are sent as they are; codes lists the replies that
// are right, one for each command.
var badLines = []struct {
	name  string
	raw   string
	codes []int
}{
	{"unknown command", "FLY\r\n", []int{500}},
	{"command line too long", "NOOP " + strings.Repeat("x", 100_000) + "\r\n", []int{500}},
	{"NUL in a command", "NO\x00OP\r\n", []int{500, 501}},
	{"bare LF between commands", "NOOP\nNOOP\r\n", []int{500, 501}},
	{"bare CR between commands", "NOOP\rNOOP\r\n", []int{500, 501}},
	{"8-bit command", "N\xd6\xd6P\r\n", []int{500, 501}},
	{"8-bit address without SMTPUTF8", "MAIL FROM:<j\xc3\xb6rg@client.example>\r\n", []int{553, 550, 501}},
	{"no brackets closed", "MAIL FROM:<s@client.example\r\n", []int{501}},
	{"no mailbox", "MAIL FROM:<s@>\r\n", []int{501, 553}},
	{"local part too long", "MAIL FROM:<" + strings.Repeat("x", 65) + "@client.example>\r\n", []int{501, 553}},
	{"unknown parameter", "MAIL FROM:<s@client.example> FOO=bar\r\n", []int{555}},
	{"repeated parameter", "MAIL FROM:<s@client.example> SIZE=1 SIZE=1\r\n", []int{501}},
	{"negative SIZE", "MAIL FROM:<s@client.example> SIZE=-1\r\n", []int{501}},
	{"SIZE of 2^64+1", "MAIL FROM:<s@client.example> SIZE=18446744073709551617\r\n", []int{501, 552}},
	{"BODY of no kind", "MAIL FROM:<s@client.example> BODY=9BIT\r\n", []int{501, 555}},
	{"RCPT before MAIL", "RCPT TO:<user@localhost>\r\n", []int{503}},
	{"DATA before RCPT", "DATA\r\n", []int{503, 554}},
	{"DATA with an argument", "DATA now\r\n", []int{501, 503}},
	{"EHLO without a name", "EHLO\r\n", []int{501}},
	{"relaying for no one", "MAIL FROM:<>\r\nRCPT TO:<@localhost:user%far.example@far.example>\r\nRSET\r\n", []int{250, 550, 250}},
	{"unknown recipient", "MAIL FROM:<>\r\nRCPT TO:<nobody@closed.example>\r\nRSET\r\n", []int{250, 550, 250}},
	{"NOTIFY=NEVER with another", "MAIL FROM:<>\r\nRCPT TO:<u@localhost> NOTIFY=NEVER,DELAY\r\nRSET\r\n", []int{250, 501, 250}},
}

// strict is a server that relays for nobody, with one open domain and one
// where mailboxes are named.
func strict(t *testing.T) *server {
	t.Helper()
	s := newServer(t, "mx.example", localDomain+`
domain "closed.example" {
  mailboxes = ["alice"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
limits { message_size = "100KiB" }
`)
	s.edit(`relay_from = ["127.0.0.0/8"]`, "")
	s.start()
	return s
}

func TestBadLines(t *testing.T) {
	s := strict(t)
	for _, tt := range badLines {
		t.Run(tt.name, func(t *testing.T) {
			c := mustDial(t, s.addr())
			if err := c.raw(tt.raw); err != nil {
				t.Fatal(err)
			}
			for i := range max(1, strings.Count(tt.raw, "\r\n")) {
				r, err := c.read()
				if err != nil {
					t.Fatal(err)
				}
				right := tt.codes
				if strings.Count(tt.raw, "\r\n") > 1 {
					right = tt.codes[i : i+1]
				}
				if !slices.Contains(right, r.code) {
					t.Errorf("reply %d is %v, want one of %v", i+1, r, right)
				}
			}
			if r, err := c.want(250, "NOOP"); err != nil {
				t.Errorf("the connection is not usable afterwards: %v, %v", r, err)
			}
		})
	}
	s.stop()
}

// A content that RFC 5321 does not allow is refused after its true end, and
// nothing of it arrives; what follows a false end is not taken for commands.
func TestBadContent(t *testing.T) {
	s := strict(t)
	smuggled := "MAIL FROM:<evil@client.example>\r\nRCPT TO:<victim@localhost>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
	for _, tt := range []struct {
		name, content string
		codes         []int
	}{
		{"bare LF", "Subject: x\r\n\r\na\nb\r\n", []int{554, 550, 500}},
		{"bare CR", "Subject: x\r\n\r\na\rb\r\n", []int{554, 550, 500}},
		{"NUL", "Subject: x\r\n\r\na\x00b\r\n", []int{554, 550, 500}},
		{"line too long", "Subject: x\r\n\r\n" + strings.Repeat("x", 70_000) + "\r\n", []int{554, 550, 500}},
		{"too large", "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1_200), []int{552}},
		{"LF dot LF", "a\n.\n" + smuggled, []int{554, 550, 500}},
		{"LF dot CRLF", "a\n.\r\n" + smuggled, []int{554, 550, 500}},
		{"CRLF dot LF", "a\r\n.\n" + smuggled, []int{554, 550, 500}},
		{"CR dot CR", "a\r.\r" + smuggled, []int{554, 550, 500}},
		{"CRLF dot CR CRLF", "a\r\n.\r\r\n" + smuggled, []int{554, 550, 500}},
		{"LF dot CRLF at once", "\n.\r\n" + smuggled, []int{554, 550, 500}},
		{"NUL before the dot", "a\r\n\x00.\r\n" + smuggled, []int{554, 550, 500}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustDial(t, s.addr())
			for _, line := range []string{"MAIL FROM:<s@client.example>", "RCPT TO:<bad-content@localhost>"} {
				if _, err := c.want(250, line); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.want(354, "DATA"); err != nil {
				t.Fatal(err)
			}
			if err := c.raw(tt.content + "\r\n.\r\n"); err != nil {
				t.Fatal(err)
			}
			r, err := c.read()
			if err != nil || !slices.Contains(tt.codes, r.code) {
				t.Errorf("the reply is %v, %v, want one of %v", r, err, tt.codes)
			}
			if r, err := c.want(250, "NOOP"); err != nil {
				t.Errorf("the connection is not usable afterwards: %v, %v", r, err)
			}
		})
	}
	mustSubmit(t, s.addr(), mail{"s@client.example", []string{"good@localhost"}, message("good", 100)})
	s.one("localhost", "good")
	s.empty()
	for _, user := range []string{"bad-content", "victim"} {
		if n := len(s.maildir("localhost", user)); n != 0 {
			t.Errorf("%d messages for %s, want none", n, user)
		}
	}
	s.stop()
}

// A line without an end costs no memory, and its sender only.
func TestEndlessLine(t *testing.T) {
	s := strict(t)
	other := mustDial(t, s.addr())
	c := mustDial(t, s.addr())
	before, _ := s.memory()
	block := strings.Repeat("x", 1<<16)
	for range 1024 {
		if c.raw(block) != nil {
			break // it is closed: right as well
		}
	}
	if _, err := other.want(250, "NOOP"); err != nil {
		t.Errorf("another connection suffers: %v", err)
	}
	if err := c.raw("\r\n"); err == nil {
		if r, err := c.read(); err == nil && r.code != 500 && r.code != 421 {
			t.Errorf("the reply is %v, want 500 or 421", r)
		}
	}
	if after, ok := s.memory(); ok && after-before > 32<<20 {
		t.Errorf("64 MiB without a line end made the process grow from %d to %d octets", before, after)
	}
	s.stop()
}

// 20 commands answered 500 to 504 without a message accepted between: 421 and
// the end.
func TestTwentyBadCommands(t *testing.T) {
	s := strict(t)
	c := mustDial(t, s.addr())
	for i := range 20 {
		r, err := c.say(fmt.Sprintf("FLY%d", i))
		if err != nil {
			t.Fatalf("command %d: %v", i+1, err)
		}
		if r.code == 421 && i == 19 {
			if _, err := c.read(); err != io.EOF {
				t.Errorf("after 421 the connection is open: %v", err)
			}
			return
		}
		if r.code != 500 {
			t.Fatalf("command %d: %v, want 500", i+1, r)
		}
	}
	r, err := c.say("NOOP")
	if err == io.EOF {
		t.Fatal("closed without a word")
	}
	if err != nil || r.code != 421 || !strings.HasPrefix(r.text, "4.7.0") {
		t.Fatalf("after 20 bad commands: %v, %v, want 421 4.7.0", r, err)
	}
	if _, err := c.read(); err != io.EOF {
		t.Errorf("after 421 the connection is open: %v", err)
	}
}

// A connection that is lost in the middle of a content leaves no message.
func TestLostConnection(t *testing.T) {
	s := strict(t)
	c := mustDial(t, s.addr())
	for _, line := range []string{"MAIL FROM:<s@client.example>", "RCPT TO:<half@localhost>"} {
		if _, err := c.want(250, line); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.want(354, "DATA"); err != nil {
		t.Fatal(err)
	}
	if err := c.raw("Subject: half\r\n\r\nhalf a message\r\n"); err != nil {
		t.Fatal(err)
	}
	c.close()
	mustSubmit(t, s.addr(), mail{"s@client.example", []string{"whole@localhost"}, message("whole", 100)})
	s.one("localhost", "whole")
	s.empty()
	if n := len(s.maildir("localhost", "half")); n != 0 {
		t.Errorf("half a message was delivered %d times", n)
	}
	s.stop()
}
