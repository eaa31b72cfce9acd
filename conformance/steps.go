package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A step is one line of a dialogue.
type step struct {
	run func(*dialogue) *end
}

// parseStep makes the step of a line that was cut at its first space.
func parseStep(word, rest string) (step, error) {
	switch word {
	case "C:", "C>", "C1>":
		if word == "C:" {
			rest += `\r\n`
		}
		if _, err := unescape(rest); err != nil {
			return step{}, err
		}
		return step{func(d *dialogue) *end { return d.say(rest, word == "C1>") }}, nil
	case "S:", "S?", "ends", "hears":
		return parseHear(word, rest)
	case "many":
		return parseMany(rest)
	case "wait":
		wait, err := time.ParseDuration(rest)
		return step{func(d *dialogue) *end { return d.wait(wait) }}, err
	case "check":
		f := checks[rest]
		if f == nil {
			return step{}, fmt.Errorf("there is no check %s", rest)
		}
		return step{func(d *dialogue) *end {
			if why := f(d); why != "" {
				return failed("%s", why)
			}
			return nil
		}}, nil
	case "at":
		if _, ok := places[rest]; !ok {
			return step{}, fmt.Errorf("there is no place %s", rest)
		}
		return step{func(d *dialogue) *end { return d.at(rest) }}, nil
	case "offers", "lists", "hides":
		return step{func(d *dialogue) *end { return d.keyword(word, rest) }}, nil
	case "limited":
		return step{func(d *dialogue) *end {
			_, _, e := d.size("size")
			return e
		}}, nil
	case "mailbox", "cut", "arrives", "stays-away":
		return parseDelivered(word, rest)
	case "clear":
		return step{func(d *dialogue) *end {
			if d.tls {
				return skipped("TLS is on")
			}
			return nil
		}}, nil
	case "tls":
		return step{func(d *dialogue) *end { return d.goTLS(false) }}, nil
	case "tls?":
		return step{func(d *dialogue) *end { return d.goTLS(true) }}, nil
	case "old-tls":
		return step{(*dialogue).oldTLS}, nil
	case "unbroken":
		return step{(*dialogue).unbroken}, nil
	case "closed":
		return step{(*dialogue).closed}, nil
	}
	return step{}, fmt.Errorf("there is no step %q", word)
}

// parseHear makes a step that waits for replies.
func parseHear(word, rest string) (step, error) {
	n := 0
	if word == "ends" || word == "hears" {
		count, list, _ := strings.Cut(rest, " ")
		var err error
		if n, err = strconv.Atoi(count); err != nil {
			return step{}, err
		}
		rest = list
	}
	want, err := parseCodes(rest)
	switch word {
	case "S:":
		return step{func(d *dialogue) *end { return d.want(want) }}, err
	case "S?":
		return step{func(d *dialogue) *end { return d.hope(want) }}, err
	case "hears":
		return step{func(d *dialogue) *end { return d.hears(n, want) }}, err
	}
	return step{func(d *dialogue) *end { return d.ends(n, want) }}, err
}

// parseMany reads N LINE = CODES.
func parseMany(rest string) (step, error) {
	count, rest, _ := strings.Cut(rest, " ")
	at := strings.LastIndex(rest, " = ")
	n, err := strconv.Atoi(count)
	if err != nil || at < 0 {
		return step{}, fmt.Errorf("%q is not N LINE = CODES", rest)
	}
	line := rest[:at] + `\r\n`
	want, err := parseCodes(rest[at+len(" = "):])
	return step{func(d *dialogue) *end {
		for range n {
			if e := d.say(line, false); e != nil {
				return e
			}
			if e := d.want(want); e != nil {
				return e
			}
		}
		return nil
	}}, err
}

// say sends a text.
func (d *dialogue) say(text string, each bool) *end {
	packets, e := d.expand(text)
	if e != nil {
		return e
	}
	d.send(packets, each)
	return nil
}

// want reads a reply, and fails if it is none of those.
func (d *dialogue) want(c codes) *end {
	r, err := d.read()
	switch {
	case err == errClosed && c.closed:
		return done
	case err != nil:
		return failed("%v, where %s is right", err, c)
	case c.match(r.code):
		return nil
	case r.code == 421:
		return skipped("the server ends the connection: 421 %s", r.text())
	}
	return failed("the reply is %d, where %s is right", r.code, c)
}

// hears wants so many replies.
func (d *dialogue) hears(n int, c codes) *end {
	for range n {
		if e := d.want(c); e != nil {
			return e
		}
	}
	return nil
}

// hope reads a reply, and skips the case if it is none of those.
func (d *dialogue) hope(c codes) *end {
	r, err := d.read()
	if err != nil {
		return skipped("%v, and it needs %s", err, c)
	}
	if !c.match(r.code) {
		return skipped("the reply is %d, and it needs %s", r.code, c)
	}
	return nil
}

// closed wants the end of the connection.
func (d *dialogue) closed() *end {
	r, err := d.read()
	switch {
	case err == errClosed:
		return nil
	case err != nil:
		return failed("the connection is not closed")
	}
	return failed("the connection is not closed, and a reply %d comes", r.code)
}

// ends counts the replies that come before that to QUIT.
func (d *dialogue) ends(n int, c codes) *end {
	got, e := d.rest(n > 0)
	if e != nil {
		return e
	}
	return few(got, n, c)
}

