package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"
)

// What is sent: one message of 4 KiB to one recipient, again and again.
var (
	content = bytes.Repeat([]byte("It was a bright cold day in April, and the clocks of the mail server struck.\r\n"), 52)
	hello   = []byte("EHLO client.example\r\n")
	mail    = []byte("MAIL FROM:<a@client.example>\r\n")
	rcpt    = []byte("RCPT TO:<b@server.example>\r\n")
	data    = []byte("DATA\r\n")
	end     = []byte(".\r\n")
	quit    = []byte("QUIT\r\n")
)

// steps are what a client sends for one message, cut where it waits for replies.
func steps(pipelined bool) [][]byte {
	body := append(append([]byte(nil), content...), end...)
	if pipelined {
		return [][]byte{bytes.Join([][]byte{mail, rcpt, data}, nil), body}
	}
	return [][]byte{mail, rcpt, data, body}
}

// A quiet is a net.Conn without a network: it has addresses and no deadlines.
type quiet struct{}

func (quiet) Close() error                     { return nil }
func (quiet) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (quiet) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }
func (quiet) SetDeadline(time.Time) error      { return nil }
func (quiet) SetReadDeadline(time.Time) error  { return nil }
func (quiet) SetWriteDeadline(time.Time) error { return nil }

// A script is the client of a server under test: each read is the next step of a
// dialogue, and what the server writes is forgotten.
type script struct {
	quiet
	left  int // messages to come
	steps [][]byte
	next  int
	rest  []byte
	stage int           // 0: hello comes, 1: messages, 2: quit was said
	done  chan struct{} // closed when the server has closed the connection
	ended bool
}

func newScript(messages int, pipelined bool) *script {
	return &script{left: messages, steps: steps(pipelined), done: make(chan struct{})}
}

func (s *script) Close() error {
	if !s.ended {
		s.ended = true
		close(s.done)
	}
	return nil
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		switch {
		case s.stage == 0:
			s.rest, s.stage = hello, 1
		case s.stage == 1 && s.left > 0:
			s.rest = s.steps[s.next]
			if s.next++; s.next == len(s.steps) {
				s.next = 0
				s.left--
			}
		case s.stage == 1:
			s.rest, s.stage = quit, 2
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) { return len(p), nil }

// A one is a listener of one connection.
type one struct {
	conns chan net.Conn
	done  chan struct{}
}

func newOne(c net.Conn) *one {
	l := &one{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- c
	return l
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *one) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *one) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

// A yes is the server of a client under test: it says yes to everything.
type yes struct {
	quiet
	greeting string
	ehlo     string
	out      []byte
	line     []byte
	inData   bool
	tail     [5]byte // last octets of the content
	Taken    int     // messages
}

var errNothingAsked = errors.New("the client reads, and nothing was asked")

func (y *yes) Read(p []byte) (int, error) {
	if y.greeting != "" {
		y.out, y.greeting = append(y.out, y.greeting...), ""
	}
	if len(y.out) == 0 {
		return 0, errNothingAsked
	}
	n := copy(p, y.out)
	y.out = append(y.out[:0], y.out[n:]...)
	return n, nil
}

func (y *yes) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if y.inData {
			p = y.content(p)
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			y.line = append(y.line, p...)
			break
		}
		y.line = append(y.line, p[:i+1]...)
		p = p[i+1:]
		y.command()
		y.line = y.line[:0]
	}
	return n, nil
}

func (y *yes) command() {
	switch y.line[0] {
	case 'E':
		y.out = append(y.out, y.ehlo...)
	case 'D':
		y.out = append(y.out, "354 go on\r\n"...)
		y.inData = true
		copy(y.tail[:], "...\r\n")
	case 'Q':
		y.out = append(y.out, "221 2.0.0 bye\r\n"...)
	default:
		y.out = append(y.out, "250 2.0.0 OK\r\n"...)
	}
}

// content takes octets up to the end of a write: a client waits there if the
// content is at its end. It returns what is left.
func (y *yes) content(p []byte) []byte {
	if len(p) >= len(y.tail) {
		copy(y.tail[:], p[len(p)-len(y.tail):])
	} else {
		copy(y.tail[:], y.tail[len(p):])
		copy(y.tail[len(y.tail)-len(p):], p)
	}
	if string(y.tail[:]) == "\r\n.\r\n" {
		y.inData = false
		y.Taken++
		y.out = append(y.out, "250 2.0.0 OK\r\n"...)
	}
	return nil
}
