package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// scramIterations is what a guess at the keys of SCRAM costs who has stolen the
// file, and what a login costs the client; here a login costs a few hashes,
// however many they are. It is more than RFC 7677 4 asks for ("at least 4096"),
// and not more than 65,536, beyond which some clients do not go.
const scramIterations = 60_000

// secretSize is how long the secret of a file is, in octets.
const secretSize = 32

// The forms of a file for SCRAM.
const (
	scramScheme  = "scram-sha-256"
	secretPrefix = "$scram-salt$"
)

var (
	errSince  = errors.New("the time when the account was made is like 2026-11-22T10:00:00Z")
	errKeys   = errors.New("the keys of SCRAM are $scram-sha-256$i=N$SALT$STOREDKEY$SERVERKEY, with N from 4096 to 2000000")
	errSecret = errors.New("what the salts of SCRAM are made from is $scram-salt$ and 32 octets in base64, once in the file")
)

// newKeys returns the keys of SCRAM of a password, with a new salt.
func newKeys(password string) (*smtp.SCRAMKeys, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	k, err := smtp.NewSCRAMKeys(saslPrepared(password), salt, scramIterations)
	return &k, err
}

// saslPrepared returns what clients of SCRAM make of a password: RFC 5802 2.2 asks
// for SASLprep (RFC 4013), which is another form than that of RFC 8265 where a
// character has one for compatibility. Printable ASCII stays as it is. What SASLprep
// forbids it leaves in place, for so do clients, or they never come this far.
func saslPrepared(password string) string {
	mapped := strings.Map(func(r rune) rune {
		switch {
		case r == 0xad, r == 0x34f, r == 0x1806, 0x180b <= r && r <= 0x180d, 0x200b <= r && r <= 0x200d, r == 0x2060, 0xfe00 <= r && r <= 0xfe0f, r == 0xfeff:
			return -1 // RFC 3454 B.1, "commonly mapped to nothing"
		case r == 0xa0, r == 0x1680, 0x2000 <= r && r <= 0x200a, r == 0x202f, r == 0x205f, r == 0x3000:
			return ' ' // RFC 3454 C.1.2, "Non-ASCII space characters"
		}
		return r
	}, password)
	if mapped = norm.NFKC.String(mapped); mapped == "" {
		return password
	}
	return mapped
}

// formatKeys returns the field of a file.
func formatKeys(k *smtp.SCRAMKeys) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return strings.Join([]string{"", scramScheme, "i=" + strconv.Itoa(k.Iterations), b64(k.Salt), b64(k.StoredKey[:]), b64(k.ServerKey[:])}, "$")
}

// parseKeys reads the field of a file.
func parseKeys(s string) (*smtp.SCRAMKeys, error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != scramScheme {
		return nil, errKeys
	}
	digits, ok := strings.CutPrefix(f[2], "i=")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || strconv.Itoa(n) != digits || n < 4096 || n > 2_000_000 {
		return nil, errKeys
	}
	k := &smtp.SCRAMKeys{Iterations: n}
	stored, err1 := parseOctets(f[4], len(k.StoredKey))
	server, err2 := parseOctets(f[5], len(k.ServerKey))
	if k.Salt, err = parseOctets(f[3], saltMin); err != nil || err1 != nil || err2 != nil ||
		copy(k.StoredKey[:], stored) != len(stored) || copy(k.ServerKey[:], server) != len(server) {
		return nil, errKeys
	}
	return k, nil
}

// newSecret returns the line of a secret that nobody knows.
func newSecret() string {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails
	return secretPrefix + base64.RawStdEncoding.EncodeToString(b)
}

// keepSecret adds a secret to the lines of a table that has none.
func (t *table) keepSecret() {
	if t.secret == nil {
		t.lines = append(t.lines, line{text: newSecret()})
	}
}

// parseSecret reads the line of a secret.
func parseSecret(s string) ([]byte, error) {
	b, err := parseOctets(strings.TrimPrefix(s, secretPrefix), secretSize)
	if err != nil || len(b) != secretSize {
		return nil, errSecret
	}
	return b, nil
}

