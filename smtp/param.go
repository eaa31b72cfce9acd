package smtp

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of RFC 3461 5.4 and RFC 4954 3, in characters.
const (
	envidMax = 100
	orcptMax = 500
	authMax  = 500
)

// A param is an esmtp-param of RFC 5321 4.1.2.
type param struct {
	keyword  string // in upper case
	value    string
	hasValue bool
}

// splitParams splits what follows a path: *(SP esmtp-param).
func splitParams(s string, ext Extensions) ([]param, *Reply) {
	if s == "" {
		return nil, nil
	}
	if s[0] != ' ' {
		return nil, refuse(501, 5, 4, "A space stands between the address and its parameters")
	}
	var list []param
	for word := range strings.SplitSeq(s[1:], " ") {
		var kv param
		kv.keyword, kv.value, kv.hasValue = strings.Cut(word, "=")
		kv.keyword = strings.ToUpper(kv.keyword)
		if !isKeyword(kv.keyword) {
			return nil, refuse(501, 5, 4, "A parameter is a keyword, or a keyword, = and a value, after one space")
		}
		if kv.hasValue && !isValue(kv.value, ext.Has(ExtSMTPUTF8)) {
			return nil, refuse(501, 5, 4, "The value of "+kv.keyword+" is empty or holds a character that no value has")
		}
		// RFC 3461 4.5 and others: "If more than one of either of these
		// parameters appears [...] respond with 501".
		for _, other := range list {
			if other.keyword == kv.keyword {
				return nil, refuse(501, 5, 4, "The parameter "+kv.keyword+" is given twice")
			}
		}
		list = append(list, kv)
	}
	return list, nil
}

func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s is an esmtp-value, 1*(%d33-60 / %d62-126), which
// RFC 6531 3.3 extends by UTF-8.
func isValue(s string, utf8OK bool) bool {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			n := utf8Len(s[i:])
			if n == 0 || !utf8OK {
				return false
			}
			i += n
		case c <= ' ' || c > '~' || c == '=':
			return false
		default:
			i++
		}
	}
	return s != ""
}

func setMailParam(p *MailParams, kv param, ext Extensions) *Reply {
	ok := false
	switch {
	case kv.keyword == "SIZE" && ext.Has(ExtSize):
		p.Size, ok = parseSize(kv.value)
	case kv.keyword == "BODY" && (ext.Has(Ext8BitMIME) || ext.Has(ExtBinaryMIME)):
		p.Body = BodyType(strings.ToUpper(kv.value))
		if p.Body == BodyBinaryMIME && !ext.Has(ExtBinaryMIME) {
			return refuse(555, 5, 4, "BODY=BINARYMIME is not offered here")
		}
		ok = p.Body == Body7Bit || p.Body == Body8BitMIME || p.Body == BodyBinaryMIME
	case kv.keyword == "SMTPUTF8" && ext.Has(ExtSMTPUTF8):
		// RFC 6531 3.4: "it MUST not accept a value".
		p.UTF8, ok = true, !kv.hasValue
	case kv.keyword == "RET" && ext.Has(ExtDSN):
		p.Ret, ok = ParseRet(kv.value)
	case kv.keyword == "ENVID" && ext.Has(ExtDSN):
		p.EnvID, ok = DecodeXtext(kv.value)
		ok = ok && kv.hasValue && len(kv.value) <= envidMax && isPrintable(p.EnvID)
	case kv.keyword == "AUTH" && ext.Has(ExtAuth):
		p.Auth, ok = parseAuthParam(kv.value)
	case kv.keyword == "BY" && ext.Has(ExtDeliverBy):
		p.By, ok = ParseDeliverBy(kv.value)
	case (kv.keyword == "HOLDFOR" || kv.keyword == "HOLDUNTIL") && ext.Has(ExtFutureRelease):
		if p.Hold != (Hold{}) {
			// RFC 4865 4.2: a server "MUST reject a MAIL command containing more than one
			// hold-param".
			return refuse(501, 5, 4, "HOLDFOR and HOLDUNTIL do not go together")
		}
		if kv.keyword == "HOLDFOR" {
			p.Hold.For, ok = parseHoldFor(kv.value)
		} else {
			p.Hold.Until, ok = parseHoldUntil(kv.value)
		}
	case kv.keyword == "MT-PRIORITY" && ext.Has(ExtMTPriority):
		if p.Priority, ok = ParsePriority(kv.value); !ok {
			// RFC 6710 4.1: "for example "501 syntax error in parameter" (with the 5.5.2
			// Enhanced Status Code".
			return refuse(501, 5, 2, "MT-PRIORITY is a number from -9 to 9")
		}
	case kv.keyword == "SOLICIT" && ext.Has(ExtNoSoliciting):
		_, ok = ParseSolicit(kv.value)
		p.Solicit = kv.value
	default:
		return unknownParam(kv)
	}
	if !ok {
		return badParam(kv)
	}
	return nil
}

