package load

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// A corpus is random text that the bodies of all messages are windows of.
type corpus struct {
	text []byte // lines of lineLen octets
	size int64  // of a whole content
	head []byte // all of the header section but the number of the message
	seed uint64
}

const (
	lineLen = 78      // with CR LF
	windows = 1 << 10 // different beginnings of a body
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	// numberLen is how many digits the number of a message has in its header.
	numberLen = 12
)

// SizeMin is how many octets the content of a message has at least.
const SizeMin = 256

func newCorpus(seed uint64, size int64, now time.Time) *corpus {
	rng := rand.New(rand.NewPCG(seed, 1))
	text := make([]byte, (size/lineLen+windows+2)*lineLen)
	for i := range text {
		switch i % lineLen {
		case lineLen - 2:
			text[i] = '\r'
		case lineLen - 1:
			text[i] = '\n'
		default:
			text[i] = letters[rng.IntN(len(letters))]
		}
	}
	head := fmt.Sprintf("From: Load <load@bench.example>\r\nTo: undisclosed-recipients:;\r\nDate: %s\r\nSubject: load\r\nMessage-ID: <%016x.",
		now.Format("Mon, 02 Jan 2006 15:04:05 -0700"), seed)
	return &corpus{text: text, size: size, head: []byte(head), seed: seed}
}

const headEnd = "@bench.example>\r\n\r\n"

// header appends the header section of message n.
func (c *corpus) header(b []byte, n int) []byte {
	b = append(b, c.head...)
	digits := len(b)
	b = append(b, "000000000000"...)
	for i, k := digits+numberLen-1, n; i >= digits && k > 0; i, k = i-1, k/10 {
		b[i] = byte('0' + k%10)
	}
	return append(b, headEnd...)
}

// body is that of message n, without the CR LF at its end: whole lines and the
// beginning of one, none of which begins with a dot.
func (c *corpus) body(n int) []byte {
	length := int(c.size) - len(c.head) - numberLen - len(headEnd) - len("\r\n")
	begin := int(mix(c.seed, uint64(n))%windows) * lineLen
	b := c.text[begin : begin+length]
	if b[length-1] == '\r' { // of a CR LF that is cut in two
		b = b[:length-1]
	}
	return b
}

// length is how many octets of content message n has.
func (c *corpus) length(n int) int64 {
	return int64(len(c.head) + numberLen + len(headEnd) + len(c.body(n)) + len("\r\n"))
}

// content appends message n and the final dot, and returns how many octets of it
// are content.
func (c *corpus) content(b []byte, n int) (whole []byte, octets int64) {
	was := len(b)
	b = append(c.header(b, n), c.body(n)...)
	b = append(b, "\r\n"...)
	octets = int64(len(b) - was)
	return append(b, ".\r\n"...), octets
}

// mix is a number that looks random and depends on nothing but its arguments.
func mix(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// chance is mix as a number from 0 to 1, without 1.
func chance(seed, n uint64) float64 { return float64(mix(seed, n)>>11) / (1 << 53) }

// A pattern is an address in which each "%d" is a number.
type pattern []string

// appendTo writes the address with its numbers: the first, and those after it.
func (p pattern) appendTo(b []byte, first, others int) []byte {
	for i, s := range p {
		switch {
		case i == 1:
			b = strconv.AppendInt(b, int64(first), 10)
		case i > 1:
			b = strconv.AppendInt(b, int64(others), 10)
		}
		b = append(b, s...)
	}
	return b
}
