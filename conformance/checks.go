package conformance

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var (
	// RFC 5321 4.1.2, sub-domain.
	domainForm = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	// RFC 5321 4.1.1.1, ehlo-line. An "=" in the keyword is no part of it.
	keywordForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*(?: [!-~]+)*$`)
	// RFC 1870 3: "size-param ::= [1*DIGIT]", at most 20 digits.
	sizeForm = regexp.MustCompile(`^[0-9]{0,20}$`)
	// RFC 9422 3, limit-name-value.
	limitForm = regexp.MustCompile(`^[A-Za-z0-9_-]+(?:=[!-:<-~]+)?$`)
)

// checks look at the last reply, and return what is wrong with it, if anything.
var checks = map[string]func(*dialogue) string{
	"names-itself": namesItself,
	"keywords":     keywordsForm,
	"one-line":     oneLine,
	"size":         sizeParam,
	"limits":       limitsParam,
	"alone":        alone,
	"clear-auth":   clearAuth,
	"mailboxes":    mailboxes,
	"status":       status,
	"received":     func(d *dialogue) string { return d.field("Received") },
	"return-path":  func(d *dialogue) string { return d.field("Return-Path") },
}

// namesItself wants a domain or an address literal as the first word.
func namesItself(d *dialogue) string {
	word, _, _ := strings.Cut(d.last.text(), " ")
	if literal, ok := strings.CutPrefix(word, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		literal = strings.TrimPrefix(literal, "IPv6:")
		if _, err := netip.ParseAddr(literal); ok && err == nil {
			return ""
		}
	}
	if !domainForm.MatchString(word) {
		return "the first word is no domain and no address literal"
	}
	return ""
}

// keywordsForm wants each line after the first to be an ehlo-line.
func keywordsForm(d *dialogue) string {
	for _, line := range d.last.lines[1:] {
		if !keywordForm.MatchString(line) {
			return "a line of the response is no keyword with parameters: " + line
		}
	}
	return ""
}

func oneLine(d *dialogue) string {
	if len(d.last.lines) > 1 {
		return "the reply has more than one line"
	}
	return ""
}

func sizeParam(d *dialogue) string {
	if !sizeForm.MatchString(d.offers["SIZE"]) {
		return "the parameter of SIZE is no number"
	}
	return ""
}

func limitsParam(d *dialogue) string {
	for _, l := range strings.Fields(d.offers["LIMITS"]) {
		if !limitForm.MatchString(l) {
			return "a parameter of LIMITS is no NAME=VALUE: " + l
		}
	}
	return ""
}

// alone wants the keyword of the case, {each}, to have no parameters.
func alone(d *dialogue) string {
	if p := d.offers[d.c.each]; p != "" {
		return d.c.each + " is listed with " + p
	}
	return ""
}

// clearAuth wants no mechanism in the clear that shows a password.
func clearAuth(d *dialogue) string {
	for _, m := range strings.Fields(strings.ToUpper(d.offers["AUTH"])) {
		if slices.Contains([]string{"PLAIN", "LOGIN"}, m) {
			return "AUTH " + m + " is offered in the clear"
		}
	}
	return ""
}

// mailboxes wants a positive answer to VRFY to hold a mailbox with its domain.
func mailboxes(d *dialogue) string {
	if d.last.code != 250 && d.last.code != 251 {
		return ""
	}
	for _, line := range d.last.lines {
		if !strings.Contains(line, "@") {
			return "no mailbox with its domain: " + line
		}
	}
	return ""
}

// status wants an enhanced status in every line, of the class of the code.
func status(d *dialogue) string {
	for _, line := range d.last.lines {
		st, ok := statusOf(line)
		if !ok {
			return "no enhanced status in " + line
		}
		if int(st.Class) != d.last.code/100 {
			return "the enhanced status is not of the class of the code: " + line
		}
	}
	return ""
}
