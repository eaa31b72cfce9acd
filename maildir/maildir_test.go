package maildir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/maildir"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A content is a message in memory.
type content struct {
	m    *postrider.Message
	head string
	body string
	fail error         // instead of the end
	wait chan struct{} // before fail
}

func (c *content) Message() *postrider.Message { return c.m }
func (c *content) Head() []byte                { return []byte(c.head) }
func (c *content) Close() error                { return nil }
func (c *content) Reader() io.Reader {
	r := io.Reader(strings.NewReader(c.head + c.body))
	if c.fail != nil {
		r = io.MultiReader(r, failing{c})
	}
	return r
}

type failing struct{ c *content }

func (f failing) Read([]byte) (int, error) {
	if f.c.wait != nil {
		<-f.c.wait
	}
	return 0, f.c.fail
}

const head = "Received: from a by b; Sun, 22 Nov 2026 00:00:00 +0000\r\n"

// body has what a delivery must not touch: 8-bit octets, dots, "From ", a last
// line without an end.
const body = "Subject: x\r\n\r\n.\r\n..dots\r\nFrom here\r\n\xff\xfe\x80\r\nlast"

func message(to ...string) *postrider.Message {
	m := &postrider.Message{
		ID:      "0123456789abcdefghij",
		From:    smtp.Path{Local: "sender", Domain: "example.net"},
		Arrived: time.Unix(1700000000, 0),
	}
	for _, s := range to {
		at := strings.LastIndexByte(s, '@')
		m.Recipients = append(m.Recipients, postrider.Recipient{To: smtp.Path{Local: s[:at], Domain: s[at+1:]}})
	}
	return m
}

func delivery(dir string, to ...string) *postrider.Delivery {
	m := message(to...)
	d := &postrider.Delivery{Message: m, Route: postrider.Route{Via: postrider.ViaMaildir, Dir: dir},
		Content: &content{m: m, head: head, body: body}}
	for i := range to {
		d.Rcpts = append(d.Rcpts, i)
	}
	return d
}

// want is the file of a recipient.
func want(to string) string {
	return "Return-Path: <sender@example.net>\r\nDelivered-To: " + to + "\r\n" + head + body
}

func transport(fsys vfs.FS) *maildir.Transport {
	return maildir.New(maildir.Options{FS: fsys, Hostname: "mx.example.org"})
}

// together makes a transport whose attempts share the syncs of the whole file system.
func together(fsys vfs.FS) *maildir.Transport { return transport(fsys).Together() }

