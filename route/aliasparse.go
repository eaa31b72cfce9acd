package route

import (
	"strings"

	"github.com/postrider/postrider/smtp"
)

// An aliasEntry is what one name of an alias file stands for.
type aliasEntry struct {
	name    string // as it is looked up: without case and quotes; "*" is the catch-all
	targets []target
	way     way
	closed  bool // EXPN does not tell who is on it
	at      place
}

// A way is what becomes of mail for an alias.
type way uint8

const (
	silent  way = iota // goes to the targets, and nobody is told
	forward            // goes to the one target, and the client is told: 251
	moved              // is refused, and the client is told the one target: 551
)

// A target is one address on the right side.
type target struct {
	path smtp.Path // without a domain: in the domain that the file is read for
	full string    // the name before "<...>", of printable characters; empty: none
	stop bool      // "\user": a mailbox, even where there is an alias of that name
	at   place
}

// A parser reads one alias file, or one file that it includes: entries then
// holds one without a name.
type parser struct {
	*loader
	src     *source
	entries map[string]*aliasEntry
	open    *aliasEntry // the one that a continuation belongs to; nil: none
	said    bool        // something stands on its right side
	comma   bool        // what came last of it was a comma, or the colon
}

// parseAliases reads the format of sendmail: "name: address, address", with
// names and addresses in quotes where they need it, comments on lines of their
// own, and continuations that begin with white space.
func (p *parser) parseAliases() {
	p.lines(func(from, to int) {
		if c := p.src.text[from]; c == ' ' || c == '\t' {
			if p.open == nil {
				p.faults.add(p.place(from, to).fault("Begin the line with a name and a colon.", "this line continues nothing"))
				return
			}
			p.list(from, to)
			return
		}
		p.name(from, to)
	})
	p.end()
}

// parseInclude reads a file of addresses, in lines or with commas between them.
func (p *parser) parseInclude() {
	p.open = &aliasEntry{}
	p.lines(func(from, to int) {
		p.comma = true // a line end is one
		p.list(from, to)
	})
}

// lines calls fn with every line that holds something and is no comment.
func (p *parser) lines(fn func(from, to int)) {
	text := p.src.text
	for from := len(text) - len(strings.TrimPrefix(text, "\ufeff")); from < len(text); {
		next := len(text)
		if i := strings.IndexByte(text[from:], '\n'); i >= 0 {
			next = from + i + 1
		}
		line := strings.TrimRight(text[from:next], " \t\r\n")
		if said := strings.TrimLeft(line, " \t"); said != "" && said[0] != '#' {
			fn(from, from+len(line))
		}
		from = next
	}
}

func (p *parser) place(from, to int) place { return place{p.src, from, to} }

// name reads a line that begins an entry.
func (p *parser) name(from, to int) {
	p.end()
	p.open, p.comma = &aliasEntry{}, true // of a line that is wrong, the rest is still read
	line := p.src.text[from:to]
	colon := strings.IndexByte(line, ':')
	if line[0] == '"' {
		colon = -1
		if end := quoted(line); end > 0 {
			if rest := strings.TrimLeft(line[end:], " \t"); strings.HasPrefix(rest, ":") {
				colon = len(line) - len(rest)
			}
		}
	}
	if colon < 0 {
		p.faults.add(p.place(from, to).fault("Write NAME: ADDRESS, ADDRESS.", "there is no name with a colon after it"))
		return
	}
	name := strings.TrimRight(line[:colon], " \t")
	p.open.at = p.place(from, from+len(name))
	p.open.name = p.localName(name, p.open.at)
	if first := p.entries[p.open.name]; first != nil && p.open.name != "" {
		p.faults.add(p.open.at.fault("Write all addresses after the first, in line "+lineOf(first.at)+".", "a second alias %q", name))
	} else {
		p.entries[p.open.name] = p.open
	}
	p.list(from+colon+1, to)
}

// end looks at the entry that has come to its end.
func (p *parser) end() {
	if e := p.open; e != nil && e.name != "" && (!p.said || e.closed && len(e.targets) == 0) {
		p.faults.add(e.at.fault("Write the addresses that it stands for, or take the line away.", "%q stands for nobody", e.name))
	}
	p.said = false
}

// localName returns the left side of an entry as it is looked up, or "".
func (p *parser) localName(name string, at place) string {
	if name == "*" {
		return name
	}
	path, err := smtp.ParsePath(name + "@x")
	switch {
	case name == "":
		p.faults.add(at.fault("Write NAME: ADDRESS, ADDRESS.", "there is no name before the colon"))
	case err == nil:
		return fold(path.LocalUnquoted())
	case strings.Contains(name, "@"):
		p.faults.add(at.fault("Write the part before the @ alone: the domain that names this file is meant.", "%q is a whole address", name))
	case len(name) <= smtp.LocalMax && name[0] != '"':
		p.faults.add(at.fault("Put the name in quotes.", "%q is no local part: %v", name, errQuotes))
	default:
		p.faults.add(at.fault("Write NAME: ADDRESS, ADDRESS.", "%q is no local part: %v", name, err))
	}
	return ""
}

