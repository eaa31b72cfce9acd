package receive

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A scene is a file of testdata/dialogues: what a whole server of mail says, with
// the real checks and a real Router, over the network:
//
//	# comment
//	set KEY VALUE     of the listener: role, verify, relay_from, refuse; offer KEYWORDS;
//	                  future ACCOUNT, which may have no more; xclient; since DATE, of all mailboxes
//	mailboxes DOMAIN NAME...
//	alias LINE        a line of the alias file of foo.com
//	C: text           the client says a line
//	R: text           the client says octets, in the escapes of a Go string
//	S: text           the server says a line that begins so
//	E: code           the server says a reply of several lines
//	L:                the client goes over to TLS
//	M: text           the message that came last begins a line so, header and all
//	V: text           what is kept of its parameters
//	N: 2              so many messages have come
//	X:                the server has closed the connection, and said nothing more
//
// The server is foo.com, which has Jones, Brown and Admin.MRC and an alias file;
// the password of alice@foo.com is "open sesame".
type scene struct {
	t       *testing.T
	file    string
	policy  policy.Options
	domains []route.Domain
	aliases string
	spool   *memSpool
	tls     *tls.Config
	offer   smtpd.Offer
	xclient bool
	future  string
	since   time.Time
	conn    net.Conn
	in      *bufio.Reader
}

// accountOf is the one account there is.
type accountOf string

func (a accountOf) Verify(_ context.Context, _ netip.Addr, user, password string) (postrider.Submitter, smtp.Reply) {
	if user == string(a) && password == "open sesame" {
		return a, verdict(235, 7, 0, "welcome")
	}
	return nil, badIdentity
}

func (a accountOf) Vouched(_ context.Context, _ netip.Addr, user string, right bool) (postrider.Submitter, smtp.Reply) {
	if right && user == string(a) {
		return a, verdict(235, 7, 0, "welcome")
	}
	return nil, badIdentity
}

func (a accountOf) Name() string                { return string(a) }
func (a accountOf) MaySend(from smtp.Path) bool { return from.String() == string(a) }

// names is a Router as a Directory.
type names struct{ *route.Router }

func (n names) Lookup(ctx context.Context, name smtp.Path) ([]Entry, error) {
	found, err := n.Router.Lookup(ctx, name)
	var all []Entry
	for _, e := range found {
		own := Entry{Address: e.Address, Name: e.Name, Vague: e.Vague, List: e.List, Closed: e.Closed, Reply: e.Reply}
		for _, m := range e.Members {
			own.Members = append(own.Members, Member{m.Address, m.Name})
		}
		all = append(all, own)
	}
	return all, err
}

// textFiles are files in memory as a Router reads them.
type textFiles fstest.MapFS

func (f textFiles) Stat(name string) (fs.FileInfo, error) {
	return fstest.MapFS(f).Stat(strings.TrimPrefix(name, "/"))
}

func (f textFiles) ReadFile(name string, _ int64) ([]byte, error) {
	return fstest.MapFS(f).ReadFile(strings.TrimPrefix(name, "/"))
}

func TestScenes(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d dialogues, %v", len(files), err)
	}
	cert := certificate(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &scene{offer: smtpd.Offer{Extensions: smtp.ExtSMTPUTF8 | smtp.ExtDSN}, t: t, file: file, spool: &memSpool{}, tls: &tls.Config{Certificates: []tls.Certificate{cert}}}
			s.domains = []route.Domain{{Name: "foo.com", Mailboxes: []string{"Jones", "Brown", "Admin.MRC", "alice"}, Aliases: "/aliases",
				Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/m/{user}"}}}
			for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
				if line != "" && line[0] != '#' {
					s.line(i+1, line)
				}
			}
		})
	}
}

// line sets something up, or plays one step.
func (s *scene) line(n int, line string) {
	s.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "set":
		s.set(rest)
		return
	case word == "mailboxes":
		name := strings.Fields(rest)
		s.domains = append(s.domains, route.Domain{Name: name[0], Mailboxes: name[1:], Deliver: s.domains[0].Deliver})
		return
	case word == "alias":
		s.aliases += rest + "\n"
		return
	case s.conn == nil:
		s.open()
	}
	kind, text, ok := strings.Cut(line, ":")
	if !ok || len(kind) != 1 {
		s.t.Fatalf("%s:%d: no step", s.file, n)
	}
	s.step(s.file+":"+strconv.Itoa(n), kind, strings.TrimPrefix(text, " "))
}

