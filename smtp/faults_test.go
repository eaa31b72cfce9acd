package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// checkPieces looks at a content by a LineCheck, in pieces.
func checkPieces(pieces ...[]byte) error {
	var l LineCheck
	for _, p := range pieces {
		if err := l.Check(p); err != nil {
			return err
		}
	}
	return l.End()
}

// sendPieces writes a content to a DotWriter, in pieces.
func sendPieces(pieces ...[]byte) (string, error) {
	var b bytes.Buffer
	d := NewDotWriter(&b)
	for _, p := range pieces {
		if _, err := d.Write(p); err != nil {
			return "", err
		}
	}
	err := d.Close()
	return b.String(), err
}

// A fault is seen wherever it stands in a block, however large the block is: what one
// of the three lets through and another does not is taken with 250 and never sent.
// RFC 5321 2.3.8: "SMTP client implementations MUST NOT transmit these characters except
// when they are intended as line terminators".
func TestFaultsAnywhere(t *testing.T) {
	const size = 40 << 10 // more than any of our buffers
	whole := bytes.Repeat([]byte("Some words, and a stop.\r\n"), size/25)
	places := []int{0, 1, len(whole) - 1}
	for n := 1201; n < len(whole); n += 1201 { // each place in a line in its turn
		places = append(places, n)
	}
	for _, fault := range []struct {
		octets string
		err    error
	}{{"\r", ErrBareCR}, {"\n", ErrBareLF}, {"\x00", ErrNUL}} {
		for _, at := range places {
			if whole[at] == '\n' { // not behind a CR
				at--
			}
			content := bytes.Join([][]byte{whole[:at], whole[at:]}, []byte(fault.octets))
			// What stands before a line end together makes one fault or another.
			is := func(err error) bool {
				return errors.Is(err, fault.err) || whole[at] == '\r' && errors.Is(err, ErrBareCR)
			}
			if err := checkPieces(content); !is(err) {
				t.Errorf("LineCheck, %q at %d: %v", fault.octets, at, err)
			}
			if _, err := sendPieces(content); !is(err) {
				t.Errorf("DotWriter, %q at %d: %v", fault.octets, at, err)
			}
			wire := append(content, ".\r\nQUIT"...)
			if got, rest, err := nextDots(wire, 0); !is(err) || rest != "QUIT" || !bytes.HasPrefix(whole, []byte(got)) {
				t.Errorf("Next, %q at %d: %v, rest %.10q", fault.octets, at, err, rest)
			}
			if _, rest, err := readDots(bytes.NewReader(wire), 64<<10, 64<<10); !is(err) || rest != "QUIT" {
				t.Errorf("Read, %q at %d: %v, rest %.10q", fault.octets, at, err, rest)
			}
		}
	}
}

// It does not matter where a content is cut into blocks, nor how large these are.
// RFC 5321 4.5.2: "Before sending a line of mail text, the SMTP client checks the first
// character of the line. If it is a period, one additional period is inserted".
func TestSplitAnywhere(t *testing.T) {
	const lines = "One.\r\n.\r\n..two\r\n\r\n.\r\n.three\r\n"
	for _, lead := range []int{0, 9 << 10, 33 << 10} { // octets before and behind what is cut
		around := strings.Repeat("Some words.\r\n.\r\n", lead/16)
		content := []byte(around + lines + around)
		want := strings.ReplaceAll("\r\n"+string(content), "\r\n.", "\r\n..")[2:] + ".\r\n"
		for n := range lines {
			a, b := content[:len(around)+n], content[len(around)+n:]
			name := fmt.Sprintf("cut at %d, with %d before and behind", n, len(around))
			if got, err := sendPieces(a, b); got != want || err != nil {
				t.Errorf("%s: not what is sent in one: %v", name, err)
			}
			if got, err := sendPieces(a, b[:1], b[1:]); got != want || err != nil {
				t.Errorf("%s, and behind one octet more: not what is sent in one: %v", name, err)
			}
			if err := checkPieces(a, b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			cut := io.MultiReader(strings.NewReader(want[:len(want)-n]), strings.NewReader(want[len(want)-n:]))
			if got, rest, err := readDots(cut, 64<<10, 64<<10); got != string(content) || rest != "" || err != nil {
				t.Errorf("%d octets at the end apart, with %d before: read as another content: %v", n, len(around), err)
			}
		}
	}
}

// RFC 5321 4.2.1: "In a multiline reply, the reply code on each of the lines MUST be the
// same." One of which a line says otherwise decides nothing, whichever line it is.
func TestReplyOfTwoMinds(t *testing.T) {
	for _, code := range []string{"250", "354", "451", "550"} {
		for n := 2; n <= 8; n++ {
			for at := range n {
				var wire strings.Builder
				for i := range n {
					said := code
					if i == at {
						said = map[bool]string{true: "250", false: "554"}[code != "250"]
					}
					wire.WriteString(said + map[bool]string{true: " ", false: "-"}[i == n-1] + "words\r\n")
				}
				r, err := ReadReply(bufio.NewReader(strings.NewReader(wire.String())))
				if !errors.Is(err, ErrReplySyntax) || r != (Reply{}) {
					t.Errorf("%q: %+v, %v", wire.String(), r, err)
				}
			}
		}
	}
}
