package sim

import "strings"

// A junk is a reply that no client can make sense of, or only with good will.
type junk struct {
	step string // of the dialogue, at which it comes
	form uint64
}

// junkSteps are the steps that may be answered with garbage.
var junkSteps = []string{"greeting", "ehlo", "mail", "rcpt", "data", "dot"}

// junkForms is how many forms of garbage there are.
const junkForms = 9

func newJunk(luck uint64) *junk {
	return &junk{step: junkSteps[luck%uint64(len(junkSteps))], form: luck >> 8 % junkForms}
}

// instead returns what comes in place of the lines of a reply.
func (j *junk) instead(lines string) string {
	text := lines[3:]
	switch j.form {
	case 0:
		return "\x16\x03\x01 garbage \xff\xfe\r\n"
	case 1:
		return "000" + text
	case 2:
		return "999" + text
	case 3:
		return lines[:3] + "-" + strings.Repeat("a long line ", 20_000) + "\r\n" + lines
	case 4:
		return strings.Repeat(lines[:3]+"-and so on\r\n", 3_000) + lines
	case 5:
		return strings.ReplaceAll(lines, "\r\n", "\n")
	case 6:
		return strings.Replace(lines, "\r\n", "\x00\r\n", 1)
	case 7:
		return lines[:3] + "-one\r\n" + "123" + " another\r\n"
	}
	return "\r\n" + lines
}
