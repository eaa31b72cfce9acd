package conformance

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// Bounds of what is read of a server. It is asked for nothing that needs more.
const (
	lineMax    = 64 << 10
	linesMax   = 1000
	repliesMax = 32 // in one step that counts replies
)

// A dialogue is one connection of one case.
type dialogue struct {
	ctx   context.Context
	t     *Target
	c     *Case
	watch *watch
	log   transcript

	nc      net.Conn
	in      *bufio.Reader
	dialErr error
	tls     bool
	mark    string            // the subject of the message
	arrived []byte            // with CRLF
	last    reply             // the one that was heard last
	offers  map[string]string // of the last EHLO: keyword in upper case, parameters
	content bool              // QUIT would not be heard: content is due, or nothing works any more
	hello   bool              // what was sent last holds an EHLO or HELO
	first   bool              // no reply was heard yet: the next is the greeting
	status  bool              // ENHANCEDSTATUSCODES was offered
}

// A reply is one reply as it came, of one line or more.
type reply struct {
	code  int
	lines []string // what stands after the code and the space or hyphen
}

// text is the first line.
func (r reply) text() string {
	if len(r.lines) == 0 {
		return ""
	}
	return r.lines[0]
}

func (d *dialogue) timeout() time.Duration {
	if d.t.Timeout > 0 {
		return d.t.Timeout
	}
	return timeoutDefault
}

// dial connects. It reads nothing.
func (d *dialogue) dial() *end {
	nc, err := d.t.Dial(d.ctx)
	if err != nil {
		d.dialErr = err
		return failed("%v", err)
	}
	d.nc, d.in, d.first = nc, bufio.NewReader(nc), true
	return nil
}

// close says QUIT where the server can hear it, and ends the connection.
func (d *dialogue) close() {
	if d.nc == nil {
		return
	}
	if !d.content {
		_ = d.nc.SetDeadline(time.Now().Add(time.Second))
		_, _ = d.nc.Write([]byte("QUIT\r\n"))
		if half, ok := d.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // one that takes QUIT for content need not wait for more
		}
		_, _ = d.in.ReadSlice('\n')
	}
	_ = d.nc.Close()
}

// handshake goes over to TLS. What was read before it and not asked for is lost.
func (d *dialogue) handshake(most uint16) error {
	conf := &tls.Config{InsecureSkipVerify: true}
	if d.t.TLS != nil {
		conf = d.t.TLS.Clone()
	}
	if most != 0 {
		conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, most
	}
	c := tls.Client(d.nc, conf)
	_ = d.nc.SetDeadline(time.Now().Add(d.timeout()))
	if err := c.HandshakeContext(d.ctx); err != nil {
		return err
	}
	d.nc, d.in, d.tls = c, bufio.NewReader(c), true
	d.offers = nil
	return nil
}

// send writes packets, with a pause between them. An error is left to the next
// read, which also gets what the server has said before it closed.
func (d *dialogue) send(packets [][]byte, each bool) {
	d.hello = false
	for i, p := range packets {
		if i > 0 {
			d.pause()
		}
		d.log.sent(p)
		for line := range strings.SplitSeq(string(p[:min(len(p), lineMax)]), "\n") {
			d.hello = d.hello || slices.Contains([]string{"EHLO", "HELO", "LHLO"}, strings.ToUpper(line[:min(len(line), 4)]))
		}
		_ = d.nc.SetWriteDeadline(time.Now().Add(6 * d.timeout()))
		if !each {
			if _, err := d.nc.Write(p); err != nil {
				return
			}
			continue
		}
		for j := range p {
			if j > 0 {
				d.pause()
			}
			if _, err := d.nc.Write(p[j : j+1]); err != nil {
				return
			}
		}
	}
}

// pause lets what was written leave as a packet of its own.
func (d *dialogue) pause() {
	wait := d.t.Pause
	if wait == 0 {
		wait = pauseDefault
	}
	select {
	case <-time.After(wait):
	case <-d.ctx.Done():
	}
}