// read returns the contents of a folder by name.
func read(t *testing.T, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	list, err := fsys.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		b, err := vfs.ReadFile(fsys, dir+"/"+e.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

// contents returns what the files of new and cur hold, sorted.
func contents(t *testing.T, fsys vfs.FS, box string) []string {
	t.Helper()
	var all []string
	for _, folder := range []string{"new", "cur"} {
		all = slices.AppendSeq(all, maps.Values(read(t, fsys, box+"/"+folder)))
	}
	slices.Sort(all)
	return all
}

func wantDelivered(t *testing.T, outcomes []postrider.Outcome) {
	t.Helper()
	for k, o := range outcomes {
		if o.Result != postrider.ResultDelivered || !o.Final || !o.Reply.Positive() || o.Reply.Status.String() != "2.0.0" {
			t.Fatalf("recipient %d: %v %+v", k, o.Result, o)
		}
	}
}

func TestDeliver(t *testing.T) {
	systems := map[string]func(t *testing.T) (vfs.FS, string){
		"memory": func(*testing.T) (vfs.FS, string) { return vfs.NewMem(), "/mail/example.org/bob" },
		"disk":   func(t *testing.T) (vfs.FS, string) { return vfs.OS(), filepath.Join(t.TempDir(), "mail", "bob") },
		"relative": func(t *testing.T) (vfs.FS, string) {
			t.Chdir(t.TempDir())
			return vfs.OS(), "./data/mail/bob"
		},
	}
	for name, system := range systems {
		t.Run(name, func(t *testing.T) {
			fsys, box := system(t)
			tr := transport(fsys)
			d := delivery(box, "bob@example.org", "Bob@example.org")
			for round := range 3 {
				// Round 1 repeats, as after a lost settlement; round 2 after the
				// owner has seen one of the two.
				d.Again = round > 0
				wantDelivered(t, tr.Deliver(t.Context(), d))
				got := contents(t, fsys, box)
				if w := []string{want("Bob@example.org"), want("bob@example.org")}; !slices.Equal(got, w) {
					t.Fatalf("round %d: %d files:\n%q\nwant\n%q", round, len(got), got, w)
				}
				if left := read(t, fsys, box+"/tmp"); len(left) > 0 {
					t.Fatalf("left in tmp: %q", left)
				}
				if round == 1 {
					for name := range read(t, fsys, box+"/new") {
						if err := fsys.Rename(box+"/new/"+name, box+"/cur/"+name+":2,S"); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
			}
			for _, dir := range []string{"", "/tmp", "/new", "/cur"} {
				if info, err := fsys.Stat(box + dir); err != nil || info.Mode().Perm() != 0o700 {
					t.Fatalf("%s: %v, %v", dir, info, err)
				}
			}
		})
	}
}

// A message to one address given twice is one file; a host that was renamed
// between two attempts makes no second one.
func TestOneFile(t *testing.T) {
	m := vfs.NewMem()
	d := delivery("box", "bob@example.org", "bob@example.org")
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	d.Again = true
	d.Rcpts = []int{1}
	wantDelivered(t, maildir.New(maildir.Options{FS: m, Hostname: "other/host:1"}).Deliver(t.Context(), d))
	if got := contents(t, m, "box"); len(got) != 1 {
		t.Fatalf("%d files", len(got))
	}
	for name := range read(t, m, "box/new") {
		if !strings.HasPrefix(name, "1700000000.0123456789abcdefghijR") || !strings.HasSuffix(name, ".mx.example.org") {
			t.Fatalf("name %q", name)
		}
	}
	// Another message, or another host name that is no file name, is another file.
	d = delivery("box", "bob@example.org")
	d.Message.ID = "1123456789abcdefghij"
	tr := maildir.New(maildir.Options{FS: m, Hostname: "../x:2,S" + strings.Repeat("y", 300)})
	wantDelivered(t, tr.Deliver(t.Context(), d))
	for name := range read(t, m, "box/new") {
		if strings.ContainsAny(name, ":/") || len(name) > 150 {
			t.Fatalf("name %q", name)
		}
	}
	if got := contents(t, m, "box"); len(got) != 2 {
		t.Fatalf("%d files", len(got))
	}
}

func TestNullPath(t *testing.T) {
	m := vfs.NewMem()
	d := delivery("box", "bob@example.org")
	d.Message.From = smtp.Path{}
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	if got := contents(t, m, "box"); !strings.HasPrefix(got[0], "Return-Path: <>\r\nDelivered-To: bob@example.org\r\n") {
		t.Fatalf("%q", got)
	}
}

// RFC 5321 4.4: "exactly one return path SHOULD be present when the message is
// delivered." What is no field of the header stays.
func TestOtherReturnPaths(t *testing.T) {
	m := vfs.NewMem()
	d := delivery("box", "bob@example.org")
	const rest = "Subject: x\r\n\r\nReturn-Path: <in@the.body>\r\nX"
	d.Content.(*content).body = "return-path : <a@b>,\r\n\t<c@d>\r\nReturn-Path: <>\r\n" + rest
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	want := "Return-Path: <sender@example.net>\r\nDelivered-To: bob@example.org\r\n" + head + rest
	if got := contents(t, m, "box"); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	// A content that ends in the name of the field.
	d.Message.ID, d.Content.(*content).body = "1123456789abcdefghij", "Return-Path"
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	if got := contents(t, m, "box"); len(got) != 2 || !strings.HasSuffix(got[0], head+"Return-Path") {
		t.Errorf("%q", got)
	}
}

func TestDeferred(t *testing.T) {
	on := func(kind vfs.OpKind, part string, err error) func(vfs.Op) error {
		return func(op vfs.Op) error {
			if op.Kind == kind && strings.Contains(op.Name, part) {
				return err
			}
			return nil
		}
	}
	tests := []struct {
		name string
		hook func(vfs.Op) error
		edit func(d *postrider.Delivery)
		want string
		text string // in the reply
	}{
		{"content cannot be read", nil, func(d *postrider.Delivery) {
			d.Content.(*content).fail = io.ErrUnexpectedEOF
		}, "451 4.3.0", "read the message"},
		{"disk full on write", on(vfs.OpWrite, "tmp/", &vfs.ShortWrite{N: 10, Err: syscall.ENOSPC}), nil, "452 4.3.1", "box/tmp/"},
		{"disk full on create", on(vfs.OpCreate, "tmp/", syscall.ENOSPC), nil, "452 4.3.1", "box/tmp/"},
		{"quota", on(vfs.OpWrite, "tmp/", syscall.EDQUOT), nil, "452 4.2.2", "box/tmp/"},
		{"not permitted", on(vfs.OpCreate, "tmp/", syscall.EACCES), nil, "451 4.3.0", "box/tmp/"},
		{"cannot make the folder", on(vfs.OpMkdir, "box", syscall.EACCES), nil, "451 4.3.0", "box"},
		{"cannot sync the file", on(vfs.OpSync, "tmp/", syscall.EIO), nil, "451 4.3.0", "box/tmp/"},
		{"cannot link", on(vfs.OpLink, "new/", syscall.EIO), nil, "451 4.3.0", "box/new/"},
		{"cannot sync the folder", on(vfs.OpSyncDir, "/new", syscall.EIO), nil, "451 4.3.0", "box/new"},
		{"cannot list", on(vfs.OpReadDir, "/cur", syscall.EIO), func(d *postrider.Delivery) { d.Again = true }, "451 4.3.0", "box/cur"},
		{"upwards", nil, func(d *postrider.Delivery) { d.Route.Dir = "mail/../box" }, "451 4.3.5", ".."},
		{"no folder", nil, func(d *postrider.Delivery) { d.Route.Dir = "" }, "451 4.3.5", "empty"},
		{"NUL", nil, func(d *postrider.Delivery) { d.Route.Dir = "mail/a\x00" }, "451 4.3.5", "NUL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := vfs.NewMem()
			m.SetHook(tt.hook)
			d := delivery("mail/box", "bob@example.org", "eve@example.org")
			if tt.edit != nil {
				tt.edit(d)
			}
			outcomes := transport(m).Deliver(t.Context(), d)
			if len(outcomes) != 2 {
				t.Fatalf("%d outcomes", len(outcomes))
			}
			for _, o := range outcomes {
				got := fmt.Sprintf("%d %v", o.Reply.Code, o.Reply.Status)
				if o.Result != postrider.ResultDeferred || got != tt.want || !strings.Contains(o.Reply.Text, tt.text) ||
					strings.ContainsFunc(o.Reply.Text, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%v, %s %q; want deferred, %s with %q", o.Result, got, o.Reply.Text, tt.want, tt.text)
				}
			}
			m.SetHook(nil)
			for _, folder := range []string{"tmp", "new", "cur"} {
				if left := read(t, m, "mail/box/"+folder); len(left) > 0 {
					t.Errorf("left in %s: %q", folder, left)
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := transport(vfs.NewMem()).Deliver(ctx, delivery("box", "bob@example.org"))[0]
	if o.Result != postrider.ResultDeferred || o.Reply.Code != 451 {
		t.Fatalf("%+v", o)
	}
}

// A Maildir that is removed under a running server is made again.
func TestFolderGone(t *testing.T) {
	m := vfs.NewMem()
	tr := transport(m)
	d := delivery("mail/box", "bob@example.org")
	wantDelivered(t, tr.Deliver(t.Context(), d))
	if err := m.Rename("mail", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	wantDelivered(t, tr.Deliver(t.Context(), d))
	if got := contents(t, m.Crash(vfs.KeepNone), "mail/box"); !slices.Equal(got, []string{want("bob@example.org")}) {
		t.Fatalf("holds %q", got)
	}
}

// What several deliver at once, into one folder that none had seen before, is
// durable as soon as each says so.
func TestTogether(t *testing.T) {
	m := vfs.NewMem()
	tr := transport(m)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			d := delivery(fmt.Sprintf("mail/%d", i%3), "bob@example.org")
			d.Message.ID = postrider.ID(fmt.Sprintf("%020d", i))
			wantDelivered(t, tr.Deliver(context.Background(), d))
		})
	}
	wg.Wait()
	after := m.Crash(vfs.KeepNone)
	n := 0
	for i := range 3 {
		n += len(contents(t, after, fmt.Sprintf("mail/%d", i)))
	}
	if n != 20 {
		t.Fatalf("%d of 20 are there", n)
	}
}

// One who finds a folder does not believe in it while another, who made it and
// could not sync it, is about to take it back.
func TestFolderTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		failed := false
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && op.Name == "mail" && !failed {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpRemove && op.Name == "mail/box" {
				return time.Minute
			}
			return 0
		})
		tr := transport(m)
		first := make(chan []postrider.Outcome)
		go func() { first <- tr.Deliver(t.Context(), delivery("mail/box", "bob@example.org")) }()
		synctest.Wait()
		wantDelivered(t, tr.Deliver(t.Context(), delivery("mail/box", "bob@example.org")))
		if o := (<-first)[0]; o.Result != postrider.ResultDeferred {
			t.Fatalf("the first: %v", o.Result)
		}
		if got := contents(t, m.Crash(vfs.KeepNone), "mail/box"); len(got) != 1 {
			t.Fatalf("%d files after the power cut", len(got))
		}
	})
}

// big is a body of several sectors and writes, so that it can be torn.
var big = "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 30)

// recovered checks a disk after a power cut, then delivers again, as the queue
// does, and wants each message once and whole.
func recovered(t *testing.T, what string, m *vfs.Mem, first []postrider.Outcome) {
	t.Helper()
	whole := []string{strings.Replace(want("Bob@example.org"), body, big, 1), strings.Replace(want("bob@example.org"), body, big, 1)}
	got := contents(t, m, "mail/box")
	for _, s := range got {
		if !slices.Contains(whole, s) {
			t.Fatalf("%s: a torn file of %d octets is visible", what, len(s))
		}
	}
	for k, o := range first {
		if o.Result == postrider.ResultDelivered && !slices.Contains(got, whole[1-k]) {
			t.Fatalf("%s: recipient %d was told delivered, and is not", what, k)
		}
	}
	d := delivery("mail/box", "bob@example.org", "Bob@example.org")
	d.Content.(*content).body = big
	d.Again = true
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	if left := read(t, m, "mail/box/tmp"); len(left) > 0 {
		t.Fatalf("%s: %d files are left in tmp", what, len(left))
	}
	got = contents(t, m.Crash(vfs.KeepNone), "mail/box")
	if !slices.Equal(got, whole) {
		t.Fatalf("%s: after recovery %d files", what, len(got))
	}
}

// What a crash left in tmp may be the file that is in new: it is never written over.
func TestLeftInTmp(t *testing.T) {
	m := vfs.NewMem()
	d := delivery("box", "bob@example.org")
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove {
			return vfs.ErrCrash
		}
		return nil
	})
	transport(m).Deliver(t.Context(), d)
	m = m.Crash(vfs.KeepAll)
	if left := read(t, m, "box/tmp"); len(left) != 1 {
		t.Fatalf("%d files in tmp: the test has lost its sense", len(left))
	}
	d.Content.(*content).fail = syscall.EIO // d.Again is false, as it should not be
	d.Content.(*content).body = "half"
	if o := transport(m).Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDeferred {
		t.Fatalf("%v", o.Result)
	}
	if got := contents(t, m, "box"); !slices.Equal(got, []string{want("bob@example.org")}) {
		t.Fatalf("holds %q", got)
	}
}

