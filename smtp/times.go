package smtp

import (
	"strconv"
	"strings"
	"time"
)

// byMax is the largest by-time of RFC 2852 4, and the largest interval of
// RFC 4865 3, in seconds: nine digits.
const byMax = 999_999_999

// ParseDeliverBy reads the value of BY= (RFC 2852 4): by-time ";" by-mode
// [by-trace]. "In the case of a by-mode of "R", a zero or negative by-time is a
// syntax error."
func ParseDeliverBy(s string) (DeliverBy, bool) {
	number, mode, ok := strings.Cut(s, ";")
	digits := strings.TrimLeft(number, "+-")
	if !ok || len(number)-len(digits) > 1 || len(digits) > 9 || !isDigits(digits) {
		return DeliverBy{}, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return DeliverBy{}, false
	}
	by := DeliverBy{Seconds: int32(n)}
	if number[0] == '-' {
		by.Seconds = -by.Seconds
	}
	switch strings.ToUpper(mode) {
	case "N", "NT":
		by.Mode = ByNotify
	case "R", "RT":
		by.Mode = ByReturn
	default:
		return DeliverBy{}, false
	}
	by.Trace = len(mode) == 2
	if by.Mode == ByReturn && by.Seconds <= 0 {
		return DeliverBy{}, false
	}
	return by, true
}

// String returns the value of BY=; it is empty for the zero DeliverBy.
func (b DeliverBy) String() string {
	if b.Mode == 0 {
		return ""
	}
	s := strconv.Itoa(int(max(-byMax, min(byMax, b.Seconds)))) + ";" + string(rune(b.Mode))
	if b.Trace {
		s += "T"
	}
	return s
}

// parseHoldFor reads the value of HOLDFOR=, seconds (RFC 4865 3).
func parseHoldFor(s string) (time.Duration, bool) {
	if len(s) > 9 || !isDigits(s) || s[0] == '0' {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return time.Duration(n) * time.Second, err == nil
}

// parseHoldUntil reads the value of HOLDUNTIL=, "a timestamp, normalized to UTC"
// (RFC 4865 3). A fraction of a second is rounded up, for a server "MUST NOT
// release the message until the date and time indicated" (4.2).
func parseHoldUntil(s string) (time.Time, bool) {
	if !strings.HasSuffix(s, "Z") && !strings.HasSuffix(s, "z") {
		return time.Time{}, false
	}
	s = s[:len(s)-1]
	whole, fraction, has := strings.Cut(s, ".")
	if has && (!isDigits(fraction) || len(fraction) > 9) {
		return time.Time{}, false
	}
	t, ok := parseDateTime(whole + "Z")
	if ok && strings.Trim(fraction, "0") != "" {
		t = t.Add(time.Second)
	}
	return t, ok
}

// ParseRRVS reads the value of RRVS= (RFC 7293 3.1): "date-time [ ";" ( "C" / "R" ) ]",
// where "a "time-secfrac" MUST NOT be used".
func ParseRRVS(s string) (RRVS, bool) {
	stamp, action, has := strings.Cut(s, ";")
	since, ok := parseDateTime(stamp)
	if has && !strings.EqualFold(action, "C") && !strings.EqualFold(action, "R") {
		ok = false
	}
	if !ok {
		return RRVS{}, false
	}
	return RRVS{Since: since, Continue: strings.EqualFold(action, "C")}, true
}

// String returns the value of RRVS=; it is empty for the zero RRVS.
func (r RRVS) String() string {
	switch {
	case r.Since.IsZero():
		return ""
	case r.Continue:
		return FormatDateTime(r.Since) + ";C"
	}
	return FormatDateTime(r.Since)
}

// FormatDateTime returns t in UTC as a date-time of RFC 3339 5.6 in whole seconds.
func FormatDateTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// parseDateTime reads a date-time of RFC 3339 5.6 without a fraction, and returns
// it in UTC. Package time reads more than that, and no leap second, which becomes
// the second after it.
func parseDateTime(s string) (time.Time, bool) {
	const shape = "0000-00-00T00:00:00"
	if len(s) <= len(shape) {
		return time.Time{}, false
	}
	stamp, zone := strings.ToUpper(s[:len(shape)]), strings.ToUpper(s[len(shape):])
	if !hasShape(stamp, shape) {
		return time.Time{}, false
	}
	if zone != "Z" && (!hasShape(zone[1:], "00:00") || zone[0] != '+' && zone[0] != '-' || zone[1:3] > "23" || zone[4:] > "59") {
		return time.Time{}, false
	}
	leap := strings.HasSuffix(stamp, ":59:60")
	if leap {
		stamp = stamp[:len(stamp)-2] + "59"
	}
	t, err := time.Parse(time.RFC3339, stamp+zone)
	if t = t.UTC(); leap {
		t = t.Add(time.Second)
	}
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t, true
}

// hasShape reports whether s has a digit wherever shape has a 0, and else what
// shape has.
func hasShape(s, shape string) bool {
	if len(s) != len(shape) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if shape[i] == '0' && (s[i] < '0' || s[i] > '9') || shape[i] != '0' && s[i] != shape[i] {
			return false
		}
	}
	return true
}

// isDigits reports 1*DIGIT.
func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
