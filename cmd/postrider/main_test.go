package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	for _, name := range []string{"POSTRIDER_CONFIG", "NOTIFY_SOCKET"} {
		os.Unsetenv(name)
	}
	goleak.VerifyTestMain(m)
}

// asProgram in the environment makes the test binary the program itself.
const asProgram = "POSTRIDER_TEST_PROGRAM"

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A screen takes what a command prints, while a test looks for words in it.
type screen struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed and made anew at each write
}

func newScreen() *screen { return &screen{more: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.b.Write(p)
}

func (s *screen) look() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String(), s.more
}

func (s *screen) String() string {
	text, _ := s.look()
	return text
}

// wait returns what the first group of a pattern matches, once it does.
func (s *screen) wait(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(patience)
	for {
		text, more := s.look()
		if m := re.FindStringSubmatch(text); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q does not come:\n%s", pattern, text)
		}
	}
}

// command runs the program to its end.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &err)
	return code, out.String(), err.String()
}

// A process is a command that runs until it is stopped.
type process struct {
	stdout, stderr *screen
	stop           func() int // ends it as SIGTERM does, and returns the exit code
}

func begin(t *testing.T, args ...string) *process {
	t.Helper()
	return launch(t, func(ctx context.Context, p *process) int {
		return run(ctx, args, strings.NewReader(""), p.stdout, p.stderr)
	})
}

// launch starts what runs until its context ends.
func launch(t *testing.T, run func(context.Context, *process) int) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{stdout: newScreen(), stderr: newScreen()}
	code := make(chan int, 1)
	go func() { code <- run(ctx, p) }()
	p.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { p.stop() })
	return p
}

// site writes a configuration on free ports and returns its name. The route of
// other mail is via.
func site(t *testing.T, via string) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "p.hcl")
	write(t, name, fmt.Sprintf(`
hostname = "mx.example.org"
data_dir = %q
listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.1"]
}
admin { address = "127.0.0.1:0" }
domain "example.org" { mailboxes = ["alice"] }
route "*" { via = %q }
`, filepath.Join(dir, "data"), via))
	return name
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve starts a server of site and returns its address.
func serve(t *testing.T, conf string) (p *process, addr string) {
	t.Helper()
	p = begin(t, "serve", "--config", conf)
	return p, p.stdout.wait(t, `SMTP +(127\.0\.0\.1:\d+)`)
}

// The first minute: a server, a message, the mailbox, the end.
func TestServe(t *testing.T) {
	conf := site(t, "hold")
	p, addr := serve(t, conf)
	health := p.stdout.wait(t, `(http://\S+/healthz)`)
	code, out, errs := command(t, "Hello\n", "send", "--server", addr, "--from", "me@example.net", "--to", "alice@example.org", "--subject", "Hello")
	if code != 0 || !regexp.MustCompile(`^alice@example.org: 250 2\.0\.0 \S+ queued\n$`).MatchString(out) || !strings.Contains(errs, "CRLF") {
		t.Errorf("send: %d, %s%s", code, out, errs)
	}
	p.stderr.wait(t, `to=<alice@example.org> .*status=delivered`)
	tr := &http.Transport{DisableKeepAlives: true}
	if r, err := (&http.Client{Transport: tr, Timeout: patience}).Get(health); err != nil || r.StatusCode != 200 {
		t.Errorf("%v, %v", r, err)
	} else {
		r.Body.Close()
	}
	for _, want := range []string{conf, "mx.example.org", "example.org (alice): lands in", "held", "postrider send --server " + addr} {
		if !strings.Contains(p.stdout.String(), want) {
			t.Errorf("serve does not say %q:\n%s", want, p.stdout)
		}
	}
	if code := p.stop(); code != 0 {
		t.Errorf("serve ends with %d: %s", code, p.stderr)
	}
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(conf), "data/mail/example.org/alice/new/*"))
	if len(names) != 1 {
		t.Fatalf("%d files in the mailbox", len(names))
	}
	mail, _ := os.ReadFile(names[0])
	for _, want := range []string{"Return-Path: <me@example.net>\r\n", "\r\nSubject: Hello\r\n", "\r\nTo: <alice@example.org>\r\n", "\r\nMessage-ID: <", "\r\n\r\nHello\r\n"} {
		if !bytes.Contains(mail, []byte(want)) {
			t.Errorf("no %q in\n%s", want, mail)
		}
	}
}

