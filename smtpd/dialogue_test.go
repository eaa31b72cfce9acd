package smtpd

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A pipeListener accepts in-memory connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return addr("pipe") }

// dial connects from an address.
func (l *pipeListener) dial(from string) net.Conn {
	client, server := net.Pipe()
	l.conns <- addrConn{server, addr(from)}
	return client
}

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }

type addrConn struct {
	net.Conn
	remote addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.remote }

// A step is one line of a dialogue.
type step struct {
	line int
	kind string // a letter; see readDialogue
	text string
}

// readDialogue reads a file of testdata:
//
//	# comment
//	set FIELD VALUE   of the server or the recorder, before all else
//	C: text           the client sends a line, with its CRLF
//	R: text           the client sends octets, in the escapes of a Go string
//	S: text           the server sends a line that begins so, with no time passing
//	M: code           the server sends a reply of several lines
//	H: call           the recorder has this call, after the one before
//	T: duration       time passes
//	E:                the client closes the connection
//	D:                the connection is lost, under TLS without a close_notify
//	L:                the client goes over to TLS
//	L: 1.1            the client offers this version at most, and is refused
//	Q:                the server is told to shut down
//	X:                the server has closed it, and said nothing more
//
// Lines of C and R that follow each other are sent as one group.
func readDialogue(t *testing.T, file string, s *Server, h *recorder) []step {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var steps []step
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(text, "set "); ok {
			name, value, _ := strings.Cut(rest, " ")
			set(t, s, h, name, value)
			continue
		}
		kind, rest, ok := strings.Cut(text, ":")
		if !ok || len(kind) != 1 || !strings.Contains("CRSMHTEXDLQ", kind) {
			t.Fatalf("%s:%d: no step: %q", file, n, text)
		}
		rest = strings.TrimPrefix(rest, " ")
		if kind == "R" {
			if rest, err = strconv.Unquote(`"` + rest + `"`); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
		}
		if kind == "C" {
			rest += "\r\n"
		}
		steps = append(steps, step{n, kind, rest})
	}
	if last := len(steps) - 1; last < 0 || steps[last].kind != "X" && steps[last].kind != "H" {
		t.Fatalf("%s: a dialogue ends with X, and H after it", file)
	}
	return steps
}

func set(t *testing.T, s *Server, h *recorder, name, value string) {
	n, _ := strconv.Atoi(value)
	switch name {
	case "MaxSize":
		s.MaxSize = int64(n)
	case "MaxRcpts":
		s.MaxRcpts = n
	case "MaxErrors":
		s.MaxErrors = n
	case "Verifier":
		h.verify = true
	case "Expander":
		h.expand = value
	case "MaxRefused":
		s.MaxRefused = n
	case "MaxIdle":
		s.MaxIdle = n
	case "Software":
		s.Software = value
	case "Auth":
		h.auth = strings.Fields(value)
	case "TLS":
		s.TLS = func() *tls.Config { return nil }
		if value != "later" {
			s.TLS = testConfig
		}
		s.Implicit = value == "implicit"
	case "Whole": // only in one piece; see TestDialogues
	case "Offer":
		h.offer = setOffer(t, value)
	case "XClient", "Proxy":
		trusted := func(a netip.Addr) bool { return a == netip.MustParseAddr(value) }
		if h.peers = true; name == "Proxy" {
			s.Proxy = trusted
		} else {
			s.XClient = trusted
		}
	case "RefusePeer":
		h.refusePeer = value
	case "MaxPerPeer":
		s.MaxConnsPerPeer = n
	case "Early":
		h.early = n
	case "LMTP":
		s.LMTP = true
	case "OpenTLS":
		h.tlsOpen = smtp.Reply{Code: n, Text: "not here"}
	case "Nobody":
		h.nobody = true
	case "Open":
		h.open = smtp.Reply{Code: n, Text: "not here"}
	default:
		t.Fatalf("set %s", name)
	}
}

// setOffer reads keywords, some of them with a value.
func setOffer(t *testing.T, value string) Offer {
	var o Offer
	for word := range strings.FieldsSeq(value) {
		word, param, _ := strings.Cut(word, "=")
		ext, _ := smtp.ParseExtension(word)
		n, _ := strconv.Atoi(param)
		switch o.Extensions |= ext; ext {
		case 0:
			t.Fatalf("no extension: %s", word)
		case smtp.ExtDeliverBy:
			o.ByMin = int32(n)
		case smtp.ExtFutureRelease:
			o.HoldMax = time.Duration(n) * time.Second
		case smtp.ExtMTPriority:
			o.Profile = param
		case smtp.ExtNoSoliciting:
			o.Solicit = strings.Split(param, ",")
		}
	}
	return o
}

// TestDialogues plays every file of testdata twice: with each group of the
// client in one piece, and octet by octet, unless the file sets Whole.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d dialogues, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, pieces := range []string{"whole", "octets"} {
			if pieces == "octets" && strings.Contains(string(text), "\nset Whole") {
				continue
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+pieces, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { play(t, file, pieces == "octets") })
			})
		}
	}
}