func (s *scene) set(text string) {
	key, value, _ := strings.Cut(text, " ")
	networks := func() (all []netip.Prefix) {
		for _, w := range strings.Fields(value) {
			all = append(all, netip.MustParsePrefix(w))
		}
		return all
	}
	switch key {
	case "role":
		s.policy.Role = policy.Role(value)
	case "verify":
		s.policy.Verify = policy.Who(value)
	case "relay_from":
		s.policy.RelayFrom = networks()
	case "refuse":
		s.policy.Refuse = networks()
	case "offer":
		s.offer = smtpd.Offer{HoldMax: 100 * 365 * 24 * time.Hour, ByMin: 10}
		for _, word := range strings.Fields(value) {
			word, param, _ := strings.Cut(word, "=")
			ext, _ := smtp.ParseExtension(word)
			if s.offer.Extensions |= ext; ext == smtp.ExtNoSoliciting {
				s.offer.Solicit = strings.Split(param, ",")
			}
		}
	case "xclient":
		s.xclient = true
	case "future":
		s.future = value
	case "since":
		s.since, _ = time.Parse(time.DateOnly, value)
	default:
		s.t.Fatalf("set %s", key)
	}
}

// open starts the server and connects to it.
func (s *scene) open() {
	s.t.Helper()
	files := textFiles{"aliases": {Data: []byte(s.aliases), Mode: 0o600}}
	router, err := route.New(route.Table{Hostname: "foo.com", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Domains: s.domains, Files: files})
	if err != nil {
		s.t.Fatal(err)
	}
	chains := policy.Standard(s.policy)
	o := Options{Spool: s.spool, Router: router, Directory: names{router}, Open: chains.Open, Ask: chains.Ask, Mail: chains.Mail, Rcpt: chains.Rcpt,
		Data: chains.Data, Hostname: "foo.com", Accounts: accountOf("alice@foo.com"), Submission: s.policy.Role == policy.RoleSubmission,
		Offer: func() smtpd.Offer { return s.offer }, Since: func(smtp.Path) time.Time { return s.since },
		Trusted: func(a netip.Addr) bool {
			return slices.ContainsFunc(s.policy.RelayFrom, func(p netip.Prefix) bool { return p.Contains(a) })
		},
		Future: func(_ context.Context, account string) (bool, error) { return s.future != account, nil },
		Turn: func(_ context.Context, node string) smtp.Reply {
			return smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: "OK, queuing for node " + node + " started"}
		}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &smtpd.Server{Handler: New(o), Hostname: "foo.com", LMTP: s.policy.Role == policy.RoleLMTP, TLS: func() *tls.Config { return s.tls }}
	if s.xclient {
		server.XClient = netip.Addr.IsLoopback
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), l) }()
	if s.conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		s.t.Fatal(err)
	}
	s.in = bufio.NewReader(s.conn)
	raw := s.conn
	s.t.Cleanup(func() {
		raw.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			s.t.Errorf("shutdown: %v", err)
		}
		<-served
	})
	_ = s.conn.SetDeadline(time.Now().Add(20 * time.Second))
}

func (s *scene) step(where, kind, text string) {
	s.t.Helper()
	switch kind {
	case "C":
		s.say(text + "\r\n")
	case "R":
		octets, err := strconv.Unquote(`"` + text + `"`)
		if err != nil {
			s.t.Fatalf("%s: %v", where, err)
		}
		s.say(octets)
	case "S":
		got, err := s.in.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, text) || !strings.HasSuffix(got, "\r\n") {
			s.t.Fatalf("%s: want %q, got %q, %v", where, text, got, err)
		}
	case "L":
		client := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true})
		if err := client.Handshake(); err != nil {
			s.t.Fatalf("%s: %v", where, err)
		}
		s.conn, s.in = client, bufio.NewReader(client)
	case "M":
		k, _ := s.spool.last()
		whole := "\r\n" + strings.ReplaceAll(string(k.head), "\r\n\t", " ") + string(k.content)
		if !strings.Contains(whole, "\r\n"+text) {
			s.t.Errorf("%s: want the line %q in\n%s", where, text, whole)
		}
	case "V":
		k, _ := s.spool.last()
		m := k.message
		got := fmt.Sprintf("binary=%v by=%v release=%s priority=%d auth=%s solicit=%s", m.Binary, m.By, m.Release.UTC().Format(time.DateOnly), m.Priority, m.Auth, m.Solicit)
		for i := range m.Recipients {
			got += " rrvs=" + m.Recipients[i].RRVS.String()
			if at := m.Recipients[i].Due; !m.Release.IsZero() && at != m.Release {
				s.t.Errorf("%s: released at %v, and due at %v", where, m.Release, at)
			}
		}
		if got != text {
			s.t.Errorf("%s: want %s, got %s", where, text, got)
		}
	case "E":
		got, err := smtp.ReadReply(s.in)
		if err != nil || strconv.Itoa(got.Code) != text || !strings.Contains(got.Text, "\n") {
			s.t.Fatalf("%s: want %s in several lines, got %v, %v", where, text, got, err)
		}
	case "N":
		if _, n := s.spool.last(); strconv.Itoa(n) != text {
			s.t.Errorf("%s: want %s messages, got %d", where, text, n)
		}
	case "X":
		if rest, err := s.in.ReadString('\n'); rest != "" || err == nil {
			s.t.Errorf("%s: want the end, got %q, %v", where, rest, err)
		}
	default:
		s.t.Fatalf("%s: no step", where)
	}
}