// queue ls, show and retry, with the server up and down.
func TestQueue(t *testing.T) {
	conf := site(t, "error:450 4.7.1 Come back later")
	p, addr := serve(t, conf)
	code, out, errs := command(t, "Subject: waits\r\n\r\nx\r\n", "send", "--json", "--server", addr, "--from", "alice@example.org", "--to", "bob@far.example")
	var answer sent
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 || answer.Code != 250 || answer.To != "bob@far.example" {
		t.Fatalf("send: %d, %s%s", code, out, errs)
	}
	id := strings.Fields(answer.Reply)[2]
	p.stderr.wait(t, `to=<bob@far.example> .*status=deferred`)
	ls := func(want bool, flags ...string) {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"queue", "ls", "--config", conf}, flags...)...)
		if code != 0 || strings.Contains(out, id) != want || want && !strings.Contains(out, "450 4.7.1 Come back later") {
			t.Errorf("%q: %d, %s%s", flags, code, out, errs)
		}
	}
	look := func() {
		t.Helper()
		ls(true)
		ls(true, "--json", "--state", "deferred", "--domain", "far.example", "--from", "alice@*", "--reason", "come back", "--id", id[:5])
		ls(false, "--state", "held")
		ls(false, "--older", "1d")
		code, out, errs := command(t, "", "queue", "show", id, "--json", "--config", conf)
		var m struct{ ID, State string }
		if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 || m.ID != id || m.State != "deferred" {
			t.Errorf("show: %d, %s%s", code, out, errs)
		}
		if code, _, errs := command(t, "", "queue", "show", "zzz", "--config", conf); code != 1 || !strings.Contains(errs, "zzz") {
			t.Errorf("show of nothing: %d, %s", code, errs)
		}
	}
	look()
	if code, out, errs := command(t, "", "queue", "retry", "--config", conf, "--domain", "far.example"); code != 0 || !strings.Contains(out, "retry: 1 message, 1 recipient") {
		t.Errorf("retry: %d, %s%s", code, out, errs)
	}
	p.stderr.wait(t, `to=<bob@far.example> .*status=deferred tries=2`)
	if code := p.stop(); code != 0 {
		t.Errorf("serve ends with %d: %s", code, p.stderr)
	}
	look()
	if code, _, errs := command(t, "", "queue", "retry", "--config", conf); code != 1 || !strings.Contains(errs, "postrider serve") {
		t.Errorf("retry with the server down: %d, %s", code, errs)
	}
}

