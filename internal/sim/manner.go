package sim

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A Manner is how a sender that is no client of ours puts a letter on the wire. Its
// octets go out in pieces, each of which the server reads by itself.
type Manner struct {
	// Stop is how many octets of the content, as it is on the wire, are sent before
	// the sender is gone for good; zero: all. Negative: so many less than all.
	Stop  int
	Abort bool // gone with a reset; else it closes in good order, as far as it knows
	// Pieces are the octets that are sent at once, one size after the other, again
	// and again, up to piecesFor octets. None: all at once.
	Pieces []int
	Lines  int    // whole lines are sent at once, up to so many octets; zero: it does not look at lines
	Apart  string // cuts the content where it hurts
	LMTP   bool   // it speaks LMTP
}

// SenderFaults are the kinds of faults of senders.
var SenderFaults = []string{"cut_off", "in_pieces"}

// Where a Manner cuts a content apart.
const (
	apartCR  = "\r"   // between CR and LF
	apartDot = "\n."  // between a dot at the beginning of a line and what follows
	apartEnd = "\r\n" // before the first octet of each line
)

// piecesFor is how much of a content is cut into pieces.
const piecesFor = 6 << 10

// stops are the octets after which senders are lost: where a reader fills its
// buffer, and around that.
var stops = []int{300, 1024, 1025, 1500, 2048, 4095, 4096, 4097, 4400, 8192, 16 << 10, 32<<10 - 1, 32 << 10, 32<<10 + 1, 36 << 10, 64 << 10,
	-1, -2, -3, -4, -5}

// mannersOf is how many letters of each kind a plan has: those that are cut off,
// those in pieces, and those that are full of dots.
const (
	cutOffs  = 8
	inPieces = 6
	dotted   = 2
)

// manners adds the letters of senders that are no clients of ours.
func (p *Plan) manners(rng *rand.Rand) {
	to := func() []string {
		at := places[rng.IntN(4)] // where mail can only be delivered
		u := rng.Perm(len(at.users))
		all := []string{at.users[u[0]] + "@" + at.domain, at.users[u[1]] + "@" + at.domain}
		return all[:1+rng.IntN(2)]
	}
	for range cutOffs {
		m := &Manner{Stop: stops[rng.IntN(len(stops))], Abort: rng.IntN(3) == 0}
		if rng.IntN(3) == 0 {
			m.Pieces = []int{1 + rng.IntN(1460)}
		}
		p.add(rng, Letter{Manner: m, To: to(), Size: max(m.Stop, 1200) + 200 + rng.IntN(3000), Tries: 1})
	}
	for range inPieces {
		m := &Manner{}
		switch i := rng.IntN(6); i {
		case 0, 1, 2:
			m.Apart = []string{apartCR, apartDot, apartEnd}[i]
		case 3:
			m.Lines = []int{500, 1024, 1460, 4096}[rng.IntN(4)]
		default:
			m.Pieces = [][]int{{1}, {1, 2}, {3, 1}, {2, 5, 1}, {1023, 1}, {1460}}[rng.IntN(6)]
		}
		p.add(rng, Letter{Manner: m, To: to(), Size: 600 + rng.IntN(3000), Tries: 3})
	}
	for range dotted {
		far := []string{"u1@p1.example", "f1@far.example", []string{"ben@b.example", "cid@c.example"}[rng.IntN(2)]}
		p.add(rng, Letter{Dots: true, To: far[rng.IntN(2):], Server: "a", Size: 36<<10 + rng.IntN(40<<10), Tries: 3})
	}
}

// add puts one more letter into a plan, at some time while there is trouble.
func (p *Plan) add(rng *rand.Rand, l Letter) {
	l.N = len(p.Letters)
	if l.By == "" {
		l.By = "sender"
	}
	if l.Server == "" {
		l.Server = []string{"a", "b"}[rng.IntN(2)]
	}
	l.At = dawn + time.Duration(rng.Int64N(int64(trouble-time.Hour)))
	p.Letters = append(p.Letters, l)
}

// dots writes a body that is all lines which begin with dots, so that one of them
// lies across each edge of whoever handles it in blocks.
func dots(rng *rand.Rand, size int) string {
	var body strings.Builder
	for body.Len() < size {
		body.WriteString([]string{".\r\n", ".\r\n", "..\r\n", "...\r\n", ".x\r\n"}[rng.IntN(5)])
	}
	return body.String()
}

