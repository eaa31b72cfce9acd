package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// login is one AUTH on the submission listener, from an address of this machine;
// it returns the reply.
func (h *submissionHost) login(from, user, password string) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", net.JoinHostPort(h.ip, strconv.Itoa(h.port)))
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, h.ip)
	if err != nil {
		conn.Close()
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		return err
	}
	return c.Auth(smtp.PlainAuth("", user, password, h.ip))
}

// A thousand guesses from one address: it is turned away after a few, costs
// bounded memory, and never keeps an honest client out.
func TestPasswordGuessing(t *testing.T) {
	if !linux() {
		miss(t, "many loopback addresses need Linux")
	}
	h := newSubmissionHost(t, "limits { exempt = [] }\n")
	h.start()
	guesser, honest := freeIP(), freeIP()
	unknown := h.login(freeIP(), "nobody@a.example", "guess")
	wrong := h.login(freeIP(), "alice@a.example", "guess")
	if unknown == nil || wrong == nil || unknown.Error() != wrong.Error() {
		t.Fatalf("unknown user: %v; wrong password: %v", unknown, wrong)
	}
	var mu sync.Mutex
	answers := map[string]int{}
	var wg sync.WaitGroup
	guesses := make(chan int, 1000)
	for i := range 1000 {
		guesses <- i
	}
	close(guesses)
	for range 20 {
		wg.Go(func() {
			for i := range guesses {
				err := h.login(guesser, "alice@a.example", fmt.Sprint("guess", i))
				if err == nil {
					err = fmt.Errorf("taken")
				}
				mu.Lock()
				answers[strings.Fields(err.Error())[0]]++
				mu.Unlock()
			}
		})
	}
	for i := range 10 {
		if err := h.login(honest, "alice@a.example", alicePassword); err != nil {
			t.Errorf("honest login %d: %v", i, err)
		}
	}
	wg.Wait()
	if answers["taken"] > 0 || answers["535"] > 50 || answers["454"]+answers["421"] < 900 {
		t.Errorf("answers %v", answers)
	}
	if err := h.login(guesser, "alice@a.example", alicePassword); err == nil {
		t.Error("the address that guessed is let in at once")
	}
	if rss, ok := h.memory(); ok && rss > 300<<20 && !raceEnabled {
		t.Errorf("the server has %d MiB of memory", rss>>20)
	}
	if strings.Contains(h.log.String(), "guess1") || strings.Contains(h.log.String(), alicePassword) {
		t.Error("the log holds a password")
	}
	h.stop()
}

// Mail that waits: first the sender hears that it is late, then that it is given
// up, and both in time.
func TestLateThenGivenUp(t *testing.T) {
	w := newWorld(t)
	w.host("mx.b.example") // nobody listens
	w.zone.MX("b.example", 10, "mx.b.example")
	ways, _, _ := strings.Cut(w.relay(), "domain ")
	h := newSubmissionHost(t, strings.Replace(ways, "delay_notice = \"0s\"", "delay_notice = \"1s\"\n  expire = \"4s\"", 1))
	h.start()
	out, status := input(t, h.dir, "Subject: late\r\n\r\nhello\r\n", "env", "POSTRIDER_PASSWORD="+alicePassword, binary, "send",
		"--server", fmt.Sprintf("%s:%d", h.ip, h.port), "--tls", "--insecure", "--user", "alice@a.example",
		"--from", "alice@a.example", "--to", "x@b.example", "--config", h.config)
	if status != 0 {
		t.Fatal(out)
	}
	var box [][]byte
	eventually(t, says("alice has not heard twice"), func() bool {
		box = h.maildir("a.example", "alice")
		return len(box) == 2
	})
	first, second := string(box[0]), string(box[1])
	if strings.Contains(first, "Action: failed") {
		first, second = second, first
	}
	if !strings.Contains(first, "Action: delayed") || !strings.Contains(second, "Action: failed") || !strings.Contains(second, ".4.7\r\n") {
		t.Errorf("first:\n%s\nsecond:\n%s", first, second)
	}
	h.empty()
	h.stop()
}