// unbroken wants no reply that shows a false end of the data: behind it the
// server would find RSET, which it must answer 250. Who refuses the content in
// more than one reply has another fault.
func (d *dialogue) unbroken() *end {
	got, e := d.rest(true)
	if e != nil || len(got) < 2 {
		return e
	}
	ok := codes{yes: []string{"2yz"}}
	if ok.match(got[0]) || slices.ContainsFunc(got[1:], ok.match) {
		return failed("%d replies come (%s): the data was taken to end before its end", len(got), join(got))
	}
	return nil
}

func join(codes []int) string { return strings.Trim(fmt.Sprint(codes), "[]") }

// rest says QUIT, after the reply that is due if one is, and returns the replies
// up to that to QUIT, or to the end of the connection.
func (d *dialogue) rest(due bool) ([]int, *end) {
	var got []int
	if due {
		// Where no replies are grouped, QUIT waits for the one that is due.
		r, err := d.read()
		if err == errClosed {
			return nil, nil
		}
		if err != nil {
			return nil, failed("%v", err)
		}
		got = append(got, r.code)
	}
	d.send([][]byte{[]byte("QUIT\r\n")}, false)
	for len(got) < repliesMax {
		r, err := d.read()
		if err == errClosed {
			break
		}
		if err != nil {
			return nil, failed("%v", err)
		}
		if r.code == 221 {
			break
		}
		got = append(got, r.code)
	}
	d.content = true // QUIT was said
	return got, nil
}

// few judges what ends has counted.
func few(got []int, n int, c codes) *end {
	switch {
	case len(got) > n:
		return failed("%d replies come (%s), where %d at most are right", len(got), join(got), n)
	case len(c.yes)+len(c.no) == 0:
		return nil
	case len(got) == 0 && c.closed:
		return nil
	case len(got) == 0:
		return failed("the connection is closed without a reply, where %s is right", c)
	case !c.match(got[0]):
		return failed("the reply is %d, where %s is right", got[0], c)
	}
	return nil
}

// keyword looks for an extension in the last response to EHLO.
func (d *dialogue) keyword(word, name string) *end {
	if name == "{each}" {
		name, _, _ = strings.Cut(d.c.each, " ")
	}
	_, there := d.offers[name]
	switch {
	case word == "offers" && !there:
		return skipped("%s is not offered", name)
	case word == "lists" && !there:
		return failed("EHLO does not list %s", name)
	case word == "hides" && there:
		return failed("EHLO lists %s", name)
	}
	return nil
}

func (d *dialogue) wait(wait time.Duration) *end {
	select {
	case <-time.After(wait):
	case <-d.ctx.Done():
	}
	return nil
}

// goTLS makes the handshake.
func (d *dialogue) goTLS(may bool) *end {
	err := d.handshake(0)
	switch {
	case err == nil:
		return nil
	case may:
		d.content = true
		return done
	}
	d.content = true
	return failed("the handshake of TLS fails: %v", err)
}

// oldTLS wants the handshake of a version that is out of use to fail.
func (d *dialogue) oldTLS() *end {
	const tls11 = 0x0302
	err := d.handshake(tls11)
	d.content = true
	if err == nil {
		return failed("the server takes TLS 1.1 or 1.0")
	}
	return nil
}

// places are how far a dialogue is brought before it begins.
var places = map[string]int{"connected": 0, "greeted": 1, "hello": 2, "helo": 2, "tls": 2, "mail": 3, "rcpt": 4, "data": 5}

// at brings a new connection to a place. Without a way there is nothing to try.
func (d *dialogue) at(place string) *end {
	if d.nc == nil {
		if e := d.begin(place == "connected"); e != nil {
			return e
		}
	}
	n := places[place]
	if n < places["hello"] {
		return nil
	}
	steps := []func() *end{
		func() *end { return d.enter(place) },
		func() *end { return d.ask("MAIL FROM:<"+d.from()+">", "250") },
		d.recipient,
		func() *end { return d.ask("DATA", "354") },
	}
	for _, f := range steps[:n-1] {
		if e := f(); e != nil {
			return e
		}
	}
	return nil
}

// begin connects, and hears the greeting, unless it is what is looked at.
func (d *dialogue) begin(bare bool) *end {
	if e := d.dial(); e != nil {
		return e
	}
	if bare && d.t.StartTLS {
		return skipped("TLS is begun after the greeting")
	}
	if bare {
		return nil
	}
	r, err := d.read()
	if err != nil || r.code != 220 {
		return skipped("no way to begin: the greeting is %d %s (%v)", r.code, r.text(), err)
	}
	if d.t.StartTLS {
		return d.startTLS()
	}
	return nil
}

// enter says who we are.
func (d *dialogue) enter(place string) *end {
	switch place {
	case "helo":
		return d.ask("HELO conformance.invalid", "250")
	case "tls":
		if d.tls {
			break
		}
		if e := d.ehlo(); e != nil {
			return e
		}
		if e := d.keyword("offers", "STARTTLS"); e != nil {
			return e
		}
		if e := d.ask("STARTTLS", "220"); e != nil {
			return e
		}
		if err := d.handshake(0); err != nil {
			return skipped("no way to begin: the handshake of TLS fails: %v", err)
		}
	}
	return d.ehlo()
}

// recipient says RCPT for the address of the run.
func (d *dialogue) recipient() *end {
	if d.t.Rcpt == "" {
		return skipped("it needs a recipient")
	}
	return d.ask("RCPT TO:<"+d.t.Rcpt+">", "25z")
}