func (s *scene) say(text string) {
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// A list of more members than a client reads lines is not told in part, and a
// name that too many domains have is ambiguous, and no more.
func TestBoundsOfAsking(t *testing.T) {
	e := Entry{Address: alice, List: true}
	for len(e.Members) < membersMax {
		e.Members = append(e.Members, Member{Address: smtp.Path{Local: "m" + strconv.Itoa(len(e.Members)), Domain: "our.example"}})
	}
	if r := e.expanded(false); r.Code != 250 || strings.Count(r.Text, "\n")+1 != membersMax {
		t.Errorf("%d members: %d with %d lines", len(e.Members), r.Code, strings.Count(r.Text, "\n")+1)
	} else if got, err := smtp.ReadReply(bufio.NewReader(strings.NewReader(string(r.AppendTo(nil))))); err != nil || got.Text != r.Text {
		t.Errorf("our own client reads %v of it", err)
	}
	e.Members = append(e.Members, Member{Address: alice})
	if r := e.expanded(false); r.Code != 252 || strings.Contains(r.Text, "@") {
		t.Errorf("%d members: %v", len(e.Members), r)
	}
	if r := ambiguous(make([]Entry, alternativesMax), false); strings.Count(r.Text, "\n") != alternativesMax {
		t.Errorf("%d alternatives: %v", alternativesMax, r)
	}
	if r := ambiguous(make([]Entry, alternativesMax+1), false); r.String() != "553 5.1.4 User ambiguous" {
		t.Errorf("more: %v", r)
	}
}

// Where names cannot be looked up now, nobody is denied.
func TestAskingFails(t *testing.T) {
	o := options(&memSpool{})
	alarms := 0
	o.Alarm = func(error) { alarms++ }
	o.Ask, o.Directory = policy.Ask{Who: policy.WhoAnyone}, broken{}
	s := start(t, o).(*session)
	for _, r := range []smtp.Reply{s.Verify(t.Context(), "alice", false), s.Expand(t.Context(), "alice", false)} {
		if r.Code != 451 || r.Status.String() != "4.4.3" {
			t.Errorf("%v", r)
		}
	}
	if alarms != 2 {
		t.Errorf("%d alarms", alarms)
	}
	o.Ask = nil
	s = start(t, o).(*session)
	if r := s.Verify(t.Context(), "alice", false); r != notVerified || s.Expands() {
		t.Errorf("without a check: %v", r)
	}
}

type broken struct{}

func (broken) Lookup(context.Context, smtp.Path) ([]Entry, error) { return nil, fs.ErrInvalid }

// Whatever is asked for, the answer is one of those that RFC 5321 4.3.2 has for
// the verb, and every address in it is one that RCPT takes.
func FuzzAsk(f *testing.F) {
	for _, s := range []string{"alice", "alice@our.example", "<alice@our.example>", "A B <c@d>", "@a:b@our.example", "\"a\\\"\"", "nobody", "<>", ">", "<", "x@far.example", "ö"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	router, err := route.New(route.Table{Domains: []route.Domain{{Name: "our.example", Mailboxes: []string{"alice", "a", "ö"}, Aliases: "/aliases",
		Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/m/{user}"}}},
		Files: textFiles{"aliases": {Data: []byte("list: alice, x@far.example\nb: :moved: c@d.example\n\"a\\\"\": :forward: alice\n")}}})
	if err != nil {
		f.Fatal(err)
	}
	chains := policy.Standard(policy.Options{Verify: policy.WhoAnyone})
	o := Options{Router: router, Directory: names{router}, Ask: chains.Ask, Rcpt: chains.Rcpt}
	f.Fuzz(func(t *testing.T, what string, wide bool) {
		session, _ := New(o).Open(t.Context(), smtpd.Client{})
		s := session.(asker)
		for _, r := range []smtp.Reply{s.Verify(t.Context(), what, wide), s.Expand(t.Context(), what, wide)} {
			switch r.Code {
			case 250, 251, 252, 501, 504, 550, 551, 553:
			default:
				t.Fatalf("%q: %v", what, r)
			}
			if !wide && !ascii(r.Text) {
				t.Fatalf("%q: %q", what, r.Text)
			}
			for _, line := range strings.Split(r.Text, "\n") {
				if r.Code != 250 {
					break
				}
				i := strings.LastIndexByte(line, '<')
				if p, err := smtp.ParsePath(strings.TrimSuffix(line[i+1:], ">")); err != nil || p.Domain == "" {
					t.Fatalf("%q: %q, %v", what, line, err)
				}
			}
		}
	})
}

type asker interface {
	smtpd.Verifier
	smtpd.Expander
}
