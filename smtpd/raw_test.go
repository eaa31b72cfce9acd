package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/smtp"
)

// A raw case is what a client sends, and what must come of it.
type rawCase struct {
	name  string
	in    string // after the greeting; then the client says no more and closes
	size  int    // of the pieces; 0: at once
	codes string // of the replies, "*" for any more
	data  string // the contents that the sessions were given, quoted, a line each
}

const rawOpen = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"

// TestRawCases: octets as a hostile or hasty client may send them. It says how many
// cases there are, here and in the dialogues and false endings beside it.
func TestRawCases(t *testing.T) {
	total := 0
	for _, family := range []struct {
		name  string
		cases []rawCase
	}{
		{"dots at the boundaries of buffers", rawDots()},
		{"groups with failures in the middle", rawGroups()},
		{"connections lost in a message", rawLost()},
	} {
		for _, c := range family.cases {
			rawPlay(t, c)
		}
		t.Logf("%d %s", len(family.cases), family.name)
		total += len(family.cases)
	}
	injected := rawSTARTTLS(t)
	t.Logf("%d commands behind STARTTLS", injected)
	files, _ := filepath.Glob("testdata/*.txt")
	total += injected + len(files)
	t.Logf("%d raw cases, with %d dialogues; and %d false endings at many places", total, len(files), len(falseEndings))
	if total < 500 {
		t.Errorf("only %d cases", total)
	}
}

// rawPlay sends a case to a server.
func rawPlay(t *testing.T, c rawCase) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{}
		r := run(t, context.Background(), &Server{Handler: h, MaxErrors: 100})
		defer r.stop()
		client := r.l.dial("192.0.2.1:1")
		said := make(chan string, 1)
		go func() {
			b := bufio.NewReader(client)
			var codes []string
			for {
				reply, err := smtp.ReadReply(b)
				if err != nil {
					break
				}
				codes = append(codes, fmt.Sprint(reply.Code))
			}
			said <- strings.Join(codes, " ")
		}()
		size := c.size
		if size == 0 {
			size = len(c.in)
		}
		for in := c.in; len(in) > 0; {
			n := min(size, len(in))
			if _, err := io.WriteString(client, in[:n]); err != nil {
				break
			}
			in = in[n:]
		}
		synctest.Wait()
		client.Close()
		codes := <-said
		synctest.Wait()
		var data []string
		for _, call := range h.log() {
			if b, ok := strings.CutPrefix(call, "data "); ok && strings.HasPrefix(b, `"`) {
				data = append(data, b)
			}
		}
		want, more := strings.CutSuffix(c.codes, "*")
		if codes != want && (!more || !strings.HasPrefix(codes, want)) {
			t.Errorf("%s: %s, want %s", c.name, codes, c.codes)
		}
		if got := strings.Join(data, "\n"); got != c.data {
			t.Errorf("%s: the sessions got %.200s, want %.200s", c.name, got, c.data)
		}
	})
}

// rawDots put lines that begin with a dot, and the end, across each boundary of a
// buffer, counted from the first octet of the connection and of the content.
func rawDots() []rawCase {
	var all []rawCase
	filler := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 600)
	for _, boundary := range []int{readSize, 2 * readSize, contentSize} {
		for _, base := range []int{0, len(rawOpen + "DATA\r\n")} {
			for delta := -6; delta <= 2; delta++ {
				lead := filler[len(filler)-(boundary-base+delta):]
				if strings.HasPrefix(lead, "\n") {
					lead = "x" + lead[1:]
				}
				for _, line := range []string{".", "..", ".x", "...\r\n.", ""} {
					content := lead + line + "\r\n"
					if line == "" {
						content = lead
					}
					wire := strings.ReplaceAll(content, "\r\n.", "\r\n..") + ".\r\n"
					for _, size := range []int{0, boundary} {
						all = append(all, rawCase{
							name: fmt.Sprintf("%q at %d%+d of %d, in pieces of %d", line, base, delta, boundary, size),
							in:   rawOpen + "DATA\r\n" + wire + "NOOP\r\nQUIT\r\n", size: size,
							codes: "220 250 250 250 354 250 250 221", data: fmt.Sprintf("%q", content),
						})
					}
				}
			}
		}
	}
	return all
}

