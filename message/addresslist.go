package message

// An addressList reads a list of addresses octet by octet (RFC 5322 3.4 and 4.4).
// It keeps the domain in hand, and the beginning of the address for who is told.
type addressList struct {
	of        *Addresses
	mailboxes int
	groups    int

	place   addressPlace
	last    addressToken
	lexeme  addressLexeme
	depth   int  // of comments
	escaped bool // behind a backslash
	word    bool // the last octet was one of an atom
	group   bool // between the colon of a group and its semicolon
	members int  // mailboxes of the group
	odd     bool // what was read of the address is none, but may be a name before one
	eight   bool // it is not ASCII
	domain  []byte
	near    []byte
}

// Bounds of what is kept, in octets.
const (
	domainMax = 255 // RFC 1035 2.3.4
	nearMax   = 60
)

// An addressPlace says where in an address the list is read.
type addressPlace uint8

const (
	beforeAddress addressPlace = iota
	inWords                    // a local part, or a name
	inDomain                   // behind the @ of what may be a name still
	inAngle                    // behind "<"
	inRoute                    // of RFC 5322 4.4, obs-route
	inLocal                    // between "<" and "@"
	inAngleDomain
	inAngleGroup // "<Undisclosed-Recipient:;>", which some mail programs send
	behindAddress
	behindGroup
)

// An addressToken is what was read last of a local part or a domain.
type addressToken uint8

const (
	noToken addressToken = iota
	wordToken
	dotToken
)

// An addressLexeme is what has its own end.
type addressLexeme uint8

const (
	plainText addressLexeme = iota
	quotedText
	commentText
	literalText
)

// Reasons that are given in more than one place.
const (
	notAnAddress = "it is no address"
	needsDomain  = "an address needs an @ and a domain"
	needsComma   = "a comma is missing between two addresses"
)

// octet takes one octet and returns what is wrong with it, or "".
func (l *addressList) octet(c byte) string {
	l.remember(c)
	switch l.lexeme {
	case quotedText:
		l.eight = l.eight || c >= utf8Self
		l.close(c, '"')
		return ""
	case commentText:
		if c == '(' && !l.escaped {
			l.depth++
		}
		l.close(c, ')')
		return ""
	case literalText:
		l.keep(c)
		if l.close(c, ']'); c == '[' {
			return notAnAddress
		}
		return ""
	}
	atom := isAtext(c)
	inside := atom && l.word
	l.word = atom
	switch {
	case inside || isSpace(c):
	case atom:
		if reason := l.beginWord(); reason != "" {
			return reason
		}
	case c < ' ' || c == 0x7f:
		return "there is a control character in it"
	default:
		return l.special(c)
	}
	if atom {
		l.eight = l.eight || c >= utf8Self
		l.keep(c)
	}
	return ""
}

// close takes an octet of what has its own end.
func (l *addressList) close(c, end byte) {
	switch {
	case l.escaped:
		l.escaped = false
	case c == '\\':
		l.escaped = true
	case c != end:
	case l.depth > 1:
		l.depth--
	default:
		l.lexeme, l.depth = plainText, 0
	}
}

// special takes an octet that stands for itself.
func (l *addressList) special(c byte) string {
	switch c {
	case '(':
		l.lexeme, l.depth = commentText, 1
		return ""
	case '"':
		l.lexeme = quotedText
		if l.place == inDomain || l.place == inAngleDomain {
			return l.strange()
		}
		return l.beginWord()
	case '.':
		return l.dot()
	case '@':
		return l.at()
	case '<':
		return l.open()
	case '>':
		return l.shut()
	case ',', ';':
		return l.divide(c)
	case ':':
		return l.colon()
	case '[':
		if (l.place == inDomain || l.place == inAngleDomain) && l.last == noToken {
			l.lexeme, l.last = literalText, wordToken
			l.keep(c)
			return ""
		}
	}
	return l.strange()
}

// strange takes what can be in no address, but in a name that nobody has quoted.
func (l *addressList) strange() string {
	switch l.place {
	case beforeAddress, inWords:
		l.place, l.odd = inWords, true
	case inDomain:
		l.odd = true
	case inRoute:
	case behindAddress, behindGroup:
		return needsComma
	default:
		return notAnAddress
	}
	return ""
}

// beginWord takes the beginning of an atom or a quoted string.
func (l *addressList) beginWord() string {
	second := l.last == wordToken
	l.last = wordToken
	switch l.place {
	case beforeAddress:
		l.place = inWords
	case inAngle:
		l.place = inLocal
	case inWords, inDomain:
		l.odd = l.odd || second
	case behindAddress, behindGroup:
		return needsComma
	case inLocal, inAngleDomain:
		if second {
			return notAnAddress
		}
	}
	return ""
}

