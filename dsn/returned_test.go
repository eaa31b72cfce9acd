package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postrider/postrider/smtp"
)

// returning composes a report with RET=FULL, of recipients with these actions, and reads
// it back.
func returning(t *testing.T, original io.Reader, actions ...Action) (Message, *Notice) {
	t.Helper()
	r := failure()
	r.Return, r.Original, r.Recipients = smtp.RetFull, original, nil
	for i, a := range actions {
		r.Recipients = append(r.Recipients, Recipient{Final: smtp.Path{Local: fmt.Sprintf("r%d", i), Domain: "example.net"}, Action: a})
	}
	m := compose(t, r)
	n, err := Parse(bytes.NewReader(m.Content))
	if err != nil {
		t.Fatal(err)
	}
	return m, n
}

// What could be read of an original only in part goes back as no whole message, wherever
// it breaks off: of it the header does.
func TestOriginalBreaksOff(t *testing.T) {
	const head = "Subject: lunch\r\n"
	text := head + "\r\n" + strings.Repeat("a line of text\r\n", ReturnMax/16)
	for _, at := range []int{len(head) + 2, 1000, HeaderMax - 1, HeaderMax, HeaderMax + 1, HeaderMax + 2, 2 * HeaderMax, ReturnMax - 1, ReturnMax, ReturnMax + 1} {
		torn := func() io.Reader {
			return io.MultiReader(strings.NewReader(text[:at]), iotest.ErrReader(errors.New("bad block")))
		}
		for _, original := range []io.Reader{torn(), iotest.DataErrReader(torn())} {
			if m, n := returning(t, original, Failed); n.Full || string(n.Returned) != head || bytes.Contains(m.Content, []byte("message/rfc822")) {
				t.Errorf("of an original that breaks off at %d came back %d octets as a whole message: %v", at, len(n.Returned), n.Full)
			}
		}
	}
}

// RFC 2045 2.8: also in 8-bit data "CR and LF octets only occur as part of CRLF line
// separation sequences and no NULs are allowed". So a message with one such octet, at any
// place, is not returned in full, and its report can be sent to anybody.
func TestBinaryIsNotReturned(t *testing.T) {
	for _, base := range []string{"A: b\r\n\r\nx\r\n\r\n.yz\r\n", "A: \xc3\xb6\r\n\r\nx\r\ny", "\r\n\xf6\xf6\r\nx\r\n\r\n\xf6\r\n"} {
		if _, n := returning(t, strings.NewReader(base), Failed); string(n.Returned) != base || !n.Full {
			t.Errorf("of %q came back %q", base, n.Returned)
		}
		for at := range len(base) + 1 {
			for _, octet := range []string{"\r", "\n", "\x00"} {
				original := base[:at] + octet + base[at:]
				if _, n := returning(t, strings.NewReader(original), Failed); n.Full {
					t.Errorf("%q is returned in full", original)
				}
			}
		}
	}
}

// RFC 2045 2.7 and 2.8: lines are of "998 octets or less", and then CRLF; one that is wider
// is in no message that goes back in full, whatever octets are before, in and after it, and
// whether it has an end or not.
func TestWideLinesAreNotReturned(t *testing.T) {
	const ascii, eight = "plain\r\n", "\xe9t\xe9\r\n"
	for width := smtp.TextMax - 4; width <= smtp.TextMax+1; width++ {
		for _, c := range []string{"x", "\xe9"} {
			for _, before := range []string{"", ascii, eight} {
				for _, after := range []string{"", "\r\n", "\r\n" + ascii, "\r\n" + eight} {
					original := "A: b\r\n\r\n" + before + strings.Repeat(c, width) + after
					_, n := returning(t, strings.NewReader(original), Failed)
					want := original
					if width > smtp.TextMax-len("\r\n") {
						want = "A: b\r\n"
					}
					if string(n.Returned) != want || n.Full != (want == original) {
						t.Errorf("with a line of %d octets of %q, behind %q and before %q, came back %d octets, full: %v", width, c, before, after, len(n.Returned), n.Full)
					}
				}
			}
		}
	}
}

// RFC 2045 6.4: a multipart that holds 8-bit data must not say that it is 7-bit; and the
// queue must know, for hosts without 8BITMIME (RFC 6152 3). This is so of few recipients
// and of many.
func TestEightBitsAreTold(t *testing.T) {
	const label = "\r\nContent-Transfer-Encoding: 8bit\r\n"
	for _, n := range []int{1, 2, 3, 4, 10, wordsMax, wordsMax + 1, 1000} {
		actions := make([]Action, n)
		for i := range actions {
			actions[i] = Failed
		}
		for content, eight := range map[string]bool{original: false, original + "\xe9\r\n": true} {
			m, _ := returning(t, strings.NewReader(content), actions...)
			head, _, _ := bytes.Cut(m.Content, []byte("\r\n\r\n"))
			if labelled := bytes.Contains(append(head, "\r\n"...), []byte(label)); m.EightBit != eight || labelled != eight {
				t.Errorf("of %d recipients, of a message with 8 bit, %v: EightBit %v, labelled %v", n, eight, m.EightBit, labelled)
			}
		}
	}
}

// RFC 3461 6.2: RET=FULL counts "for any DSN which conveys notification of delivery
// failure", of whichever recipient that is.
func TestFullForAnyFailure(t *testing.T) {
	for _, n := range []int{1, 2, 3, 101} {
		for _, other := range []Action{Delayed, Delivered, Relayed, Expanded} {
			for _, failed := range []int{-1, 0, n / 2, n - 1} {
				actions := make([]Action, n)
				for i := range actions {
					if actions[i] = other; i == failed {
						actions[i] = Failed
					}
				}
				if _, got := returning(t, strings.NewReader(original), actions...); got.Full != (failed >= 0) {
					t.Errorf("of %d recipients, %s but for number %d, which failed: full %v", n, other, failed, got.Full)
				}
			}
		}
	}
}

// RFC 3464 1.2: a report conveys "the result of the attempt to deliver the message to each
// of one or more recipients", however many they are and of how many the words for people
// tell.
func TestEveryRecipientHasItsFields(t *testing.T) {
	for _, n := range []int{1, 2, wordsMax - 1, wordsMax, wordsMax + 1, 250, 1000} {
		kinds := []Action{Failed, Delayed, Delivered, Relayed, Expanded}
		var actions []Action
		for i := range n {
			actions = append(actions, kinds[i*len(kinds)/n])
		}
		_, got := returning(t, strings.NewReader(original), actions...)
		if len(got.Recipients) != n {
			t.Errorf("of %d recipients the report has %d", n, len(got.Recipients))
		}
		for i, r := range got.Recipients {
			if want := fmt.Sprintf("r%d@example.net", i); r.Final.String() != want || r.Action != actions[i] {
				t.Errorf("of %d recipients number %d is %s, %s, want %s, %s", n, i, r.Final, r.Action, want, actions[i])
				break
			}
		}
	}
}