// rawGroups are pipelined transactions in which any command may be refused. What is
// in a chunk is no command, whatever was refused before it.
func rawGroups() []rawCase {
	const content = "RSET\r\nQUIT\r\n"
	var all []rawCase
	for _, mail := range []struct{ line, code string }{
		{"MAIL FROM:<a@b>", "250"}, {"MAIL FROM:<refused@b>", "550"}, {"MAIL FROM:<later@b>", "451"}, {"MAIL FROM:<a@b> X=1", "555"},
	} {
		for pick := range 9 {
			rcpts := [][2]string{{"RCPT TO:<c@d>", "250"}, {"RCPT TO:<unknown@d>", "550"}, {"RCPT TO:<later@d>", "451"}}
			picked := [][2]string{rcpts[pick/3], rcpts[pick%3]}
			lines, codes, taken := "EHLO x\r\n"+mail.line+"\r\n", "220 250 "+mail.code, false
			for _, p := range picked {
				lines += p[0] + "\r\n"
				if mail.code != "250" {
					p[1] = "503"
				}
				codes += " " + p[1]
				taken = taken || p[1] == "250"
			}
			verdict, data := "250", fmt.Sprintf("%q", content)
			switch {
			case mail.code != "250":
				verdict, data = "503", ""
			case !taken:
				verdict, data = "554", ""
			}
			chunk := fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content)
			two := fmt.Sprintf("BDAT 6\r\n%sBDAT %d LAST\r\n%s", content[:6], len(content)-6, content[6:])
			dot, replies := "DATA\r\n", verdict
			if taken && mail.code == "250" {
				dot, replies = "DATA\r\n"+content+".\r\n", "354 250"
			}
			for name, how := range map[string][2]string{"DATA": {dot, replies}, "BDAT": {chunk, verdict}, "two BDAT": {two, verdict + " " + verdict}} {
				for _, size := range []int{0, 1} {
					all = append(all, rawCase{name: fmt.Sprintf("%s, %s, %s, %s, in pieces of %d", mail.line, picked[0][0], picked[1][0], name, size),
						in: lines + how[0] + "NOOP\r\nQUIT\r\n", size: size, codes: codes + " " + how[1] + " 250 221", data: data})
				}
			}
		}
	}
	return all
}

// rawLost cut a message off behind each of its octets: before its end it is none.
func rawLost() []rawCase {
	const content = "Subject: x\r\n\r\n.\r\nhalf of it\r\n"
	var all []rawCase
	for _, wire := range []string{
		"DATA\r\n" + strings.ReplaceAll(content, "\r\n.", "\r\n..") + ".\r\n",
		fmt.Sprintf("BDAT %d LAST\r\n%s", len(content), content),
		fmt.Sprintf("BDAT 15\r\n%sBDAT %d LAST\r\n%s", content[:15], len(content)-15, content[15:]),
		fmt.Sprintf("BDAT %d\r\n%sBDAT 0 LAST\r\n", len(content), content),
	} {
		for n := range len(wire) + 1 {
			c := rawCase{name: fmt.Sprintf("%q", wire[:n]), in: rawOpen + wire[:n], codes: "220 250 250 250*"}
			if n == len(wire) {
				c.data = fmt.Sprintf("%q", content)
			}
			all = append(all, c)
		}
	}
	return all
}

// rawSTARTTLS sends each verb behind STARTTLS, in the clear: none is answered, and
// none reaches a session.
func rawSTARTTLS(t *testing.T) int {
	n := 0
	for _, before := range []string{"", "NOOP\r\n", "MAIL FROM:<a@b>\r\nRSET\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRSET\r\n"} {
		for _, line := range []string{
			"EHLO evil", "HELO evil", "LHLO evil", "MAIL FROM:<evil@b>", "RCPT TO:<evil@b>", "DATA", "evil\r\n.", "BDAT 4 LAST\r\nevil", "RSET", "NOOP evil",
			"QUIT", "VRFY evil", "EXPN evil", "HELP evil", "ETRN evil", "AUTH PLAIN AGV2aWwAZXZpbA==", "STARTTLS", "\x16\x03\x01", "EHLO evil\r\nMAIL FROM:<evil@b>\r\nQUIT",
		} {
			n++
			synctest.Test(t, func(t *testing.T) {
				h := &recorder{}
				r := run(t, t.Context(), &Server{Handler: h, TLS: testConfig})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				defer p.Close()
				p.expect("220")
				for said := range strings.SplitAfterSeq("HELO x\r\n"+before, "\r\n") {
					if said != "" {
						p.say(strings.TrimSuffix(said, "\r\n"))
						p.expect("250")
					}
				}
				p.say("STARTTLS\r\n" + line)
				p.expect("220")
				p.handshake(nil)
				p.say("NOOP")
				p.expect("250 2.0.0 OK")
				p.say("MAIL FROM:<good@b>")
				p.expect("503")
				p.say("QUIT")
				p.expect("221")
				p.ended()
				if log := strings.Join(h.log(), "\n"); strings.Contains(log, "evil") || strings.Contains(log, "auth") {
					t.Errorf("%q behind STARTTLS: the sessions saw\n%s", line, log)
				}
			})
		}
	}
	return n
}
