package smtpc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A dialogue is a file of testdata, read line by line:
//
//	# a remark
//	S: what the server sends; "S: <close>" hangs up, "S: <tls>" shakes hands, for
//	   a certificate of mx.example
//	C: what the server must read then, and nothing behind it before it answers
//	> what the client does: "dial", with "lmtp", "tls" and "chunk=N", "starttls NAME" for
//	  a certificate of that name, "auth MECHANISM USER PASSWORD",
//	  "send key=value ...", "reset", "noop", "quit", "offers EXTENSION"
//	= what came of it
//
// The values of send are Go strings without quotes: from, to (again for each
// recipient, "address;NOTIFY;ORCPT"), rrvs (of the recipient before it), size, body,
// utf8, ret, envid, auth, by, holdfor, priority, solicit, content. "spent" asks whether
// the connection has had its transactions.
type dialogue struct {
	server []string // lines of S: and C:
	client []string // lines of > and =
}

func readDialogue(t *testing.T, file string) dialogue {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dialogue
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "S:"), strings.HasPrefix(line, "C:"):
			d.server = append(d.server, line)
		case strings.HasPrefix(line, "> "), strings.HasPrefix(line, "= "):
			d.client = append(d.client, line)
		case line != "" && !strings.HasPrefix(line, "#"):
			t.Fatalf("%s: %q is no line of a dialogue", file, line)
		}
	}
	return d
}

// serve plays the server's part of a dialogue, and returns what went wrong.
func (d dialogue) serve(conn net.Conn) error {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	w := bufio.NewWriter(conn)
	for _, line := range d.server {
		text := strings.TrimPrefix(line[2:], " ")
		if line[0] == 'C' {
			w.Flush() // what is said in one breath comes in one piece
			got, err := r.ReadString('\n')
			if got != text+"\r\n" {
				return fmt.Errorf("server read %q (%v), want %q", got, err, text)
			}
			continue
		}
		if n := r.Buffered(); n > 0 {
			ahead, _ := r.Peek(n)
			return fmt.Errorf("before %q the client had sent %q already", text, ahead)
		}
		switch text {
		case "<close>":
			w.Flush()
			return nil
		case "<tls>":
			w.Flush()
			conn = tls.Server(conn, serverTLS())
			if err := conn.(*tls.Conn).Handshake(); err != nil {
				return nil // the client says that it failed
			}
			r, w = bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
			continue
		}
		w.WriteString(text + "\r\n")
	}
	w.Flush()
	if got, err := r.ReadString('\n'); got != "" {
		return fmt.Errorf("server read %q (%v) at the end", got, err)
	}
	return nil
}

// pair returns two ends of a TCP connection on the loopback.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestDialogues(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no dialogues")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			d := readDialogue(t, file)
			client, server := pair(t)
			served := make(chan error, 1)
			go func() { served <- d.serve(server) }()
			d.play(t, client)
			client.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// play does the client's part.
func (d dialogue) play(t *testing.T, conn net.Conn) {
	t.Helper()
	var (
		c   *Conn
		got string
	)
	for _, line := range d.client {
		if want, ok := strings.CutPrefix(line, "= "); ok {
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			continue
		}
		verb, args, _ := strings.Cut(strings.TrimPrefix(line, "> "), " ")
		var err error
		switch verb {
		case "dial":
			o := Options{Hello: "client.example", LMTP: strings.Contains(args, "lmtp")}
			if _, n, ok := strings.Cut(args, "chunk="); ok {
				o.ChunkSize, _ = strconv.Atoi(n)
			}
			if strings.Contains(args, "tls") {
				o.TLS = clientTLS("mx.example")
			}
			c, err = NewConn(t.Context(), conn, o)
		case "starttls":
			err = c.StartTLS(t.Context(), clientTLS(args))
		case "auth":
			f := append(strings.Fields(args), "", "")
			m := smtp.PlainClient(f[1], f[2])
			switch f[0] {
			case "LOGIN":
				m = smtp.LoginClient(f[1], f[2])
			case smtp.SCRAM:
				m = smtp.SCRAMClient(smtp.SCRAMClientOptions{User: f[1], Password: f[2], Rand: bytes.NewReader(make([]byte, 18))})
			case smtp.OAuthBearer:
				m = smtp.BearerClient(smtp.BearerRequest{Identity: f[1], Token: f[2]})
			case smtp.External:
				m = smtp.ExternalClient(f[1])
			}
			err = c.Auth(t.Context(), m)
		case "offers":
			_, ok := c.Ext(args)
			got = strconv.FormatBool(ok)
			continue
		case "spent":
			got = strconv.FormatBool(c.Spent())
			continue
		case "send":
			res := c.Send(t.Context(), parseSend(t, args))
			got = describe(&res)
			continue
		case "reset":
			err = c.Reset(t.Context())
		case "noop":
			err = c.Noop(t.Context())
		case "quit":
			err = c.Quit(t.Context())
		default:
			t.Fatalf("unknown action %q", line)
		}
		got = describeError(err)
	}
}