func TestSink(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "kept")
	p := begin(t, "sink", "--listen", "127.0.0.1:0", "--json", "--messages", "2", "--keep", keep)
	addr := p.stderr.wait(t, `listens on (\S+)`)
	message := "Subject: x\r\n\r\n.dot\r\nb\xe4r\r\n"
	var trace string
	for range 2 {
		code, out, errs := command(t, message, "send", "-v", "--server", addr, "--from", "", "--to", "a@b.example", "--to", "c@d.example")
		if code != 0 || strings.Count(out, "250") != 2 {
			t.Errorf("send: %d, %s%s", code, out, errs)
		}
		if trace == "" { // the last dialogue may end with 421, as the sink stops
			trace = errs
		}
	}
	for _, want := range []string{"S: 220 ", "C: EHLO ", "C: MAIL FROM:<>", "BODY=8BITMIME", "C: RCPT TO:<c@d.example>", "S: 354 ", "octets)"} {
		if !strings.Contains(trace, want) {
			t.Errorf("-v does not show %q:\n%s", want, trace)
		}
	}
	// The sink ends with its last message, and may say so before the client can.
	if !strings.Contains(trace, "C: QUIT") && !strings.Contains(trace, "S: 421 ") {
		t.Errorf("-v shows no end:\n%s", trace)
	}
	if strings.Contains(trace, "dot") {
		t.Errorf("-v shows the content:\n%s", trace)
	}
	line := p.stdout.wait(t, `^(.*)\n`)
	var sum map[string]float64
	if err := json.Unmarshal([]byte(line), &sum); err != nil {
		t.Fatal(err)
	}
	if sum["messages"] != 2 || sum["bytes"] != float64(2*len(message)) || sum["errors"] != 0 || sum["seconds"] <= 0 || sum["p99_ms"] < sum["p50_ms"] || len(sum) != 6 {
		t.Errorf("%v", sum)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("sink ends with %d: %s", code, p.stderr)
	}
	for _, name := range []string{"00000001.eml", "00000002.eml"} {
		if b, err := os.ReadFile(filepath.Join(keep, name)); err != nil || string(b) != message {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// Where the configuration comes from, and what is not taken.
func TestFindConfig(t *testing.T) {
	if _, err := os.Stat(systemConfig); err == nil {
		t.Skip("this machine has a configuration of its own")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	good := `listener "mx" { address = "127.0.0.1:0" }` + "\n"
	check := func(want int, says string, flags ...string) {
		t.Helper()
		code, out, errs := command(t, "", append([]string{"check"}, flags...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("%q: %d, want %d with %q: %s%s", flags, code, want, says, out, errs)
		}
	}
	check(0, "built-in")
	check(2, "--config", "--config", "gone.hcl")
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	check(2, "no configuration")
	os.Unsetenv("NOTIFY_SOCKET")
	write(t, "postrider.hcl", good)
	check(0, "postrider.hcl: ok")
	if err := os.Chmod("postrider.hcl", 0o622); err != nil {
		t.Fatal(err)
	}
	check(2, "can be written by others")
	check(0, "postrider.hcl: ok", "--config", "postrider.hcl")
	t.Setenv("POSTRIDER_CONFIG", filepath.Join(dir, "other.hcl"))
	check(2, "$POSTRIDER_CONFIG")
	write(t, "other.hcl", good)
	check(0, "other.hcl: ok")
	check(0, "postrider.hcl: ok", "--config", "postrider.hcl")
	os.Unsetenv("POSTRIDER_CONFIG")
	// A command that was not asked to run what lies about does not read it.
	if code, out, errs := command(t, "", "queue", "ls"); code != 0 || !strings.Contains(out, "No messages") {
		t.Errorf("queue ls: %d, %s%s", code, out, errs)
	}
}

func TestCheckTellsMistakes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "w.hcl")
	write(t, name, "listener \"mx\" {\n  adress = \":25\"\n}\nroute \"*\" { via = \"discard\" }\n")
	code, out, errs := command(t, "", "check", "--config", name)
	for _, want := range []string{"w.hcl:2,3: error: unknown key", "  2 |   adress", "^^^^^^", `Did you mean "address"?`, "warning"} {
		if code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%d: no %q in %s%s", code, want, out, errs)
		}
	}
	code, out, _ = command(t, "", "check", "--config", name, "--json")
	dec := json.NewDecoder(strings.NewReader(out))
	var all []mistake
	for dec.More() {
		var m mistake
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	if code != 2 || len(all) != 3 || all[1].Line != 2 || all[1].Column != 3 || all[1].Severity != "error" || all[2].Severity != "warning" {
		t.Errorf("%d: %+v", code, all)
	}
	if code, out, _ := command(t, "", "serve", "--config", name); code != 2 || out != "" {
		t.Errorf("serve: %d, %s", code, out)
	}
}

// Bad usage is exit code 2, with a word of what is wrong.
func TestUsage(t *testing.T) {
	conf := site(t, "hold")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{nil, "expected one of"},
		{[]string{"fly"}, "fly"},
		{[]string{"serve", "--colour"}, "--colour"},
		{[]string{"send", "--to", "a@b.example"}, "--from"},
		{[]string{"send", "--from", "a", "--to", "a@b.example"}, "--from a"},
		{[]string{"send", "--from", "", "--to", ""}, "recipient"},
		{[]string{"send", "--from", "", "--to", "a@b.example", "--subject", "a\nb: c"}, "one line"},
		{[]string{"send", "--from", "", "--to", "a@b.example", "--server", "here"}, "HOST:PORT"},
		{[]string{"send", "--from", "", "--to", "a@b.example", "gone.eml"}, "gone.eml"},
		{[]string{"queue", "ls", "--config", conf, "--older", "5"}, "--older 5"},
		{[]string{"queue", "ls", "--config", conf, "--state", "waiting"}, "deferred"},
		{[]string{"sink", "--messages", "-1"}, "--messages"},
		{[]string{"sink", "--reset", "2"}, "0 to 1"},
		{[]string{"sink", "--reset", "0.6", "--lost", "0.6"}, "1 at most"},
		{[]string{"sink", "--slow", "fast"}, "--slow fast"},
		{[]string{"sink", "--latency", "-1s"}, "--latency"},
		{[]string{"bench"}, "--server"},
		{[]string{"bench", "--server", "192.0.2.1:25"}, "--yes-not-loopback"},
		{[]string{"bench", "--server", "here"}, "HOST:PORT"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--size", "10B"}, "256"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--size", "much"}, "--size much"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--messages", "0"}, "--messages 0"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--sessions", "0"}, "--sessions 0"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--rcpts", "0"}, "--rcpts 0"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--rate", "-1"}, "--rate"},
		{[]string{"bench", "--server", "127.0.0.1:1", "--to", "<a@b>"}, "--to"},
	} {
		code, out, errs := command(t, "", tt.args...)
		if code != 2 || !strings.Contains(errs, tt.says) || out != "" {
			t.Errorf("%q: %d, %s%s", tt.args, code, out, errs)
		}
	}
}