// A rude client speaks SMTP in the manner of a letter.
type rude struct {
	c *conn
	r *bufio.Reader
	m *Manner
	n int // pieces sent
}

// rudely offers a letter over a connection in its manner.
func (s *Site) rudely(c *conn, l *Letter, e *Entry, to []string) (res smtpc.Result) {
	defer c.Close()
	res.Rcpts = make([]smtp.Reply, len(to))
	d := &rude{c: c, r: bufio.NewReader(c), m: l.Manner}
	hello, from := "EHLO ", "<sender@a.example>"
	if d.m.LMTP {
		hello = "LHLO "
	}
	if l.Null {
		from = "<>"
	}
	if !d.reply().Positive() || !d.ask(hello+l.By+".example").Positive() {
		return res
	}
	if res.Mail = d.ask("MAIL FROM:" + from); !res.Mail.Positive() {
		return res
	}
	for i := range to {
		if res.Rcpts[i] = d.ask("RCPT TO:<" + to[i] + ">"); res.Rcpts[i].Code == 0 {
			return res
		}
	}
	if res.Accepted() == 0 {
		d.ask("QUIT")
		return res
	}
	if res.Data = d.ask("DATA"); !res.Data.Intermediate() {
		return res
	}
	wire := append(stuffed(e.Content), ".\r\n"...)
	if stop := d.m.Stop; stop != 0 {
		if stop < 0 {
			stop += len(wire)
		}
		d.write(wire[:min(stop, len(wire)-1)])
		if d.m.Abort {
			time.Sleep(time.Second) // what was sent has arrived
			c.abort()
		}
		s.fault("cut_off", l.By)
		return res
	}
	s.fault("in_pieces", l.By)
	sent := d.write(wire)
	if res.Final = d.reply(); res.Final.Code == 0 {
		res.Uncertain = sent
	}
	for i := 1; d.m.LMTP && i < res.Accepted(); i++ { // the others are the same, for what is kept is kept for all
		d.reply()
	}
	d.ask("QUIT")
	return res
}

// stuffed is a content with the dots of RFC 5321 4.5.2.
func stuffed(content []byte) []byte {
	if bytes.HasPrefix(content, []byte(".")) {
		content = append([]byte("."), content...)
	}
	return bytes.ReplaceAll(content, []byte("\r\n."), []byte("\r\n.."))
}

// write sends octets in pieces, and reports whether all were sent.
func (d *rude) write(b []byte) bool {
	d.c.SetDeadline(time.Now().Add(10 * time.Minute))
	for done := 0; done < len(b); {
		n := d.piece(b[done:], done)
		if _, err := d.c.Write(b[done : done+n]); err != nil {
			return false
		}
		done += n
	}
	return true
}

// piece is how many octets of b go next, after so many.
func (d *rude) piece(b []byte, done int) int {
	switch {
	case done >= piecesFor:
		return len(b)
	case d.m.Lines > 0 && len(b) > d.m.Lines:
		return 1 + bytes.LastIndexByte(b[:d.m.Lines], '\n')
	case d.m.Apart != "":
		if i := bytes.Index(b, []byte(d.m.Apart)); i >= 0 {
			return i + len(d.m.Apart)
		}
		return len(b)
	case len(d.m.Pieces) > 0:
		d.n++
		return min(len(b), d.m.Pieces[d.n%len(d.m.Pieces)])
	}
	return len(b)
}

// ask sends a command and returns the reply; the zero Reply where there is none.
func (d *rude) ask(line string) smtp.Reply {
	d.c.SetDeadline(time.Now().Add(5 * time.Minute))
	if _, err := d.c.Write([]byte(line + "\r\n")); err != nil {
		return smtp.Reply{}
	}
	return d.reply()
}

// reply reads one reply: its code, and its last line.
func (d *rude) reply() smtp.Reply {
	d.c.SetDeadline(time.Now().Add(10 * time.Minute))
	for {
		line, err := d.r.ReadString('\n')
		if err != nil || len(line) < 4 {
			return smtp.Reply{}
		}
		if code, err := strconv.Atoi(line[:3]); err != nil || line[3] != '-' {
			return smtp.Reply{Code: code, Text: strings.TrimSpace(line[3:])}
		}
	}
}

// String tells a manner as a line of a story does.
func (m *Manner) String() string {
	if m == nil {
		return "politely"
	}
	return fmt.Sprintf("stop %d abort %v pieces %v lines %d apart %q", m.Stop, m.Abort, slices.Clone(m.Pieces), m.Lines, m.Apart)
}