// What a process that died had linked, and not synced, is made durable before it
// counts.
func TestFoundIsMadeDurable(t *testing.T) {
	for _, folder := range []string{"new", "cur"} {
		m := vfs.NewMem()
		other := delivery("box", "cid@example.org")
		other.Message.ID = "other"
		wantDelivered(t, transport(m).Deliver(t.Context(), other))
		d, elsewhere := delivery("box", "bob@example.org"), vfs.NewMem()
		wantDelivered(t, transport(elsewhere).Deliver(t.Context(), d))
		for name, content := range read(t, elsewhere, "box/new") {
			f, err := m.OpenFile("box/tmp/x", os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(f, content)
			if err = errors.Join(err, f.Sync(), f.Close(), m.Link("box/tmp/x", "box/"+folder+"/"+name)); err != nil {
				t.Fatal(err)
			}
		}
		d.Again = true
		wantDelivered(t, transport(m).Deliver(t.Context(), d))
		if got := contents(t, m.Crash(vfs.KeepNone), "box"); len(got) != 2 {
			t.Errorf("%s: %d files after the power cut", folder, len(got))
		}
	}
}

// The power goes at every operation in turn, with and without Maildir, and any
// part of what was not synced is kept.
func TestCrashEverywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("exhaustive, and skipped with -short")
	}
	t.Run("alone", func(t *testing.T) { crashEverywhere(t, transport) })
	t.Run("together", func(t *testing.T) { crashEverywhere(t, together) })
}

