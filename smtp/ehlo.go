package smtp

import (
	"strconv"
	"strings"
	"time"
)

// What the parameters of the keywords in an EHLO response say. A client ignores
// one that it cannot read: the parsers report false, and the extension is to be
// used as if the parameter had not been there, or not at all where it must be.

// ParseSizeLimit reads the parameter of SIZE (RFC 1870 3). 0: the server has no
// fixed limit, or does not say.
func ParseSizeLimit(params string) (int64, bool) {
	if params == "" {
		return 0, true
	}
	return parseSize(params)
}

// ParseMechanisms reads the parameter of AUTH (RFC 4954 3): the names of SASL
// mechanisms, in upper case.
func ParseMechanisms(params string) []string {
	var names []string
	for _, word := range strings.Fields(params) {
		names = append(names, strings.ToUpper(word))
	}
	return names
}

// Limits are what LIMITS announces (RFC 9422 4). 0: no such limit was announced.
type Limits struct {
	MailMax       int // MAIL commands of a session, accepted or not
	RcptMax       int // RCPT commands of a transaction, accepted or not
	RcptDomainMax int // domains of recipients of a session
}

// limitNames are the names of the limits in the order that they are written in.
var limitNames = [...]string{"MAILMAX", "RCPTMAX", "RCPTDOMAINMAX"}

// ParseLimits reads the parameter of LIMITS. RFC 9422 3.7: an error in the syntax
// of the parameter is "best handled by ignoring the value in its entirety", and one
// in that of a limit, "including unrecognized value keywords", by ignoring that
// limit.
func ParseLimits(params string) Limits {
	var l Limits
	values := [...]*int{&l.MailMax, &l.RcptMax, &l.RcptDomainMax}
	for word := range strings.SplitSeq(params, " ") {
		name, value, has := strings.Cut(word, "=")
		if !isLimitName(name) || has && !isLimitValue(value) {
			return Limits{}
		}
		for i, known := range limitNames {
			// %x31-39 0*5DIGIT
			if strings.EqualFold(name, known) && len(value) <= 6 && isDigits(value) && value[0] != '0' {
				*values[i], _ = strconv.Atoi(value)
			}
		}
	}
	return l
}

// String returns the parameter of LIMITS; it is empty for no limits. More than six
// digits cannot be said, and are not.
func (l Limits) String() string {
	var words []string
	for i, n := range [...]int{l.MailMax, l.RcptMax, l.RcptDomainMax} {
		if n > 0 && n < 1_000_000 {
			words = append(words, limitNames[i]+"="+strconv.Itoa(n))
		}
	}
	return strings.Join(words, " ")
}

func isLimitName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

func isLimitValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ';' {
			return false
		}
	}
	return s != ""
}

// ParseByMin reads the parameter of DELIVERBY (RFC 2852 2): the least by-time in
// seconds that is taken with a by-mode of "R", before options that nobody has
// defined yet. 0: the server does not say.
func ParseByMin(params string) (int32, bool) {
	params, _, _ = strings.Cut(params, ",")
	if params == "" {
		return 0, true
	}
	if len(params) > 9 || !isDigits(params) {
		return 0, false
	}
	n, err := strconv.ParseInt(params, 10, 32)
	return int32(n), err == nil
}

// A FutureRelease is what FUTURERELEASE announces (RFC 4865 3).
type FutureRelease struct {
	Max   time.Duration // the longest HOLDFOR=, whole seconds
	Until time.Time     // the last HOLDUNTIL=, in UTC
}

// ParseFutureRelease reads the parameters of FUTURERELEASE, both of which must be
// there.
func ParseFutureRelease(params string) (FutureRelease, bool) {
	interval, date, _ := strings.Cut(params, " ")
	longest, ok := parseHoldFor(interval)
	until, ok2 := parseHoldUntil(strings.TrimLeft(date, " "))
	if !ok || !ok2 {
		return FutureRelease{}, false
	}
	return FutureRelease{longest, until}, true
}

// String returns the parameters of FUTURERELEASE.
func (f FutureRelease) String() string {
	n := max(1, min(byMax, int64(f.Max/time.Second)))
	return strconv.FormatInt(n, 10) + " " + FormatDateTime(f.Until)
}

// ParsePriority reads a priority-value (RFC 6710 7), -9 to 9.
func ParsePriority(s string) (int8, bool) {
	digit, minus := strings.CutPrefix(s, "-")
	if len(digit) != 1 || !isDigits(digit) || minus && digit == "0" {
		return 0, false
	}
	n := int8(digit[0] - '0')
	if minus {
		n = -n
	}
	return n, true
}

// IsPriorityProfile reports whether s is a name that MT-PRIORITY may announce
// (RFC 6710 7).
func IsPriorityProfile(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("-_.", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 20
}

// solicitMax is how many characters the keywords may have (RFC 3865 2.2).
const solicitMax = 1000

// ParseSolicit reads solicitation class keywords (RFC 3865 2.2), the value of
// SOLICIT= and the parameter of NO-SOLICITING: names of domains turned around, as
// "org.example:ADV", with commas between them.
func ParseSolicit(s string) (words []string, ok bool) {
	if len(s) > solicitMax {
		return nil, false
	}
	for word := range strings.SplitSeq(s, ",") {
		for i := 0; i < len(word); i++ {
			letter := 'a' <= word[i]|0x20 && word[i]|0x20 <= 'z'
			if !letter && (i == 0 || !isAlnum(word[i]) && strings.IndexByte(".-_:", word[i]) < 0) {
				return nil, false
			}
		}
		if word == "" {
			return nil, false
		}
		words = append(words, word)
	}
	return words, true
}
