package smtpd

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// RFC 3030 2: "If a failure occurs after a BDAT command is received, the receiver-SMTP
// MUST accept and discard the associated message data before sending the appropriate 5XX
// or 4XX code." Else the content would be taken for commands. So it is whatever is wrong,
// in whatever state, and however large the chunk is, also beyond each of our buffers.
func TestRefusedChunks(t *testing.T) {
	open := []string{"EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"}
	for _, c := range []struct {
		name   string
		before []string // each has one answer
		words  string   // behind the size
		early  int      // Data answers so, unread
		limit  int64
		want   string
	}{
		{name: "without EHLO", words: " LAST", want: "503"},
		{name: "after HELO", before: []string{"HELO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"}, words: " LAST", want: "503"},
		{name: "without MAIL", before: open[:1], words: " LAST", want: "503"},
		{name: "MAIL was refused", before: []string{"EHLO x", "MAIL FROM:<later@b>"}, words: " LAST", want: "503"},
		{name: "without RCPT", before: open[:2], words: " LAST", want: "554"},
		{name: "without RCPT, not the last", before: open[:2], want: "554"},
		{name: "RCPT was refused", before: []string{"EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<unknown@d>"}, words: " LAST", want: "554"},
		{name: "wrong words", before: open, words: " FIRST", want: "501"},
		{name: "too large", before: append(open[:3:3], "BDAT 2\r\n"), words: " LAST", limit: 9, want: "552"},
		{name: "behind one that was refused", before: append(open[:3:3], "BDAT 3\r\n\n"), words: " LAST", want: "550"},
		{name: "refused unread", before: open, words: " LAST", early: 550, want: "550"},
		{name: "refused unread, not the last", before: open, early: 450, want: "450"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{8, firstSize, readSize - 1, readSize + 1, contentSize - 1, contentSize, contentSize + 1, 3*contentSize + 1} {
				synctest.Test(t, func(t *testing.T) {
					r := run(t, t.Context(), &Server{Handler: &recorder{early: c.early}, MaxSize: c.limit})
					defer r.stop()
					p := r.dial("192.0.2.1:1")
					defer p.Close()
					p.expect("220")
					for _, line := range c.before {
						p.say("%s", line)
						p.expect("")
					}
					content := strings.Repeat("NOOP\r\n", size/6+1)[:size-2] + "\r\n"
					go io.WriteString(p, fmt.Sprintf("BDAT %d%s\r\n", size, c.words)+content+"VRFY in step\r\n")
					p.expect(c.want)
					p.expect("252")
				})
			}
		})
	}
}

// A first BDAT that is wrong ends the transaction for the session too, which hears of it
// once, whatever follows.
func TestResetBySpoilingChunk(t *testing.T) {
	for _, then := range []string{"", "RSET", "EHLO x", "QUIT", "BDAT 0", "BDAT 0 LAST", "BDAT 0 LAST\r\nRSET", "RSET\r\nNOOP", "BDAT x"} {
		synctest.Test(t, func(t *testing.T) {
			h := &recorder{}
			r := run(t, t.Context(), &Server{Handler: h})
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			go io.Copy(io.Discard, p.in)
			_, _ = io.WriteString(p, rawOpen+"BDAT 3 FOO\r\nabc")
			synctest.Wait()
			want := []string{"open", "hello x true", "mail <a@b>", "rcpt <c@d>", "reset"}
			if got := h.log(); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if then != "" {
				p.say("%s", then)
			}
			synctest.Wait()
			p.Close()
			synctest.Wait()
			if then == "EHLO x" {
				want = append(want, "hello x true")
			}
			if got := h.log(); !slices.Equal(got, append(want, "close")) {
				t.Errorf("%q: %q, want %q", then, got, append(want, "close"))
			}
		})
	}
}