// list reads addresses with commas between them.
func (p *parser) list(from, to int) {
	text := p.src.text
	for i := from; i <= to; {
		end := element(text[i:to]) + i
		a, b := trim(text, i, end)
		if a < b {
			if !p.comma {
				p.faults.add(p.place(a, b).fault("Put a comma at the end of the line before.", "there is no comma before %q", text[a:b]))
			}
			p.target(a, b)
			p.said, p.comma = true, false
		}
		if end < to {
			p.comma = true
		}
		i = end + 1
	}
}

// target reads one address, or what stands in the place of one.
func (p *parser) target(from, to int) {
	at, s := p.place(from, to), p.src.text[from:to]
	if inner, ok := unquote(s); ok && inner != "" && strings.IndexByte("|/:", inner[0]) >= 0 {
		s = inner
	}
	const toWhom = "Write an address in its place."
	switch {
	case s[0] == '|':
		p.faults.add(at.fault(toWhom, "mail to a program needs allow_programs = true, which this version does not have"))
	case s[0] == '/':
		p.faults.add(at.fault(toWhom+" To throw mail away, write one whose route has via = \"discard\".",
			"mail to a file needs allow_programs = true, which this version does not have"))
	case s[0] == ':':
		p.special(s, at)
	default:
		p.plain(s, at)
	}
}

// plain reads an address, or "\user".
func (p *parser) plain(s string, at place) {
	if p.alone(at) {
		return
	}
	t := target{at: at}
	if s[0] == '\\' {
		t.stop, s = true, s[1:]
	}
	if path, ok := p.address(s, at); ok {
		t.path, t.full = path, fullName(s)
		p.add([]target{t}, at)
	}
}

// add puts targets into the open entry.
func (p *parser) add(targets []target, at place) {
	if len(p.open.targets)+len(targets) > expansionMax {
		if len(p.open.targets) <= expansionMax {
			p.faults.add(at.fault("Divide it.", "more than %d addresses for one name", expansionMax))
			p.open.targets = append(p.open.targets, make([]target, expansionMax)...) // told once
		}
		return
	}
	p.open.targets = append(p.open.targets, targets...)
}

// address reads a mailbox with or without its domain, alone or as "Name <...>".
func (p *parser) address(s string, at place) (smtp.Path, bool) {
	if i := strings.LastIndexByte(s, '<'); i >= 0 && strings.HasSuffix(s, ">") {
		s = s[i+1 : len(s)-1]
	}
	path, err := smtp.ParsePath(s)
	if err == nil && path.Domain != "" {
		return path, true
	}
	bare, bareErr := smtp.ParsePath(s + "@x")
	if bareErr == nil {
		return smtp.Path{Local: bare.Local}, true
	}
	if !strings.Contains(s, "@") {
		err = bareErr
		if len(s) <= smtp.LocalMax && !strings.Contains(s, `"`) {
			err = errQuotes
		}
	}
	help := "Write a local part, or a whole address."
	switch {
	case s == "":
		help, err = "Take it away.", errEmpty
	case strings.Contains(s, " #") || strings.Contains(s, "\t#"):
		help = "Put the comment on a line of its own."
	case strings.ContainsAny(s, " \t") && !strings.Contains(s, `"`):
		help = "Put commas between addresses."
	}
	p.faults.add(at.fault(help, "%q is no address: %v", s, err))
	return smtp.Path{}, false
}

// element returns the length of what stands before the next comma that is not in
// quotes or angle brackets.
func element(s string) int {
	inQuotes, inBrackets := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '"':
			inQuotes = !inQuotes
		case inQuotes:
		case c == '<':
			inBrackets = true
		case c == '>':
			inBrackets = false
		case c == ',' && !inBrackets:
			return i
		}
	}
	return len(s)
}

// quoted returns the length of the quoted string that s begins with, or 0.
func quoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// unquote returns what a string stands for that is in quotes as a whole.
func unquote(s string) (string, bool) {
	if s[0] != '"' || quoted(s) != len(s) {
		return "", false
	}
	return smtp.Path{Local: s}.LocalUnquoted(), true
}

func trim(text string, from, to int) (int, int) {
	for from < to && (text[from] == ' ' || text[from] == '\t') {
		from++
	}
	for from < to && (text[to-1] == ' ' || text[to-1] == '\t') {
		to--
	}
	return from, to
}
