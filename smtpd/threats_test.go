package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// near are octets that one server or another has taken for the end of the data.
var near = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r.\n", "\n.\r", "\r\n.\r", "\r\n.\r\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n",
	"\n\x00.\n", "\r\n.\n\r\n", "\r\n.\r\x00\n",
}

// Over TCP, at the start of the data, in the middle and past the limit of size:
// what comes behind a near-ending is content, the message is refused at its true
// end, and the next command is answered in step.
func TestNearEndings(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &recorder{}
	s := &Server{Handler: h, MaxSize: 500, MaxIdle: 1 << 20, MaxErrors: 1 << 20}
	go func() { _ = s.Serve(context.Background(), l) }()
	defer func() { _ = s.Shutdown(context.Background()) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{c, t, bufio.NewReader(c)}
	p.expect("220")
	p.say("HELO x")
	p.expect("250")
	for _, ending := range near {
		for before, code := range map[string]string{"": "5", "Subject: x\r\n\r\nbody": "5", strings.Repeat("x\r\n", 200): "552"} {
			p.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA")
			p.expect("250")
			p.expect("250")
			p.expect("354")
			p.say("%s%sMAIL FROM:<evil@b>\r\nRCPT TO:<evil@d>\r\nDATA\r\nsmuggled\r\n.", before, ending)
			p.expect(code)
			p.say("VRFY in step")
			p.expect("252")
		}
	}
	for _, call := range h.log() {
		if strings.Contains(call, "evil") || strings.HasPrefix(call, "data \"") {
			t.Errorf("taken: %s", call)
		}
	}
}

// A client that sends content too slowly is given up, however well it keeps the
// deadline of each read; one that is slow and honest is not.
func TestSlowContent(t *testing.T) {
	for _, c := range []struct {
		name   string
		octets int
		every  time.Duration
		rate   int
		cut    bool
	}{
		{"an octet every four minutes", 1, 4 * time.Minute, 0, true},
		{"an octet every ten seconds", 1, 10 * time.Second, 0, true},
		{"just under the rate", 2500, 10 * time.Second, 0, true},
		{"just over the rate", 2600, 10 * time.Second, 0, false},
		{"just under the rate, in small packets", 70, 400 * time.Millisecond, 0, true},
		{"just over the rate, in small packets", 105, 400 * time.Millisecond, 0, false},
		{"a block every four minutes", 100 << 10, 4 * time.Minute, 0, false},
		{"any rate", 1, time.Minute, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{}, MinRate: c.rate})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				p.expect("220")
				p.transaction()
				p.say("DATA")
				p.expect("354")
				heard := make(chan error, 1)
				go func() {
					got, err := smtp.ReadReply(p.in)
					if err == nil {
						err = errors.New(got.String())
					}
					heard <- err
				}()
				begin := time.Now()
				line := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 1+c.octets/64)[:c.octets]
				for n := 0; time.Since(begin) < 12*time.Hour && n < 5000; n++ {
					if _, err := io.WriteString(p, line); err != nil {
						break
					}
					time.Sleep(c.every)
				}
				synctest.Wait()
				select {
				case err := <-heard:
					if !c.cut || !strings.HasPrefix(err.Error(), "421 4.4.2") {
						t.Errorf("after %v: %v", time.Since(begin), err)
					}
				default:
					if c.cut {
						t.Error("it went on for hours")
					}
				}
				p.Close()
			})
		})
	}
}

