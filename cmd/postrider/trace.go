package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
)

// A trace shows the dialogue on a connection: commands and replies line by
// line, the content by its length alone.
type trace struct {
	net.Conn
	out     io.Writer
	from    []byte // of the server, not yet a whole line
	content int64  // octets since the server said 354; negative: no content is under way
}

func newTrace(conn net.Conn, out io.Writer) *trace {
	return &trace{Conn: conn, out: out, content: -1}
}

// traceLine bounds what is kept of a line that does not end.
const traceLine = 4096

func (t *trace) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.from = append(t.from, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(t.from, []byte("\n"))
		if !whole {
			break
		}
		t.from = rest
		if t.content > 0 {
			fmt.Fprintf(t.out, "C: (%d octets)\n", t.content)
		}
		t.content = -1
		if bytes.HasPrefix(line, []byte("354")) {
			t.content = 0
		}
		t.show("S", line)
	}
	if len(t.from) > traceLine {
		t.from = t.from[:traceLine]
	}
	return n, err
}

func (t *trace) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	if t.content >= 0 {
		t.content += int64(n)
		return n, err
	}
	for line := range bytes.Lines(p[:n]) {
		t.show("C", line)
	}
	return n, err
}

func (t *trace) show(who string, line []byte) {
	fmt.Fprintf(t.out, "%s: %s\n", who, strings.Map(visible, strings.TrimRight(string(line), "\r\n")))
}
