package account

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/smtp"
)

// A table is a file of accounts as it was read.
type table struct {
	lines  []line
	byName map[string]*entry // by nameKey
	secret []byte            // of the file, for the salts of SCRAM; nil: it has none
	proves bool              // every account has keys of SCRAM, and there is one, and a secret
}

// A line is one line of the file.
type line struct {
	text  string // as it stands in the file, without its end
	entry *entry // nil: it names no account
}

// An entry is an account with its password.
type entry struct {
	Account
	hash hash
	keys *smtp.SCRAMKeys // nil: the account is older than they are
	// since is when the account was made; zero: before that was written down.
	since time.Time
}

// parseTable reads a file of accounts. The error of a line begins with name and
// the number of the line, and repeats nothing of it.
func parseTable(name string, data []byte) (*table, error) {
	t := &table{byName: map[string]*entry{}}
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return t, nil
	}
	n, keyless := 0, 0
	for s := range strings.SplitSeq(text, "\n") {
		n++
		l := line{text: s}
		if strings.HasPrefix(s, secretPrefix) {
			secret, err := parseSecret(s)
			if err == nil && t.secret != nil {
				err = errSecret
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
			t.secret = secret
		} else if s != "" && s[0] != '#' {
			e, err := parseEntry(s)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, n, err)
			}
			key := pathKey(e.Address)
			if t.byName[key] != nil {
				return nil, fmt.Errorf("%s:%d: this account has a line above", name, n)
			}
			l.entry, t.byName[key] = e, e
			if e.keys == nil {
				keyless++
			}
		}
		t.lines = append(t.lines, l)
	}
	t.proves = len(t.byName) > 0 && keyless == 0 && t.secret != nil
	return t, nil
}

// parseEntry reads the line of an account.
func parseEntry(s string) (*entry, error) {
	if !utf8.ValidString(s) {
		return nil, errName
	}
	name, rest, _ := strings.Cut(s, ":")
	phc, rest, _ := strings.Cut(rest, ":")
	patterns, keys, hasKeys := strings.Cut(rest, ":")
	e := &entry{}
	var err error
	if e.Address, err = parseName(name); err != nil {
		return nil, err
	}
	if e.hash, err = parseHash(phc); err != nil {
		return nil, err
	}
	keys, since, dated := strings.Cut(keys, ":")
	if hasKeys && (keys != "" || !dated) {
		if e.keys, err = parseKeys(keys); err != nil {
			return nil, err
		}
	}
	if dated {
		if e.since, err = time.Parse(time.RFC3339, since); err != nil {
			return nil, errSince
		}
	}
	if patterns != "" {
		e.SendAs = strings.Split(patterns, ",")
	}
	return e, checkPatterns(e.SendAs)
}

// checkPatterns says what is wrong with what an account may send as.
func checkPatterns(patterns []string) error {
	if len(patterns) > sendAsMax {
		return errPatterns
	}
	for _, p := range patterns {
		if err := checkPattern(p); err != nil {
			return err
		}
	}
	return nil
}

// String returns the line of an account.
func (e *entry) String() string {
	s := e.Address.String() + ":" + e.hash.String()
	if len(e.SendAs) > 0 || e.keys != nil || !e.since.IsZero() {
		s += ":" + strings.Join(e.SendAs, ",")
	}
	if e.keys != nil || !e.since.IsZero() {
		s += ":"
	}
	if e.keys != nil {
		s += formatKeys(e.keys)
	}
	if !e.since.IsZero() {
		s += ":" + e.since.UTC().Format(time.RFC3339)
	}
	return s
}

// bytes returns the file.
func (t *table) bytes() []byte {
	var b bytes.Buffer
	for _, l := range t.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// index returns where the line of an account is, or -1.
func (t *table) index(key string) int {
	for i, l := range t.lines {
		if l.entry != nil && pathKey(l.entry.Address) == key {
			return i
		}
	}
	return -1
}