func crashEverywhere(t *testing.T, transport func(vfs.FS) *maildir.Transport) {
	rng := rand.New(rand.NewPCG(3, 5))
	crashes := 0
	for n := 0; ; n++ {
		m := vfs.NewMem()
		d := delivery("mail/box", "bob@example.org", "Bob@example.org")
		d.Content.(*content).body = big
		m.SetHook(vfs.CrashAt(n))
		outcomes := transport(m).Deliver(t.Context(), d)
		if !m.Dead() {
			wantDelivered(t, outcomes)
		}
		keeps := []vfs.Keep{vfs.KeepNone, vfs.KeepAll}
		for range 40 {
			keeps = append(keeps, vfs.KeepSome(rng, rng.Float64()))
		}
		over := !m.Dead()
		for i, keep := range keeps {
			recovered(t, fmt.Sprintf("operation %d, disk %d", n, i), m.Crash(keep), outcomes)
		}
		i := 0
		for after := range m.Crashes(64) {
			recovered(t, fmt.Sprintf("operation %d, choice %d", n, i), after, outcomes)
			i++
			crashes++
		}
		if over {
			break
		}
	}
	if crashes < 100 {
		t.Fatalf("only %d crashes", crashes)
	}
}

// Every operation fails in turn. The delivery is tried again on the same disk,
// the owner may have moved the mail in between, and then the power goes.
func TestFaultEverywhere(t *testing.T) {
	t.Run("alone", func(t *testing.T) { faultEverywhere(t, transport) })
	t.Run("together", func(t *testing.T) { faultEverywhere(t, together) })
}

