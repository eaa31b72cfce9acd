package sim

import (
	"bytes"
	"io"
	"mime/quotedprintable"
)

// encodedHead are the fields by which a text that nobody has described becomes one
// of seven bits.
const encodedHead = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n"

// intact reports whether a letter came as it was sent, below fields of ours. Where
// the one who took it does not take octets of eight bits, it may have come encoded,
// and RFC 6152 3 asks that the conversion "cause no loss of information": what it
// decodes to is then what was sent.
func intact(came, sent []byte, sevenBit bool) bool {
	if bytes.HasSuffix(came, sent) {
		return true
	}
	if !sevenBit || !bytes.ContainsFunc(sent, func(r rune) bool { return r >= 0x80 }) {
		return false
	}
	head, body, ok := bytes.Cut(came, []byte("\r\n\r\n"))
	sentHead, sentBody, sentOK := bytes.Cut(sent, []byte("\r\n\r\n"))
	head, encoded := bytes.CutSuffix(append(bytes.Clone(head), "\r\n"...), []byte(encodedHead))
	if !ok || !sentOK || !encoded || !bytes.HasSuffix(head, append(bytes.Clone(sentHead), "\r\n"...)) {
		return false
	}
	plain, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(body)))
	return err == nil && bytes.Equal(plain, sentBody)
}