// What is thrown away holds a connection no longer than the time of the session,
// however well the client keeps the least rate; what is taken ends at its limit alone.
func TestThrownAway(t *testing.T) {
	const helo, ehlo, endless = "HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", rawOpen, "BDAT 9223372036854775807\r\n"
	past, mail := strings.Repeat("x\r\n", 1000), strings.TrimPrefix(ehlo, "EHLO x\r\n")
	for _, c := range []struct {
		name  string
		begin string
		limit int64
		early int // Data answers so, unread
		taken bool
	}{
		{name: "BDAT before EHLO", begin: endless},
		{name: "BDAT with wrong words", begin: ehlo + "BDAT 9223372036854775807 FOO\r\n"},
		{name: "a chunk past the limit", begin: ehlo + endless, limit: 1000},
		{name: "a chunk with a wrong line", begin: ehlo + endless + "\n"},
		{name: "a chunk behind one that was refused", begin: ehlo + "BDAT 3\r\na\nb" + endless},
		{name: "a chunk refused unread", begin: ehlo + endless, early: 550},
		{name: "a chunk answered unread", begin: ehlo + endless, early: 250},
		{name: "content past the limit", begin: helo + "DATA\r\n" + past, limit: 1000},
		{name: "content refused unread", begin: helo + "DATA\r\n", early: 550},
		{name: "content that is taken", begin: helo + "DATA\r\n", limit: 1 << 30, taken: true},
		{name: "chunks that are taken", begin: ehlo + "BDAT 1\r\nxBDAT 1000000000\r\n", limit: 1 << 30, taken: true},
		{name: "content that is taken after a chunk that was not", begin: "BDAT 1\r\nx" + helo + "DATA\r\n", taken: true},
		{name: "content that is taken after a message by BDAT that was not", begin: ehlo + "BDAT 3 LAST\r\na\nb" + mail + "DATA\r\n", taken: true},
		{name: "content that is taken after a message that was not", begin: helo + "DATA\r\n\n\r\n.\r\n" + mail + "DATA\r\n", taken: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{early: c.early}, MaxSize: c.limit})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				defer p.Close()
				begin, last, ended := time.Now(), smtp.Reply{}, time.Duration(0)
				go func() {
					for {
						got, err := smtp.ReadReply(p.in)
						if err != nil {
							break
						}
						last = got
					}
					ended = time.Since(begin)
				}()
				line := strings.Repeat(strings.Repeat("x", 63)+"\r\n", 20)
				_, err := io.WriteString(p, c.begin)
				for ; err == nil && time.Since(begin) < 3*time.Hour; time.Sleep(5 * time.Second) {
					_, err = io.WriteString(p, line)
				}
				synctest.Wait()
				cut := strings.HasPrefix(last.String(), "421 4.7.0")
				if c.taken && (ended != 0 || cut) {
					t.Errorf("%v after %v", last, ended)
				}
				if !c.taken && (!cut || ended < time.Hour || ended > time.Hour+time.Minute) {
					t.Errorf("%v, and the end after %v; want 421 after an hour", last, ended)
				}
			})
		})
	}
}

// slowSession takes its time between one read of the content and the next.
type slowSession struct{ recorderSession }

func (s slowSession) Data(_ context.Context, content io.Reader) []smtp.Reply {
	for buf := make([]byte, 1024); ; time.Sleep(time.Hour) {
		if _, err := content.Read(buf); err == io.EOF {
			return []smtp.Reply{smtp.OK}
		} else if err != nil {
			return nil
		}
	}
}

type slowHandler struct{ recorder }

func (h *slowHandler) Open(context.Context, Client) (Session, smtp.Reply) {
	return slowSession{recorderSession{&h.recorder}}, smtp.Reply{}
}

// A client is not given up for the time that we need ourselves.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &slowHandler{}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.transaction()
		p.say("DATA")
		p.expect("354")
		go fmt.Fprint(p, strings.Repeat("a line of the content\r\n", 5000), ".\r\n")
		_ = p.SetReadDeadline(time.Now().Add(1000 * time.Hour))
		p.expect("250")
		p.say("QUIT")
		p.expect("221")
	})
}

// Chunks of one octet that come at the least rate, if their commands are counted, are
// too slow; chunks of a thousand are not.
func TestSlowChunks(t *testing.T) {
	for size, want := range map[int]string{1: "421 4.4.2", 1000: "250"} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), &Server{Handler: &recorder{}})
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			p.expect("220")
			p.hello()
			p.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>")
			p.expect("250")
			p.expect("250")
			last := make(chan string, 1)
			go func() {
				for {
					if got, err := smtp.ReadReply(p.in); err != nil || got.Code != 250 {
						last <- fmt.Sprint(got, err)
						return
					}
				}
			}()
			content, heard := strings.Repeat("a line\r\n", 1000), "250"
			for begin := time.Now(); heard == "250" && time.Since(begin) < 2*time.Hour; {
				chunk := fmt.Sprintf("BDAT %d\r\n%s", size, content[:size])
				content = content[size:] + content[:size]
				_, _ = io.WriteString(p, chunk) // an error, where 421 has been said
				select {
				case heard = <-last:
				case <-time.After(time.Duration(len(chunk)) * time.Second / 280):
				}
			}
			if !strings.HasPrefix(heard, want) {
				t.Errorf("chunks of %d: %s, want %s", size, heard, want)
			}
		})
	}
}

// A dictionary of addresses is not read to its end, with or without messages
// between; a long list with some that are gone is.
func TestDictionary(t *testing.T) {
	for _, c := range []struct {
		name    string
		unknown int // recipients of each transaction
		known   int
		message bool // each transaction brings a message
		most    int  // refusals until the end; 0: there is none
	}{
		{"unknown ones", 1000, 0, false, 100},
		{"with known ones between", 9, 1, false, 100},
		{"with messages between", 9, 1, true, 112},
		{"a message for each", 1, 1, true, 0},
		{"a long list", 90, 910, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{}})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				p.expect("220")
				p.say("HELO x")
				p.expect("250")
				n := 0
				ask := func(line string) bool {
					p.say("%s", line)
					got, err := smtp.ReadReply(p.in)
					if err != nil {
						t.Fatal(err)
					}
					if got.Code == 550 {
						n++
					}
					if n == c.most && c.most > 0 {
						p.expect("421 4.7.0")
						p.ended()
						return false
					}
					return true
				}
				for range 50 {
					lines := append([]string{"MAIL FROM:<a@b>"}, repeat("RCPT TO:<c@d>", c.known)...)
					lines = append(lines, repeat("RCPT TO:<unknown@d>", c.unknown)...)
					if c.message {
						lines = append(lines, "DATA", ".")
					} else {
						lines = append(lines, "RSET")
					}
					for _, line := range lines {
						if !ask(line) {
							return
						}
					}
				}
				if c.most > 0 {
					t.Errorf("%d were refused, and it goes on", n)
				}
				p.Close()
			})
		})
	}
}

