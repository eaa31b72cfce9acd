// Package account knows who may submit mail, and as whom. The accounts stand in
// a text file, one line each, with argon2id hashes in place of passwords:
//
//	alice@our.example:$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH:*@lists.our.example,info@our.example
//
// A line is the address, the hash in the form of the PHC strings, the patterns of
// what else the account may send as, with a comma between each, the keys of SCRAM
// ($scram-sha-256$i=N$SALT$STOREDKEY$SERVERKEY), and when it was made (RFC 3339);
// the last fields may be left out with their colons where there is nothing in
// them. Empty lines and lines that begin with "#" say nothing, and one that begins
// with "$scram-salt$" is what the salts of names are made from that nobody has. The
// file is read again when it has changed; one with a line that cannot be read
// changes nothing, and the Alarm is told which line it was. Names are the same
// without case, and their domains in A-labels as in U-labels.
//
// What guessing costs is bounded: two passwords are hashed at once and no more,
// those who wait for that are counted, and an address that has guessed wrong too
// often is put off, and then turned away for a while, before anything is hashed.
package account

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// Limits of what is taken for a name or a password, in octets. RFC 4616 2: both
// "MUST" be accepted "up to and including 255 octets".
const (
	nameMax     = 320  // 64 of a local part, an "@", 255 of a domain
	passwordMax = 1024 // as sent, and as hashed
	sendAsMax   = 256  // patterns of one account
)

// An Account is who may submit.
type Account struct {
	Address smtp.Path // what the user logs in with, and may send as
	SendAs  []string  // what else: addresses, and "*@domain" for all of a domain
}

// Name returns the address. With MaySend it makes an Account a
// postrider.Submitter.
func (a Account) Name() string { return a.Address.String() }

// Errors of a Store.
var (
	ErrExists    = errors.New("account: there is such an account")
	ErrNoAccount = errors.New("account: no such account")
)

// Reasons why a name, a pattern or a password cannot be taken. None repeats what
// it is about.
var (
	errName     = errors.New("an account is an address user@domain of letters, digits and signs, without quotes, spaces, colons and commas")
	errPattern  = errors.New(`what an account may send as is an address, or "*@domain"`)
	errPatterns = errors.New("an account has at most 256 patterns that it may send as")
	errPassword = errors.New("a password has 1 to 1024 octets of UTF-8 and no control characters")
)

// MaySend reports whether mail of this account may have the reverse-path from.
// Names are the same without case, and domains by their A-labels. The null
// reverse-path is nobody's.
func (a Account) MaySend(from smtp.Path) bool {
	if from.Domain == "" {
		return false
	}
	key := pathKey(from)
	if pathKey(a.Address) == key {
		return true
	}
	for _, pattern := range a.SendAs {
		if domain, ok := strings.CutPrefix(pattern, "*@"); ok {
			if domainKey(domain) == key[strings.LastIndexByte(key, '@')+1:] {
				return true
			}
		} else if p, err := smtp.ParsePath(pattern); err == nil && pathKey(p) == key {
			return true
		}
	}
	return false
}

// pathKey returns what is the same for all paths of one mailbox of ours.
func pathKey(p smtp.Path) string {
	return fold(p.LocalUnquoted()) + "@" + domainKey(p.Domain)
}

// nameKey returns the pathKey of a name as users and the file write it, without
// quotes; also of what is no name.
func nameKey(name string) string {
	at := strings.LastIndexByte(name, '@')
	if at < 0 || isASCII(name[at:]) {
		return fold(name)
	}
	return fold(name[:at]) + "@" + domainKey(name[at+1:])
}

// domainKey returns what is the same for the spellings of a domain: A-labels in
// lower case. What is no domain is folded.
func domainKey(domain string) string {
	if !isASCII(domain) {
		if a, err := dns.ToASCII(domain); err == nil {
			return a
		}
	}
	return fold(domain)
}

// fold returns what is the same for the spellings of a local part.
func fold(s string) string { return norm.NFC.String(strings.ToLower(s)) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// parseName reads the name of an account.
func parseName(s string) (smtp.Path, error) {
	p, err := smtp.ParsePath(s)
	if err != nil || p.Local == "" || p.Domain == "" || len(s) > nameMax || p.String() != s || !plain(s) || smtp.IsLiteral(p.Domain) {
		return smtp.Path{}, errName
	}
	return p, nil
}

// checkPattern says what is wrong with one pattern of what an account may send
// as.
func checkPattern(s string) error {
	name := s
	if domain, ok := strings.CutPrefix(s, "*@"); ok {
		name = "postmaster@" + domain
	}
	if _, err := parseName(name); err != nil {
		return errPattern
	}
	return nil
}

// plain reports whether nothing in s could end a field, a line or a word of the
// file.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 || strings.ContainsRune(`:,"\#`, r)
	})
}

// prepare returns the octets of a password that are hashed: the OpaqueString of
// RFC 8265 4.2, which RFC 4616 2 lets us choose, so that one password typed on
// two keyboards is one.
func prepare(password string) (string, error) {
	if len(password) > passwordMax || !utf8.ValidString(password) {
		return "", errPassword
	}
	p, err := precis.OpaqueString.String(password)
	if err != nil || len(p) > passwordMax {
		return "", errPassword // and not err, which may quote it
	}
	return p, nil
}
