package route

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The words that may stand between colons on a right side.
const (
	wordInclude = "include"
	wordForward = "forward"
	wordMoved   = "moved"
	wordClosed  = "closed"
)

// meant are the words for what other servers call otherwise, or what people
// write for it.
var meant = map[string]string{
	"relocated": wordMoved, "move": wordMoved, "gone": wordMoved, "redirect": wordForward, "forwarded": wordForward, "fwd": wordForward,
	"file": wordInclude, "list": wordInclude, "private": wordClosed, "secret": wordClosed, "hidden": wordClosed,
}

// help says what to write for a word that is not known.
func help(word string) string {
	word = strings.ToLower(word)
	for _, known := range []string{wordInclude, wordForward, wordMoved, wordClosed} {
		if meant[word] == known || near(word, known) {
			return "Did you mean \":" + known + ":\"?"
		}
	}
	return "What may stand there is an address, :include:/FILE, :forward: ADDRESS, :moved: ADDRESS or :closed:."
}

// near reports whether one octet put in, taken out or changed, or two swapped
// with each other, make b of a.
func near(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	restA, restB := a[i:], b[i:]
	switch {
	case len(restA) == len(restB) && len(restA) > 1 && restA[0] == restB[1] && restA[1] == restB[0]:
		return restA[2:] == restB[2:]
	case len(restA) == len(restB):
		return len(restA) == 0 || restA[1:] == restB[1:]
	case len(restA) == len(restB)+1:
		return restA[1:] == restB
	case len(restA)+1 == len(restB):
		return restA == restB[1:]
	}
	return false
}

// special reads what begins with a colon.
func (p *parser) special(s string, at place) {
	word, rest, closed := strings.Cut(s[1:], ":")
	rest = strings.TrimSpace(rest)
	switch known := strings.ToLower(word); {
	case closed && known == wordInclude && rest != "":
		if !p.alone(at) {
			p.add(p.include(rest, at), at)
		}
	case closed && known == wordClosed && rest == "":
		switch {
		case p.inside():
			p.faults.add(at.fault("Write it in the alias file, after the name of the list.", ":closed: says nothing in a file that is included"))
		case !p.alone(at):
			p.open.closed = true
		}
	case closed && (known == wordForward || known == wordMoved) && rest != "":
		p.told(known, rest, at)
	case known == wordClosed:
		p.faults.add(at.fault("Put a comma after it.", ":closed: stands alone"))
	case known == wordInclude:
		p.faults.add(at.fault("Write it so: :include:/etc/postrider/list.", ":include: names no file"))
	case known == wordForward || known == wordMoved:
		p.faults.add(at.fault("Write :"+known+": ADDRESS.", ":%s: names no address", known))
	default:
		p.faults.add(at.fault(help(word), "this version does not know \":%s:\"", word))
	}
}

// told reads the one address that clients are told of.
func (p *parser) told(word, s string, at place) {
	switch {
	case p.inside():
		p.faults.add(at.fault("Write it in the alias file, after the name that it is of.", ":%s: says nothing in a file that is included", word))
		return
	case len(p.open.targets) > 0 || p.open.closed:
		p.faults.add(at.fault("Write one address after it, and nothing else.", ":%s: stands alone", word))
		return
	case word == wordMoved && p.open.name == postmaster:
		// RFC 5321 4.5.1 has a postmaster in every domain.
		p.faults.add(at.fault("Write :forward: in its place.", "a postmaster cannot move away: every domain has one"))
		return
	case p.alone(at):
		return
	}
	path, ok := p.address(s, at)
	if !ok {
		return
	}
	p.open.way = forward
	if word == wordMoved {
		p.open.way = moved
	}
	p.add([]target{{path: path, full: fullName(s), at: at}}, at)
}

// alone tells of what stands beside the one address of ":forward:" or ":moved:",
// and reports whether it does.
func (p *parser) alone(at place) bool {
	if p.open.way == silent {
		return false
	}
	p.faults.add(at.fault("Take it away: :forward: and :moved: name one address.", "something stands beside the new address of %q", p.open.name))
	return true
}

// inside reports whether an included file is read.
func (p *parser) inside() bool { return p.entries == nil }

// fullNameMax is the longest name of a person that is kept, in octets.
const fullNameMax = 128

// fullName returns the name in front of an address in angle brackets, or "" where
// there is none, or none that can stand in a reply.
func fullName(s string) string {
	i := strings.LastIndexByte(s, '<')
	if i <= 0 || !strings.HasSuffix(s, ">") {
		return ""
	}
	name := strings.TrimSpace(s[:i])
	if name != "" && name[0] == '"' {
		name, _ = unquote(name)
	}
	if len(name) > fullNameMax || !utf8.ValidString(name) || strings.ContainsAny(name, "<>@") || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return name
}
