package conformance

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

const (
	repeatMax = 16 << 20 // octets of {x*N}
	rcptsMany = 50       // lines of {rcpts}
)

// unescape makes octets of a text as it stands in the files.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%q: \\x wants two digits", s)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q: \\x wants two digits", s)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf("%q: what is \\%c", s, s[i])
		}
	}
	return b.String(), nil
}

// expand makes packets of a text as it stands in the files. What the server or
// the caller has not given is a reason to skip.
func (d *dialogue) expand(text string) ([][]byte, *end) {
	text = strings.ReplaceAll(text, "{each}", d.c.each)
	for _, part := range []string{"sent", "kept"} {
		text = strings.ReplaceAll(text, "{"+part+"}", d.own(part))
	}
	var packets [][]byte
	var now []byte
	for {
		before, rest, ok := strings.Cut(text, "{")
		word, after, closed := strings.Cut(rest, "}")
		s, err := unescape(before)
		if err != nil {
			return nil, skipped("%v", err)
		}
		now = append(now, s...)
		switch {
		case !ok:
			return append(packets, now), nil
		case closed && word == "|":
			packets, now, text = append(packets, now), nil, after
			continue
		case closed:
			if s, known, e := d.placeholder(word); e != nil {
				return nil, e
			} else if known {
				now, text = append(now, s...), after
				continue
			}
		}
		now, text = append(now, '{'), rest
	}
}

// placeholder is what stands for a word in braces, if it stands for anything.
func (d *dialogue) placeholder(word string) (s string, known bool, e *end) {
	switch word {
	case "me":
		return d.me(), true, nil
	case "from":
		return d.from(), true, nil
	case "rcpt", "local", "LOCAL", "domain", "DOMAIN", "quoted":
		return d.address(word)
	case "mark", "mark-bdat", "mark-size":
		return d.own(word), true, nil
	case "rcpts":
		s, _, e := d.address("rcpt")
		return strings.Repeat("RCPT TO:<"+s+">\r\n", rcptsMany), true, e
	case "size", "past", "past-size":
		return d.size(word)
	}
	at := strings.LastIndexByte(word, '*')
	if at < 0 {
		return "", false, nil
	}
	n, err := strconv.Atoi(word[at+1:])
	unit, err2 := unescape(word[:at])
	if err != nil || err2 != nil || n*len(unit) > repeatMax {
		return "", false, nil
	}
	return strings.Repeat(unit, n), true, nil
}

// own is what tells this message from all others, or a part of the variant.
func (d *dialogue) own(word string) string {
	if d.mark == "" {
		d.mark = fmt.Sprintf("conformance-%s-%d", strings.ReplaceAll(d.c.Name, "/", "-"), time.Now().UnixNano())
	}
	sent, kept, _ := strings.Cut(d.c.each, "|")
	switch word {
	case "mark":
		return d.mark
	case "sent":
		return sent
	case "kept":
		return kept
	case "mark-bdat":
		return strconv.Itoa(len("bject: " + d.mark + "\r\n\r\n..a\r\n.\r\n"))
	}
	return strconv.Itoa(len("Subject: " + d.mark + "\r\n\r\n"))
}

// address is a part of the recipient.
func (d *dialogue) address(word string) (string, bool, *end) {
	p, err := smtp.ParsePath(d.t.Rcpt)
	if err != nil || p.IsNull() {
		return "", true, skipped("it needs a recipient")
	}
	if word == "rcpt" {
		return d.t.Rcpt, true, nil
	}
	if p.Domain == "" || strings.HasPrefix(d.t.Rcpt, `"`) {
		return "", true, skipped("it needs a recipient with a domain, and no quotes")
	}
	at := strings.LastIndexByte(d.t.Rcpt, '@')
	local, domain := d.t.Rcpt[:at], d.t.Rcpt[at+1:]
	switch word {
	case "local":
		return local, true, nil
	case "LOCAL":
		return strings.ToUpper(local), true, nil
	case "domain":
		return domain, true, nil
	case "DOMAIN":
		return strings.ToUpper(domain), true, nil
	}
	var quoted strings.Builder
	for _, c := range []byte(local) {
		quoted.WriteByte('\\')
		quoted.WriteByte(c)
	}
	return quoted.String(), true, nil
}

// size is what the server offers with SIZE, or more than so much content.
func (d *dialogue) size(word string) (string, bool, *end) {
	n, err := strconv.ParseUint(d.offers["SIZE"], 10, 63)
	if err != nil || n == 0 {
		return "", true, skipped("no SIZE is offered with a limit")
	}
	if word == "size" {
		return strconv.FormatUint(n, 10), true, nil
	}
	if n > pastMax {
		return "", true, skipped("a limit of %d octets is more than is sent to try it", n)
	}
	line := strings.Repeat("x", 998) + "\r\n"
	// Some servers count a line end as one octet, or only then what they store.
	lines := int(n+n/100)/len(line) + 5
	if word == "past-size" {
		return strconv.Itoa(lines * len(line)), true, nil
	}
	return strings.Repeat(line, lines), true, nil
}
