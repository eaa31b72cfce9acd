package main

import (
	"slices"
	"strings"
)

// A headerField is a field of a header section, unfolded.
type headerField struct {
	name  string // in lower case
	value string
}

// headerOf returns the header section of a message, and whether there is one: it
// begins with a field, or with its empty end.
func headerOf(raw []byte) (fields []headerField, has bool) {
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return fields, true
		}
		if (line[0] == ' ' || line[0] == '\t') && len(fields) > 0 {
			fields[len(fields)-1].value += line
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return fields, len(fields) > 0
		}
		fields = append(fields, headerField{strings.ToLower(name), value})
	}
	return fields, len(fields) > 0
}

func hasField(fields []headerField, name string) bool {
	return slices.ContainsFunc(fields, func(f headerField) bool { return f.name == name })
}

// recipientsOf are the addresses that a message is for. RFC 5322 3.6.6: the
// fields of who sent it again come before those of its author.
func recipientsOf(fields []headerField) []string {
	prefix := ""
	for _, f := range []string{"resent-to", "resent-cc", "resent-bcc"} {
		if hasField(fields, f) {
			prefix = "resent-"
		}
	}
	var all []string
	for _, f := range fields {
		if slices.Contains([]string{prefix + "to", prefix + "cc", prefix + "bcc"}, f.name) {
			all = append(all, addressesOf(f.value)...)
		}
	}
	return all
}

// addressesOf returns the addresses of a list of mailboxes and groups (RFC 5322
// 3.4), without their names and comments.
func addressesOf(list string) []string {
	var all []string
	var plain, angle strings.Builder
	bracketed, inAngle := false, false
	end := func() {
		s := plain.String()
		if bracketed {
			s = angle.String()
			if i := strings.IndexByte(s, ':'); strings.HasPrefix(s, "@") && i > 0 {
				s = s[i+1:] // a source route
			}
		}
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
		plain.Reset()
		angle.Reset()
		bracketed, inAngle = false, false
	}
	write := func(s string) {
		if inAngle {
			angle.WriteString(s)
		} else {
			plain.WriteString(s)
		}
	}
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			n := quotedEnd(list[i:])
			write(list[i : i+n])
			i += n - 1
		case c == '(':
			i += commentEnd(list[i:]) - 1
		case c == '<':
			bracketed, inAngle = true, true
		case c == '>':
			inAngle = false
		case inAngle:
			write(list[i : i+1])
		case c == ':': // the name of a group ends
			plain.Reset()
		case c == ',' || c == ';':
			end()
		default:
			write(list[i : i+1])
		}
	}
	end()
	return all
}

// quotedEnd is the length of the quoted string that s begins with.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// commentEnd is the length of the comment that s begins with.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}
