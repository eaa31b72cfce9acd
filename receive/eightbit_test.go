package receive

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// RFC 6152 3: content with octets over 127 that is for a host without 8BITMIME must be
// converted "into valid 7-bit MIME", or fails. So one of them is to be seen wherever it is,
// in a message of any size and however it is read.
func TestEightBitsAreSeen(t *testing.T) {
	spool := &memSpool{}
	s := start(t, options(spool))
	const head = "Subject: x\r\n\r\n"
	line := bytes.Repeat([]byte("x"), 62)
	text := append([]byte(head), bytes.Repeat(append(line, "\r\n"...), 128<<10/64+1)...)
	for _, edge := range []int{len(head) + 1, 4 << 10, 32 << 10, 64 << 10, 128 << 10} {
		for size := edge - 1; size <= edge+1; size++ {
			for _, place := range []int{-1, 10, len(head), size / 2, size - 1} {
				body, want := text[:size:size], place >= 0 && place < size
				if want {
					body = bytes.Clone(body)
					body[place] = 0xe9
				}
				for _, content := range []io.Reader{bytes.NewReader(body), struct{ io.Reader }{bytes.NewReader(body)}} {
					if r := send(t, s, smtp.MailParams{}, content); !r.Positive() {
						t.Fatal(r)
					}
					if k, _ := spool.last(); k.message.EightBit != want {
						t.Errorf("of %d octets, with one over 127 at %d: EightBit %v", size, place, k.message.EightBit)
					}
					clear(spool.kept)
				}
			}
		}
	}
}

// What we put on top of a message counts as the rest of it does: a From that we add for a
// sender beyond ASCII makes the message one that needs 8BITMIME.
func TestEightBitsOfOurOwn(t *testing.T) {
	for local, want := range map[string]bool{"jurgen": false, "j\u00fcrgen": true} {
		spool := &memSpool{}
		o := options(spool)
		o.Submission = true
		s := start(t, o)
		s.Mail(t.Context(), smtp.Path{Local: local, Domain: "our.example"}, smtp.MailParams{UTF8: true})
		s.Rcpt(t.Context(), alice, smtp.RcptParams{})
		if r := s.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\nx\r\n"))[0]; !r.Positive() {
			t.Fatal(r)
		}
		if k, _ := spool.last(); k.message.EightBit != want {
			t.Errorf("%s: EightBit %v below %q", local, k.message.EightBit, k.head)
		}
	}
}
