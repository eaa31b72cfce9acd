package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// A trace shows the dialogue on a connection: commands and replies line by
// line, the content by its length alone.
type trace struct {
	net.Conn
	out     io.Writer
	from    []byte // of the server, not yet a whole line
	content int64  // octets since the server said 354; negative: no content is under way
	chunk   int64  // octets of a BDAT that are still to come
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
	for sent := p[:n]; len(sent) > 0; {
		if t.chunk > 0 {
			part := min(t.chunk, int64(len(sent)))
			t.chunk, sent = t.chunk-part, sent[part:]
			continue
		}
		end := bytes.IndexByte(sent, '\n') + 1
		if end == 0 {
			end = len(sent)
		}
		t.show("C", sent[:end])
		if arg, ok := strings.CutPrefix(string(sent[:end]), "BDAT "); ok {
			if chunk, _, bad := smtp.ParseChunk(strings.TrimSpace(arg)); bad == nil {
				t.chunk = chunk.Size
				fmt.Fprintf(t.out, "C: (%d octets)\n", chunk.Size)
			}
		}
		sent = sent[end:]
	}
	return n, err
}

func (t *trace) show(who string, line []byte) {
	fmt.Fprintf(t.out, "%s: %s\n", who, strings.Map(visible, strings.TrimRight(string(line), "\r\n")))
}