func TestHelp(t *testing.T) {
	if code, out, _ := command(t, "", "--help"); code != 0 || !strings.Contains(out, "queue ls") {
		t.Errorf("%d: %s", code, out)
	}
}

// What fails is exit code 1, and says what to do.
func TestFailures(t *testing.T) {
	p := begin(t, "sink", "--listen", "127.0.0.1:0")
	addr := p.stderr.wait(t, `listens on (\S+)`)
	if code, _, errs := command(t, "", "sink", "--listen", addr); code != 1 || !strings.Contains(errs, "--listen") {
		t.Errorf("an address that is taken: %d, %s", code, errs)
	}
	p.stop()
	if out := p.stdout.String(); !strings.HasPrefix(out, "0 messages") {
		t.Errorf("the sink counts %s", out)
	}
	if code, _, errs := command(t, "", "send", "--server", addr, "--from", "", "--to", "a@b.example"); code != 1 || !strings.Contains(errs, "postrider serve") {
		t.Errorf("nobody there: %d, %s", code, errs)
	}
	conf := site(t, "hold")
	_, addr = serve(t, conf)
	code, out, _ := command(t, "x\r\n", "send", "--server", addr, "--from", "", "--to", "nobody@example.org", "--to", "alice@example.org")
	if code != 1 || !strings.Contains(out, "nobody@example.org: 550 5.1.1") || !strings.Contains(out, "alice@example.org: 250") {
		t.Errorf("a recipient that is refused: %d, %s", code, out)
	}
	if code, _, errs := command(t, "", "serve", "--config", conf); code != 1 || !strings.Contains(errs, "stop that one") {
		t.Errorf("a second server: %d, %s", code, errs)
	}
}
