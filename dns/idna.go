package dns

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 1035 2.3.4, in octets.
const (
	labelMax = 63
	nameMax  = 253 // as text, without the final dot
)

// errName is why ToASCII refuses a name that is no domain at all.
var errName = errors.New("not a domain name")

// ToASCII returns a domain in the form in which domains are compared and asked
// for: A-labels in lower case, without a final dot (RFC 5890 2.3.2.1). It is
// tolerant of underscores, which mail meets though no host name may hold them.
// An error says that this is no domain: an empty label, one that is too long, or
// characters that no domain has.
func ToASCII(domain string) (string, error) {
	name := strings.TrimSuffix(domain, ".")
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("dns: domain %q: %w", domain, errName)
	}
	if isASCII(name) {
		name = strings.ToLower(name)
	} else {
		ascii, err := profile().ToASCII(name)
		if err != nil {
			return "", fmt.Errorf("dns: domain %q: %w", domain, err)
		}
		name = strings.ToLower(ascii)
	}
	if !plainName(name) {
		return "", fmt.Errorf("dns: domain %q: %w", domain, errName)
	}
	return name, nil
}

// ToUnicode returns a domain as people read it: in U-labels, lower case. Labels
// that are no proper A-labels stay as they are.
func ToUnicode(domain string) string {
	name := canonical(domain)
	labels := strings.Split(name, ".")
	for i, label := range labels {
		u, err := profile().ToUnicode(label)
		if err != nil || u == label {
			continue
		}
		if a, err := profile().ToASCII(u); err == nil && a == label { // and back: RFC 5890 2.3.2.1
			labels[i] = u
		}
	}
	return strings.Join(labels, ".")
}

// profile is the mapping of RFC 5891 5 for lookups, without the restriction of
// ASCII characters, which plainName makes.
func profile() *idna.Profile {
	return idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.CheckJoiners(true),
		idna.CheckHyphens(false), idna.StrictDomainName(false))
}

// plainName reports whether name is made of labels of letters, digits, hyphens
// and underscores within the limits of RFC 1035 2.3.4.
func plainName(name string) bool {
	if name == "" || len(name) > nameMax {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > labelMax {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