func (l *addressList) dot() string {
	if l.place == inRoute {
		return ""
	}
	between := l.last == wordToken
	if l.last = dotToken; !between {
		return l.strange()
	}
	l.keep('.')
	return ""
}

func (l *addressList) at() string {
	before := l.last
	l.last = noToken
	switch l.place {
	case beforeAddress, inWords:
		l.place, l.odd = inDomain, l.odd || before != wordToken
		l.domain = l.domain[:0]
	case inAngle, inRoute:
		l.place = inRoute
	case inLocal:
		if before != wordToken {
			return notAnAddress
		}
		l.place, l.domain = inAngleDomain, l.domain[:0]
	default:
		return l.strange()
	}
	return ""
}

// open takes "<": what stands before it is a name.
func (l *addressList) open() string {
	switch l.place {
	case beforeAddress, inWords, inDomain:
		l.place, l.last, l.odd, l.eight = inAngle, noToken, false, false
		return ""
	}
	return l.strange()
}

// shut takes ">".
func (l *addressList) shut() string {
	switch l.place {
	case inAngle:
		return "there is no address between < and >"
	case inLocal:
		return needsDomain
	case inAngleDomain:
		l.place = behindAddress
		return l.mailbox()
	case inAngleGroup:
		l.place = behindGroup
		l.groups++
		return ""
	case inRoute:
		return notAnAddress
	}
	return l.strange()
}

// mailbox ends an address with what is wrong with it, or "".
func (l *addressList) mailbox() string {
	if l.odd || l.last != wordToken {
		return notAnAddress
	}
	if len(l.domain) > domainMax {
		return "its domain is too long"
	}
	l.mailboxes++
	l.members++
	return l.of.domain(l.domain, l.eight)
}

// divide takes what ends an address, or the last of a group.
func (l *addressList) divide(c byte) string {
	switch l.place {
	case inRoute:
		if c == ',' {
			return ""
		}
		return notAnAddress
	case inAngleGroup:
		return "" // "<Undisclosed-Recipient:;>"
	case inAngle, inLocal, inAngleDomain:
		return notAnAddress
	case inWords:
		return needsDomain
	case inDomain:
		if reason := l.mailbox(); reason != "" {
			return reason
		}
	}
	if c == ';' && !l.group {
		return "a semicolon ends groups alone: write a comma between addresses"
	}
	l.place, l.last, l.odd, l.eight = beforeAddress, noToken, false, false
	if c == ';' {
		l.place, l.group = behindGroup, false
		l.groups++
		return ""
	}
	l.near = l.near[:0]
	return ""
}

// colon takes ":": what stands before it is the name of a group, or a route.
func (l *addressList) colon() string {
	switch {
	case l.place == inRoute:
		l.place, l.last = inAngle, noToken
	case l.place == inLocal:
		l.place = inAngleGroup
	case l.place == inWords && !l.group:
		l.place, l.last, l.odd, l.eight = beforeAddress, noToken, false, false
		l.group, l.members = true, 0
	default:
		return l.strange()
	}
	return ""
}

// end ends the list with what is wrong with it, or "".
func (l *addressList) end() string {
	if l.lexeme != plainText {
		return "a quotation mark or bracket is not closed"
	}
	switch l.place {
	case beforeAddress:
		if l.group && l.members > 0 {
			return "a group is not closed by a semicolon"
		}
		if l.group {
			l.groups++
		}
		return ""
	case behindGroup:
		return ""
	case inAngle, inRoute, inLocal, inAngleDomain, inAngleGroup:
		return "a < is not closed"
	case inWords:
		return needsDomain
	case inDomain:
		if reason := l.mailbox(); reason != "" {
			return reason
		}
	}
	if l.group {
		return "a group is not closed by a semicolon"
	}
	return ""
}

// keep takes an octet of the domain.
func (l *addressList) keep(c byte) {
	switch {
	case l.place != inDomain && l.place != inAngleDomain:
	case len(l.domain) <= domainMax:
		l.domain = append(l.domain, c)
	}
}

// remember takes an octet of the address for who is told of it.
func (l *addressList) remember(c byte) {
	switch {
	case len(l.near) >= nearMax, c == '\r', c == '\n', len(l.near) == 0 && isSpace(c):
	case c < ' ' || c >= 0x7f:
		l.near = append(l.near, '?')
	default:
		l.near = append(l.near, c)
	}
}

// utf8Self is the first octet that is not ASCII.
const utf8Self = 0x80

// isSpace reports white space, and the ends of folded lines.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// isAtext reports an octet of an atom (RFC 5322 3.2.3, RFC 6532 3.2).
func isAtext(c byte) bool {
	switch c {
	case '(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '.', '"', 0x7f:
		return false
	}
	return c > ' '
}