func setRcptParam(p *RcptParams, kv param, ext Extensions) *Reply {
	ok := false
	switch {
	case kv.keyword == "NOTIFY" && ext.Has(ExtDSN):
		p.Notify, ok = ParseNotify(kv.value)
	case kv.keyword == "ORCPT" && ext.Has(ExtDSN):
		p.ORcpt, ok = kv.value, isORcpt(kv.value)
	case kv.keyword == "RRVS" && ext.Has(ExtRRVS):
		p.RRVS, ok = ParseRRVS(kv.value)
	default:
		return unknownParam(kv)
	}
	if !ok {
		return badParam(kv)
	}
	return nil
}

// unknownParam is the reply to a parameter that no extension in force has.
// RFC 5321 4.1.1.11: "If the server SMTP does not recognize or cannot implement
// one or more of the parameters [...] it will return code 555."
func unknownParam(kv param) *Reply {
	return refuse(555, 5, 4, "The parameter "+kv.keyword+" is not known here")
}

func badParam(kv param) *Reply {
	return refuse(501, 5, 4, "The value of the parameter "+kv.keyword+" is wrong")
}

// parseSize reads a size-value, 1*20DIGIT (RFC 1870 3). What 63 bits do not hold
// is as good as the largest number that they do.
func parseSize(s string) (int64, bool) {
	if s == "" || len(s) > 20 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// parseAuthParam reads the value of AUTH=. RFC 4954 8: "The decoded form of the
// xtext MUST be either a <mailbox> or the two characters "<>"".
func parseAuthParam(s string) (string, bool) {
	decoded, ok := DecodeXtext(s)
	if !ok || len(s) > authMax || decoded == "<>" {
		return decoded, ok && decoded == "<>"
	}
	p, err := ParsePath(decoded)
	return decoded, err == nil && p.Domain != ""
}

// isORcpt reports whether s is an original-recipient-address, addr-type ";"
// xtext (RFC 3461 4.2), or of the utf-8 type of RFC 6533 3. What it stands for
// consists of printable characters, because it is to be a header field.
func isORcpt(s string) bool {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || kind == "" || addr == "" || len(s) > orcptMax {
		return false
	}
	for i := 0; i < len(kind); i++ {
		if kind[i] >= utf8.RuneSelf || atextLen(kind[i:]) == 0 {
			return false
		}
	}
	if strings.EqualFold(kind, "utf-8") {
		return isUnitext(addr)
	}
	decoded, ok := DecodeXtext(addr)
	return ok && isPrintable(decoded)
}

// isUnitext reports whether s is of the forms of RFC 6533 3 without "=" and
// "+": graphic ASCII, UTF-8, and \x{...} for what those cannot say, which never
// stands for a control character.
func isUnitext(s string) bool {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\\':
			n := strings.IndexByte(s[i:], '}')
			if n < len(`\x{10}`)-1 || !strings.HasPrefix(s[i:], `\x{`) {
				return false
			}
			r, err := strconv.ParseUint(s[i+3:i+n], 16, 32)
			if err != nil || r > utf8.MaxRune || !utf8.ValidRune(rune(r)) || r < ' ' || r >= 0x7f && r < 0xA0 {
				return false
			}
			i += n + 1
		case c >= utf8.RuneSelf:
			n := utf8Len(s[i:])
			if n == 0 {
				return false
			}
			i += n
		case !isXchar(c):
			return false
		default:
			i++
		}
	}
	return true
}

// isPrintable reports whether s has only "printable (graphic and white space)
// characters from the US-ASCII repertoire" (RFC 3461 4.2, 4.4).
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\t' && (s[i] < ' ' || s[i] > '~') {
			return false
		}
	}
	return true
}