// read reads one reply, and shows it to the watchers.
func (d *dialogue) read() (reply, error) {
	_ = d.nc.SetReadDeadline(time.Now().Add(d.timeout()))
	stop := context.AfterFunc(d.ctx, func() { _ = d.nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var r reply
	for {
		line, err := d.readLine()
		if err != nil {
			return reply{}, err
		}
		d.log.heard(line)
		code, more, text, ok := d.watch.line(d, line)
		if !ok {
			return reply{}, errNoReply
		}
		if len(r.lines) == 0 {
			r.code = code
		} else if code != r.code {
			d.watch.note(d, watchSameCode, line)
		}
		if r.lines = append(r.lines, text); !more {
			break
		}
		if len(r.lines) == linesMax {
			return reply{}, errors.New("the reply has no end")
		}
	}
	d.watch.reply(d, r)
	d.first = false
	d.last, d.content = r, r.code == 354
	return r, nil
}

// readLine reads up to a line feed and returns all of it.
func (d *dialogue) readLine() (string, error) {
	var line []byte
	for {
		part, err := d.in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return string(line), nil
		case len(line) > lineMax:
			return "", errors.New("the line of a reply has no end")
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case d.ctx.Err() != nil:
			return "", d.ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			d.content = true // it would not hear a QUIT either
			return "", errors.New("no reply within " + d.timeout().String())
		}
		d.content = true
		return "", errClosed
	}
}

// ehlo says who we are, with the verb of the protocol, and takes note of what is
// offered.
func (d *dialogue) ehlo() *end {
	verb := "EHLO "
	if d.t.LMTP {
		verb = "LHLO "
	}
	if e := d.ask(verb+d.me(), "250"); e != nil {
		return e
	}
	d.log.fold(len(d.last.lines))
	return d.note()
}

// note takes the extensions from the last reply.
func (d *dialogue) note() *end {
	d.offers = map[string]string{}
	for _, line := range d.last.lines[1:] {
		word, params, _ := strings.Cut(line, " ")
		d.offers[strings.ToUpper(word)] = params
	}
	_, ok := d.offers["ENHANCEDSTATUSCODES"]
	d.status = d.status || ok
	return nil
}

// ask sends a line and wants a code, as in the files. Without it there is nothing
// to try.
func (d *dialogue) ask(line, code string) *end {
	d.send([][]byte{[]byte(line + "\r\n")}, false)
	r, err := d.read()
	if err != nil {
		return skipped("no way to begin: %s: %v", line, err)
	}
	if !(codes{yes: []string{code}}).match(r.code) {
		return skipped("no way to begin: %s is answered %d %s", line, r.code, r.text())
	}
	return nil
}

// me is the name for EHLO.
func (d *dialogue) me() string {
	if d.t.Hello != "" {
		return d.t.Hello
	}
	host, _, err := net.SplitHostPort(d.nc.LocalAddr().String())
	if err != nil {
		return "[127.0.0.1]"
	}
	if strings.Contains(host, ":") {
		host, _, _ = strings.Cut(host, "%")
		return "[IPv6:" + host + "]"
	}
	return "[" + host + "]"
}

// from is the reverse-path.
func (d *dialogue) from() string {
	if d.t.From != "" {
		return d.t.From
	}
	return d.t.Rcpt
}

// startTLS is the way into TLS when the whole run is under it.
func (d *dialogue) startTLS() *end {
	if e := d.ehlo(); e != nil {
		return e
	}
	if e := d.ask("STARTTLS", "220"); e != nil {
		return e
	}
	if err := d.handshake(0); err != nil {
		return skipped("no way to begin: the handshake of TLS fails: %v", err)
	}
	return nil
}

// statusOf parses the enhanced status at the start of a line.
func statusOf(line string) (smtp.Status, bool) {
	word, _, _ := strings.Cut(line, " ")
	return smtp.ParseStatus(word)
}
