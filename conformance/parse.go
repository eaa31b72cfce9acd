package conformance

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// files hold the cases. A case is a block of lines; an empty line ends it, and
// lines that begin with "#" are remarks.
//
//	NAME LEVEL RFC NNNN PART      the head
//	| what is asked for           in one sentence, mostly the RFC's own
//	only smtp | only lmtp         where it applies
//	slow                          it takes minutes
//	watch WHAT                    no dialogue: what was seen in all of them
//	each VARIANT = TEXT           the case is tried for each, as NAME/VARIANT; {each} is TEXT
//
// and then the dialogue. Where a step of its first kind does not go as it should,
// the case is skipped:
//
//	at connected|greeted|hello|helo|mail|rcpt|data|tls
//	                              bring a new connection there; tls is STARTTLS and EHLO within
//	offers WORD                   the last EHLO response has this keyword; {each} is the
//	                              first word of the variant, here and below
//	limited                       it has SIZE with a limit
//	mailbox                       the mailbox of the recipient can be read
//	clear                         TLS is not on
//	S? CODES                      a reply that is one of them
//
// and where one of its second kind does not, it has failed:
//
//	S: CODES                      a reply that is one of them: 250, 5yz, or !503 for any
//	                              but; "closed" allows a closed connection in its place,
//	                              and ends the dialogue there
//	closed                        the connection is closed
//	hears N CODES                 so many replies, each one of them
//	many N LINE = CODES           send a line N times, each after the reply to the one before
//	lists WORD, hides WORD        the last EHLO response has it, or has it not
//	check NAME                    what one of checks says of the last reply
//	tls, tls?                     the handshake; with "?" its failure ends the dialogue well
//	ends N CODES                  QUIT: up to its reply, or a closed connection, come at
//	                              most N replies, and the first is one of CODES, if any are given
//	unbroken                      QUIT: content was sent with RSET in it, and no reply shows
//	                              that the server took it for a command
//	old-tls                       a handshake with TLS 1.1 at most fails
//	arrives TEXT                  the message of the subject {mark} arrives with this body
//	stays-away                    another message arrives, and that of {mark} does not
//	cut                           the client closes the connection, with no QUIT
//	wait DURATION
//
// The client sends
//
//	C: TEXT                       a line; CRLF is added
//	C> TEXT                       octets
//	C1> TEXT                      octets, each in a packet of its own
//
// TEXT has \r \n \t \\ \0 \xHH, and {|} between two packets, {x*N} for a repeated
// text, {rcpt} {local} {domain} {LOCAL} {DOMAIN} {quoted} {from} {me} {each}, {size}
// for what SIZE offers, {past} for more content than that, and {past-size} for its
// octets, {rcpts} for fifty lines of RCPT,
// and {sent} and {kept} for the two parts of a variant, with "|" between.
//
//go:embed cases/*.txt
var files embed.FS

// order is that of the files, and so of the results.
var order = []string{"session", "commands", "order", "address", "limits", "data", "smuggling", "extensions", "pipelining", "chunking", "tls", "auth", "lmtp", "delivered", "replies"}

// Cases returns all requirements, in the order in which they are tried.
func Cases() ([]Case, error) {
	var all []Case
	for _, name := range order {
		text, err := files.ReadFile(path.Join("cases", name+".txt"))
		if err != nil {
			return nil, err
		}
		cases, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("conformance: %s.txt:%w", name, err)
		}
		all = append(all, cases...)
	}
	for i := range all {
		if slices.ContainsFunc(all[:i], func(c Case) bool { return c.Name == all[i].Name }) {
			return nil, fmt.Errorf("conformance: two cases have the name %s", all[i].Name)
		}
	}
	return all, nil
}

// parse reads the cases of one file.
func parse(text string) ([]Case, error) {
	var all []Case
	var b *block
	for i, line := range strings.Split(text+"\n", "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case line == "" && b != nil:
			cases, err := b.cases()
			if err != nil {
				return nil, fmt.Errorf("%d: %w", i, err)
			}
			all, b = append(all, cases...), nil
			continue
		case line == "":
			continue
		}
		var err error
		if b == nil {
			b, err = head(line)
		} else {
			err = b.add(line)
		}
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	return all, nil
}

// A block is a case with its variants, as it is read.
type block struct {
	c    Case
	each []variant
}

type variant struct{ name, text string }

// head reads the first line of a block.
func head(line string) (*block, error) {
	f := strings.Fields(line)
	if len(f) < 4 || f[2] != "RFC" || !slices.Contains([]Level{Must, Should, May}, Level(f[1])) {
		return nil, fmt.Errorf("%q is not NAME LEVEL RFC NNNN PART", line)
	}
	return &block{c: Case{Name: f[0], Level: Level(f[1]), RFC: strings.Join(f[2:], " ")}}, nil
}

// add reads any other line.
func (b *block) add(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "|":
		b.c.Says = strings.TrimLeft(b.c.Says+" "+rest, " ")
		return nil
	case "only":
		b.c.smtp, b.c.lmtp = rest == "smtp", rest == "lmtp"
		return nil
	case "slow":
		b.c.slow = true
		return nil
	case "watch":
		b.c.watch = rest
		return nil
	case "each":
		name, text, ok := strings.Cut(rest, " =")
		if !ok {
			return fmt.Errorf("%q is not each VARIANT = TEXT", line)
		}
		b.each = append(b.each, variant{name, strings.TrimPrefix(text, " ")})
		return nil
	}
	s, err := parseStep(word, rest)
	if err != nil {
		return err
	}
	b.c.steps = append(b.c.steps, s)
	return nil
}

// cases makes one case of each variant.
func (b *block) cases() ([]Case, error) {
	if b.c.Says == "" || (b.c.watch == "") == (len(b.c.steps) == 0) {
		return nil, fmt.Errorf("%s has no sentence, or nothing to do", b.c.Name)
	}
	if b.each == nil {
		return []Case{b.c}, nil
	}
	var all []Case
	for _, v := range b.each {
		c := b.c
		c.Name, c.each = c.Name+"/"+v.name, v.text
		all = append(all, c)
	}
	return all, nil
}

// codes are the replies that a step takes.
type codes struct {
	yes, no []string // digits, with y and z for any
	closed  bool
}

func parseCodes(s string) (codes, error) {
	var c codes
	for _, w := range strings.Fields(s) {
		p, not := strings.CutPrefix(w, "!")
		switch {
		case w == "closed":
			c.closed = true
			continue
		case len(p) != 3 || strings.Trim(p, "0123456789yz") != "":
			return c, fmt.Errorf("%q is no code", w)
		case not:
			c.no = append(c.no, p)
			continue
		}
		c.yes = append(c.yes, p)
	}
	return c, nil
}

// match reports whether a code is one of them. No codes: all are.
func (c codes) match(code int) bool {
	is := func(p string) bool {
		s := strconv.Itoa(code)
		return len(s) == 3 && s[0] == p[0] && (s[1] == p[1] || p[1] == 'y') && (s[2] == p[2] || p[2] == 'z')
	}
	return !slices.ContainsFunc(c.no, is) && (len(c.yes) == 0 || slices.ContainsFunc(c.yes, is))
}

func (c codes) String() string {
	words := slices.Clone(c.yes)
	for _, p := range c.no {
		words = append(words, "anything but "+p)
	}
	return strings.Join(words, " or ")
}