func play(t *testing.T, file string, octets bool) {
	h := &recorder{offer: Offer{Extensions: smtp.ExtSMTPUTF8 | smtp.ExtDSN}}
	s := &Server{Handler: h, Hostname: "foo.com"}
	panics := 0
	s.Alarm = func(err error) {
		var p *PanicError
		if errors.As(err, &p) && len(p.Stack) > 0 {
			panics++
		}
	}
	steps := readDialogue(t, file, s, h)
	l := newPipeListener()
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	client := l.dial("192.0.2.1:4321")

	// What the client sends goes out beside, as over a network that buffers.
	var sends, stops sync.WaitGroup
	defer func() {
		client.Close() // without a close_notify that nobody may be there to read
		sends.Wait()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		stops.Wait()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if told := strings.Contains(strings.Join(h.log(), "\n"), "panic"); told != (panics == 1) {
			t.Errorf("%d alarms of a panic", panics)
		}
	}()
	p := &player{t: t, file: file, raw: client, client: client, in: bufio.NewReader(client), h: h}
	p.stop = func() { stops.Go(func() { _ = s.Shutdown(context.Background()) }) }
	for i := 0; i < len(steps); {
		var group strings.Builder
		for ; i < len(steps) && (steps[i].kind == "C" || steps[i].kind == "R"); i++ {
			group.WriteString(steps[i].text)
		}
		if group.Len() > 0 {
			sends.Wait()
			to := p.client
			sends.Go(func() { send(to, group.String(), octets) })
			continue
		}
		if !p.step(steps[i], sends.Wait) {
			return
		}
		i++
	}
}

// send writes a group; that the server closes in the middle of it is no error
// of the client.
func send(w io.Writer, group string, octets bool) {
	if !octets {
		_, _ = io.WriteString(w, group)
		return
	}
	for i := range len(group) {
		if _, err := io.WriteString(w, group[i:i+1]); err != nil {
			return
		}
	}
}

// A player compares the server with the steps of a dialogue.
type player struct {
	t      *testing.T
	file   string
	raw    net.Conn
	client net.Conn // raw, or TLS over it
	in     *bufio.Reader
	h      *recorder
	stop   func()
	seen   int // calls of the recorder that were compared
}

func (p *player) step(st step, sent func()) bool {
	p.t.Helper()
	where := p.file + ":" + strconv.Itoa(st.line)
	switch st.kind {
	case "S":
		_ = p.client.SetReadDeadline(time.Now().Add(time.Second))
		got, err := p.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, st.text) || !strings.HasSuffix(got, "\r\n") {
			p.t.Errorf("%s: want %q, got %q, %v", where, st.text, got, err)
			return false
		}
	case "M":
		_ = p.client.SetReadDeadline(time.Now().Add(time.Second))
		got, err := smtp.ReadReply(p.in)
		if err != nil || strconv.Itoa(got.Code) != st.text || !strings.Contains(got.Text, "\n") {
			p.t.Errorf("%s: want %s in several lines, got %v, %v", where, st.text, got, err)
			return false
		}
	case "T":
		d, err := time.ParseDuration(st.text)
		if err != nil {
			p.t.Fatalf("%s: %v", where, err)
		}
		time.Sleep(d)
	case "Q":
		sent()
		synctest.Wait()
		p.stop()
	case "E":
		sent()
		p.client.Close()
	case "D":
		sent()
		p.raw.Close()
	case "L":
		sent()
		return p.handshake(where, st.text)
	case "X":
		_ = p.client.SetReadDeadline(time.Now().Add(time.Second))
		rest, err := io.ReadAll(p.in)
		if len(rest) > 0 || err != nil && !errors.Is(err, io.ErrClosedPipe) {
			p.t.Errorf("%s: want the end, got %q, %v", where, rest, err)
			return false
		}
	case "H":
		synctest.Wait()
		calls := p.h.log()
		for p.seen < len(calls) {
			p.seen++
			if calls[p.seen-1] == st.text {
				return true
			}
		}
		p.t.Errorf("%s: no call %q in\n%s", where, st.text, strings.Join(calls, "\n"))
		return false
	}
	return true
}

// handshake goes over to TLS, or wants to be refused.
func (p *player) handshake(where, version string) bool {
	p.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if version != "" {
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	}
	client := tls.Client(p.raw, config)
	_ = p.raw.SetDeadline(time.Now().Add(time.Second))
	err := client.Handshake()
	_ = p.raw.SetDeadline(time.Time{})
	if (err != nil) != (version != "") {
		p.t.Errorf("%s: the handshake ended with %v", where, err)
		return false
	}
	if err == nil {
		p.client, p.in = client, bufio.NewReader(client)
	}
	return true
}

// testCertificate is one for nobody.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"foo.com"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// testConfig asks for less than a server may speak.
func testConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}, MinVersion: tls.VersionTLS10}
}