// invented returns the keys that stand for a name without any: no password has
// them, and they are the same each time, as those of an account are.
func (t *table) invented(user string) smtp.SCRAMKeys {
	derive := func(what string) [sha256.Size]byte {
		m := hmac.New(sha256.New, t.secret)
		m.Write([]byte(what + "\x00" + user))
		return [sha256.Size]byte(m.Sum(nil))
	}
	salt := derive("salt")
	return smtp.SCRAMKeys{Salt: salt[:saltSize], Iterations: scramIterations, StoredKey: derive("stored"), ServerKey: derive("server")}
}

// Proves reports whether SCRAM can be offered: every account has keys for it. An
// account that was made before there were any gets them with its next password;
// until then its mail program, which would choose SCRAM, is not told of it.
func (s *Store) Proves() bool { return s.current().proves }

// Unproved returns the accounts that SCRAM is not offered for the sake of.
func (s *Store) Unproved() []Account {
	var all []Account
	for _, l := range s.current().lines {
		if l.entry != nil && l.entry.keys == nil {
			all = append(all, Account{Address: l.entry.Address, SendAs: slices.Clone(l.entry.SendAs)})
		}
	}
	return all
}

// Keys returns the keys of SCRAM of a user. A name that nobody has gets some, too,
// which cannot be told from others.
func (s *Store) Keys(user string) smtp.SCRAMKeys {
	t := s.current()
	if len(user) > nameMax {
		user = user[:nameMax]
	}
	name := nameKey(user)
	k := t.invented(name)
	if e := t.byName[name]; e != nil && e.keys != nil {
		k = *e.keys
	}
	return k
}

// Proved answers a client at peer that has proved, or not, to know the password
// that k are the keys of, and says that it is user. It waits and answers as Verify
// does.
func (s *Store) Proved(ctx context.Context, peer netip.Addr, user string, k smtp.SCRAMKeys, proved bool) (postrider.Submitter, smtp.Reply) {
	return s.vouch(ctx, peer, func() *entry {
		e := s.lookup(user)
		if !proved || e == nil || e.keys == nil || e.keys.StoredKey != k.StoredKey {
			return nil // or it has another password by now
		}
		return e
	})
}

// Vouched answers a client at peer for whom others vouch that it is user: who
// signed its certificate, or its token. With right false nobody does, and it is
// one guess more. It waits and answers as Verify does.
func (s *Store) Vouched(ctx context.Context, peer netip.Addr, user string, right bool) (postrider.Submitter, smtp.Reply) {
	return s.vouch(ctx, peer, func() *entry {
		if !right || narrows(user) {
			return nil
		}
		return s.lookup(user)
	})
}

// narrows reports whether a name holds a character beyond ASCII that is the same as
// one of ASCII without case: a dotted capital I, the sign of the kelvin; or one that
// is another in the A-label of its domain, or none: a wide letter, a soft hyphen. Who
// signs for that name may know another by the plain one, and nobody has typed a
// password here.
func narrows(name string) bool {
	if strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf && fold(string(r))[0] < utf8.RuneSelf }) {
		return true
	}
	domain := name[strings.LastIndexByte(name, '@')+1:]
	return !isASCII(domain) && dns.ToUnicode(domainKey(domain)) != dns.ToUnicode(fold(domain))
}

// vouch lets who decide between what the guard lets through.
func (s *Store) vouch(ctx context.Context, peer netip.Addr, who func() *entry) (postrider.Submitter, smtp.Reply) {
	pass, reply := s.guard.enter(ctx, peer, s.o.Now)
	if !reply.IsZero() {
		return nil, reply
	}
	e := who()
	pass.leave(e == nil, s.o.Now())
	if e == nil {
		return nil, invalid
	}
	return Account{Address: e.Address, SendAs: slices.Clone(e.SendAs)}, authenticated
}

// lookup returns the account of a name; nil: there is none.
func (s *Store) lookup(user string) *entry {
	if len(user) > nameMax || !plain(user) {
		return nil
	}
	return s.current().byName[nameKey(user)]
}