func repeat(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// A connection that brings no mail ends, whatever it says in its place; a message
// gives it another turn.
func TestIdleCommands(t *testing.T) {
	for _, line := range []string{"RSET", "NOOP", "VRFY x", "HELP", "EHLO x", "HELO x", "MAIL FROM:<later@b>", "MAIL FROM:<refused@b>",
		"MAIL FROM:<a@b>\r\nRSET", "STARTTLS", "QUIT x"} {
		t.Run(line, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxIdle: 10, MaxRefused: 1 << 20, MaxErrors: 1 << 20})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				p.expect("220")
				p.say("EHLO x")
				p.expect("250") // the first
				for range 8 {
					p.say("%s", line)
					for range 1 + strings.Count(line, "\n") {
						if got, err := smtp.ReadReply(p.in); err != nil || got.Code == 421 {
							t.Fatal(got, err)
						}
					}
				}
				p.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP")
				for _, want := range []string{"250", "250", "354", "250", "250"} {
					p.expect(want)
				}
				for range 8 {
					p.say("NOOP")
					p.expect("250")
				}
				p.say("NOOP")
				p.expect("250")
				p.expect("421 4.7.0")
				p.ended()
			})
		})
	}
}

// A connection that keeps every deadline and brings no mail ends as well.
func TestSessionTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxIdle: 1 << 20})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.transaction()
		begin := time.Now()
		for range 14 {
			time.Sleep(4 * time.Minute)
			p.say("NOOP")
			p.expect("250")
		}
		p.say("DATA\r\n.") // after 56 minutes
		p.expect("354")
		p.expect("250")
		for range 15 {
			time.Sleep(4 * time.Minute)
			p.say("NOOP")
			p.expect("250")
		}
		time.Sleep(time.Second)
		p.say("NOOP") // an hour and a second after the message
		p.expect("250")
		p.expect("421 4.7.0")
		p.ended()
		if got := time.Since(begin); got < 116*time.Minute {
			t.Errorf("cut off after %v", got)
		}
	})
}

// A name of any length and octets is repeated short and harmless, and never in
// two lines.
func TestLongNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		for _, name := range []string{
			strings.Repeat("a", lineMax-len("EHLO \r\n")), strings.Repeat("a.", 1000), strings.Repeat("[", 2000), strings.Repeat("%s%n", 400),
			"${run{/bin/true}}", "`id`", "$(id)", "\xff\xfe\x80", "x(comment", "[IPv6:" + strings.Repeat(":", 500) + "]",
		} {
			p.say("HELO %s", name)
			got, err := smtp.ReadReply(p.in)
			if err != nil || got.Code != 250 || len(got.Text) > len("localhost greets ")+smtp.DomainMax || strings.ContainsAny(got.Text, "\n$`(){}\x1b") {
				t.Errorf("%.20q: %.300q, %v", name, got, err)
			}
		}
		p.say("QUIT")
		p.expect("221")
	})
}

// An octet that is no part of any address makes the command one that is not
// understood, and never an address that ends before it.
func TestControlsInAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{offer: Offer{Extensions: smtp.ExtSMTPUTF8}}
		r := run(t, t.Context(), &Server{Handler: h, MaxErrors: 1 << 20, MaxIdle: 1 << 20})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.say("EHLO x")
		p.expect("250")
		p.say("MAIL FROM:<a@b> SMTPUTF8")
		p.expect("250")
		for c := range 0x21 {
			for _, form := range []string{"<root%s@d>", "<root@d%s>", "<\"root%s\"@d>", "<\"root\\%s\"@d>", "<root@d>%s", "<@a%s:root@d>"} {
				if c == ' ' && strings.Contains(form, "\"") || c == ' ' && strings.HasSuffix(form, "%s") || c == '\t' && strings.HasSuffix(form, "%s") {
					continue // a quoted space is right, and white space at the end is passed over
				}
				p.say("RCPT TO:"+form, string(rune(c)))
				p.expect("50")
			}
		}
		for _, call := range h.log() {
			if strings.HasPrefix(call, "rcpt") {
				t.Errorf("taken: %q", call)
			}
		}
		p.Close()
	})
}
