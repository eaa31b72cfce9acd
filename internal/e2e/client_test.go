package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A client speaks SMTP by hand: it sends the octets that it is told to send.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

// A reply is what came back.
type reply struct {
	code int
	text string // all lines, without the code
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// dial connects and reads the greeting, which must be 220.
func dial(addr string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, r: bufio.NewReader(conn)}
	r, err := c.read()
	if err == nil && r.code != 220 {
		err = fmt.Errorf("greeted with %v", r)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) close() { c.conn.Close() }

// read reads one reply.
func (c *client) read() (reply, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var r reply
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return r, err
		}
		line, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(line) < 3 {
			return r, fmt.Errorf("no reply line: %q", line)
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil {
			return r, fmt.Errorf("no reply line: %q", line)
		}
		r.code = code
		lines = append(lines, strings.TrimLeft(line[3:], " -"))
		if len(line) == 3 || line[3] == ' ' {
			r.text = strings.Join(lines, "\n")
			return r, nil
		}
	}
}

// raw sends octets as they are.
func (c *client) raw(b string) error {
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c.conn, b)
	return err
}

// say sends a line and reads its reply.
func (c *client) say(line string) (reply, error) {
	if err := c.raw(line + "\r\n"); err != nil {
		return reply{}, err
	}
	return c.read()
}

// want says a line and wants a code.
func (c *client) want(code int, line string) (reply, error) {
	r, err := c.say(line)
	if err == nil && r.code != code {
		err = fmt.Errorf("%s: %v", line, r)
	}
	return r, err
}

// content sends a message after DATA, dots stuffed, and reads the reply.
func (c *client) content(b []byte) (reply, error) {
	b = bytes.ReplaceAll(b, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(b, []byte(".")) {
		b = append([]byte("."), b...)
	}
	if err := c.raw(string(b) + ".\r\n"); err != nil {
		return reply{}, err
	}
	return c.read()
}

// A mail is one transaction. Paths may be followed by parameters, after the ">".
type mail struct {
	from string
	to   []string
	body []byte
}

// path puts an address into angle brackets, parameters outside.
func path(addr string) string {
	addr, params, _ := strings.Cut(addr, " ")
	return strings.TrimSpace("<" + addr + "> " + params)
}

// send runs one transaction of an open session and returns the reply to the
// content.
func (c *client) send(m mail) (reply, error) {
	if r, err := c.want(250, "MAIL FROM:"+path(m.from)); err != nil {
		return r, err
	}
	for _, to := range m.to {
		if r, err := c.want(250, "RCPT TO:"+path(to)); err != nil {
			return r, err
		}
	}
	if r, err := c.want(354, "DATA"); err != nil {
		return r, err
	}
	r, err := c.content(m.body)
	if err == nil && r.code != 250 {
		err = fmt.Errorf("after the content: %v", r)
	}
	return r, err
}

// submit runs one transaction in a session of its own.
func submit(addr string, m mail) (reply, error) {
	c, err := dial(addr)
	if err != nil {
		return reply{}, err
	}
	defer c.close()
	if r, err := c.want(250, "EHLO client.example"); err != nil {
		return r, err
	}
	r, err := c.send(m)
	if err == nil {
		c.raw("QUIT\r\n")
	}
	return r, err
}

// mustSubmit wants the message accepted, and returns the queue ID of the 250.
func mustSubmit(t *testing.T, addr string, m mail) string {
	t.Helper()
	r, err := submit(addr, m)
	if err != nil {
		t.Fatal(err)
	}
	return queueID(t, r)
}

// queueID finds the ID in "250 2.0.0 <id> queued".
func queueID(t *testing.T, r reply) string {
	t.Helper()
	for _, word := range strings.Fields(r.text) {
		if len(word) == 20 && strings.Trim(word, "0123456789abcdefghijklmnopqrstuvwxyz") == "" {
			return word
		}
	}
	t.Fatalf("no ID in %v", r)
	return ""
}

// message makes a message of about size octets that a careless program would
// spoil: dots at the beginning of lines, octets over 127, blanks at the end of
// lines, empty lines at the end. Its header tells its name and the sum of its
// body, so that one that is torn or mixed up is known.
func message(name string, size int) []byte {
	lines := []string{
		".", "..", ".leading dot", "...three", "caf\xc3\xa9 in UTF-8, \xe9 in Latin 1, \xff\xfe nothing at all",
		"blanks at the end  \t ", "From here on", "tab\tin between", strings.Repeat("x", 998), "=3D not decoded", "",
	}
	rnd := rand.New(rand.NewPCG(uint64(len(name)), sum64(name)))
	var body bytes.Buffer
	for _, l := range lines {
		if body.Len() < size {
			body.WriteString(l + "\r\n")
		}
	}
	for body.Len() < size {
		body.WriteString(lines[rnd.IntN(len(lines))] + "\r\n")
	}
	body.WriteString("the end\r\n.\r\n\r\n")
	return fmt.Appendf(nil, "From: Sender <s@client.example>\r\nSubject: %s\r\nMessage-ID: <%s@client.example>\r\nX-Name: %s\r\nX-Sum: %x\r\n\r\n%s",
		name, name, name, sha256.Sum256(lf(body.Bytes())), body.Bytes())
}

func sum64(s string) uint64 {
	var n uint64
	sum := sha256.Sum256([]byte(s))
	for _, b := range sum[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}

// lf returns b with line ends as LF.
func lf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }

// name returns the name of a message that message made, and an error when its
// body is not what it was.
func name(got []byte) (string, error) {
	got = lf(got)
	head, body, ok := bytes.Cut(got, []byte("\n\n"))
	if !ok {
		return "", fmt.Errorf("no body in %.200q", got)
	}
	var name, sum string
	for _, l := range strings.Split(string(head), "\n") {
		if v, ok := strings.CutPrefix(l, "X-Name: "); ok {
			name = v
		}
		if v, ok := strings.CutPrefix(l, "X-Sum: "); ok {
			sum = v
		}
	}
	if name == "" {
		return "", fmt.Errorf("no name in %.200q", head)
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(body)); sum != want {
		return name, fmt.Errorf("the body of %s is not what was sent", name)
	}
	return name, nil
}