func faultEverywhere(t *testing.T, transport func(vfs.FS) *maildir.Transport) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, &vfs.ShortWrite{N: 100, Err: syscall.ENOSPC}} {
		for n := 0; ; n++ {
			m := vfs.NewMem()
			tr := transport(m)
			d := delivery("mail/box", "bob@example.org", "Bob@example.org")
			d.Content.(*content).body = big
			hit := false
			m.SetHook(func(op vfs.Op) error {
				if op.N == n {
					hit = true
					return fault
				}
				return nil
			})
			first := tr.Deliver(t.Context(), d)
			m.SetHook(nil)
			for _, o := range first {
				if o.Result == postrider.ResultFailed {
					t.Fatalf("%v at %d: failed for ever", fault, n)
				}
			}
			if n%2 == 1 {
				for name := range read(t, m, "mail/box/new") {
					if err := m.Rename("mail/box/new/"+name, "mail/box/cur/"+name+":2,RS"); err != nil {
						t.Fatal(err)
					}
				}
			}
			d.Again = true
			second := tr.Deliver(t.Context(), d)
			wantDelivered(t, second)
			recovered(t, fmt.Sprintf("%v at %d", fault, n), m.Crash(vfs.KeepNone), second)
			if !hit {
				break
			}
		}
	}
}