func parseSend(t *testing.T, args string) Transaction {
	t.Helper()
	tx := Transaction{Content: strings.NewReader("Subject: x\r\n\r\nbody\r\n")}
	for field := range strings.FieldsSeq(args) {
		key, value, _ := strings.Cut(field, "=")
		value, err := strconv.Unquote(`"` + value + `"`)
		if err != nil {
			t.Fatalf("%s: %v", field, err)
		}
		switch key {
		case "from":
			tx.From = path(t, value)
		case "to":
			parts := append(strings.SplitN(value, ";", 3), "", "")
			r := Rcpt{To: path(t, parts[0])}
			r.Params.ORcpt = parts[2]
			for n := range strings.SplitSeq(parts[1], ",") {
				r.Params.Notify |= map[string]smtp.Notify{"NEVER": smtp.NotifyNever, "SUCCESS": smtp.NotifySuccess,
					"FAILURE": smtp.NotifyFailure, "DELAY": smtp.NotifyDelay}[n]
			}
			tx.Rcpts = append(tx.Rcpts, r)
		case "size":
			tx.Params.Size, _ = strconv.ParseInt(value, 10, 64)
		case "body":
			tx.Params.Body = smtp.BodyType(value)
		case "utf8":
			tx.Params.UTF8 = true
		case "ret":
			tx.Params.Ret = map[string]smtp.Ret{"FULL": smtp.RetFull, "HDRS": smtp.RetHeaders}[value]
		case "envid":
			tx.Params.EnvID = value
		case "auth":
			tx.Params.Auth = value
		case "by":
			tx.Params.By, _ = smtp.ParseDeliverBy(value)
		case "holdfor":
			tx.Params.Hold.For, err = time.ParseDuration(value)
		case "holduntil":
			tx.Params.Hold.Until, err = time.Parse(time.RFC3339, value)
		case "priority":
			tx.Params.Priority, _ = smtp.ParsePriority(value)
		case "solicit":
			tx.Params.Solicit = value
		case "rrvs":
			tx.Rcpts[len(tx.Rcpts)-1].Params.RRVS, _ = smtp.ParseRRVS(value)
		case "content":
			tx.Content = strings.NewReader(value)
		default:
			t.Fatalf("unknown key %q", key)
		}
		if err != nil {
			t.Fatalf("%s: %v", field, err)
		}
	}
	return tx
}

func path(t *testing.T, s string) smtp.Path {
	t.Helper()
	p, err := smtp.ParsePath(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return p
}

// describe writes a result as the dialogues do: the codes of each stage.
func describe(r *Result) string {
	var rcpts []string
	for _, reply := range r.Rcpts {
		rcpts = append(rcpts, short(reply))
	}
	final := short(r.Final)
	if r.Finals != nil {
		var finals []string
		for _, reply := range r.Finals {
			finals = append(finals, short(reply))
		}
		final = strings.Join(finals, ",")
	}
	s := fmt.Sprintf("mail %s rcpt %s data %s final %s", short(r.Mail), strings.Join(rcpts, ","), short(r.Data), final)
	if r.Uncertain {
		s += " uncertain"
	}
	if r.Err != nil {
		s += " " + describeError(r.Err)
	}
	return s
}

func short(r smtp.Reply) string {
	switch {
	case r.Code == 0:
		return "-"
	case r.Status.IsZero():
		return strconv.Itoa(r.Code)
	}
	return fmt.Sprintf("%d/%s", r.Code, r.Status)
}

func describeError(err error) string {
	var e *Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e) && e.Err != nil:
		return fmt.Sprintf("broke %s", e.Stage)
	case e != nil && e.Stage == StageAuth:
		return fmt.Sprintf("%s %s: %s", short(e.Reply), e.Stage, e.Reply.Text)
	case e != nil:
		return fmt.Sprintf("%s %s", short(e.Reply), e.Stage)
	}
	return err.Error()
}

// TestCancel shows that a cancelled context ends a wait for a silent peer.
func TestCancel(t *testing.T) {
	client, server := pair(t)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewConn(ctx, client, Options{}); err == nil {
		t.Fatal("NewConn returned a connection under a cancelled context")
	}
}
