package smtpd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/smtp"
)

// falseEndings are what has been taken for the end of a content by one server or
// another, and is not: RFC 5321 4.1.1.4 has CRLF "." CRLF and nothing else.
var falseEndings = []string{
	"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r.\n", "\n.\r", "\r\n.\r\r\n", "\r\r\n.\r\r\n", "\n\n.\n\n", "\n\r.\n\r", "\r\n\r.\r\n",
	"\r\n\n.\r\n", "\r\n.\n\r\n", "\x00\n.\r\n", "\r\x00\n.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n.\r\x00\n", "\r\n. \r\n", "\r\n .\r\n", "\r\n.\t\r\n",
	"\r\n..\r\n", "\r\n.\v\r\n", "\r\n.\x85", "\x85.\x85", "\u2028.\u2028", "\r\n\xef\xbb\xbf.\r\n", "\r\n=2E\r\n", "\r\n.\\r\\n", "\r\n.%0d%0a",
}

// Wherever a false ending stands, at the very start, at the boundary of a buffer or
// past the size limit, the commands behind it are content, the message has one
// reply, and the command after its true end is the next. The same by BDAT, where
// there is no ending at all.
func TestFalseEndings(t *testing.T) {
	const smuggled = "MAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nDATA\r\nsmuggled"
	line := strings.Repeat("x", 62) + "\r\n"
	for _, lead := range []int{0, 1, 2, 250, readSize - 2, readSize - 1, readSize, contentSize - 1, contentSize, 40_000} {
		prefix := strings.Repeat(line, lead/len(line)+1)
		prefix = prefix[len(prefix)-lead:]
		if strings.HasPrefix(prefix, "\n") {
			prefix = "x" + prefix[1:]
		}
		for _, ending := range falseEndings {
			content := prefix + ending + smuggled
			pieces := []int{len(content) + 100}
			if lead < 100 {
				pieces = append(pieces, 1, 3)
			}
			for _, size := range pieces {
				for _, limit := range []int64{0, 30} {
					where := fmt.Sprintf("%q after %d octets, in pieces of %d, limit %d", ending, lead, size, limit)
					wire := "DATA\r\n" + content + "\r\n.\r\nNOOP\r\n"
					smuggle(t, where, wire, 354, size, limit)
					smuggle(t, where+", by BDAT", fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\n", len(content), content), 0, size, limit)
				}
			}
		}
	}
}

// smuggle sends a message as wire has it, and wants what is said in TestFalseEndings.
func smuggle(t *testing.T, where, wire string, first, size int, limit int64) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{}
		r := run(t, context.Background(), &Server{Handler: h, MaxSize: limit})
		defer r.stop()
		client := r.l.dial("192.0.2.1:1")
		defer client.Close()
		in := "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n" + wire + "QUIT\r\n"
		go func() {
			for len(in) > 0 {
				n := min(size, len(in))
				if _, err := io.WriteString(client, in[:n]); err != nil {
					return
				}
				in = in[n:]
			}
		}()
		said := bufio.NewReader(client)
		var codes []int
		for {
			reply, err := smtp.ReadReply(said)
			if err != nil {
				break
			}
			codes = append(codes, reply.Code)
		}
		want := []int{220, 250, 250, 250}
		if first != 0 {
			want = append(want, first)
		}
		n := len(want)
		ok := len(codes) == n+3 && fmt.Sprint(codes[:n]) == fmt.Sprint(want) && codes[n+1] == 250 && codes[n+2] == 221
		if ok && codes[n] != 250 && codes[n] != 550 && codes[n] != 552 || ok && limit > 0 && codes[n] == 250 {
			ok = false
		}
		if log := strings.Join(h.log(), "\n"); !ok || strings.Contains(log, "mail <evil") || strings.Count(log, "\ndata ") != 1 {
			t.Errorf("%s: %v\n%.400s", where, codes, log)
		}
	})
}
