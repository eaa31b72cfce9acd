package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// durationHelp and sizeHelp say how values are written.
const (
	durationHelp = `Write a number with a unit s, m, h or d, such as "30s", "5m", "4h", "5d".`
	sizeHelp     = `Write a number with a unit KiB, MiB or GiB, such as "64KiB", "50MiB", "1GiB".`
)

var (
	errUnit     = errors.New("bad unit")
	errNegative = errors.New("negative")
	errRange    = errors.New("too large")
)

// ParseDuration reads "30s", "5m", "4h", "5d", and sums of them such as
// "1d12h".
func ParseDuration(s string) (time.Duration, error) {
	if strings.HasPrefix(s, "-") {
		return 0, errNegative
	}
	if s == "" {
		return 0, errUnit
	}
	var sum time.Duration
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if digits == 0 || digits == len(s) {
			return 0, errUnit
		}
		n, err := strconv.ParseInt(s[:digits], 10, 64)
		if err != nil {
			return 0, errRange
		}
		var unit time.Duration
		switch s[digits] {
		case 's':
			unit = time.Second
		case 'm':
			unit = time.Minute
		case 'h':
			unit = time.Hour
		case 'd':
			unit = 24 * time.Hour
		default:
			return 0, errUnit
		}
		if n > int64((math.MaxInt64-sum)/unit) {
			return 0, errRange
		}
		sum += time.Duration(n) * unit
		s = s[digits+1:]
	}
	return sum, nil
}

// FormatDuration prints d so that ParseDuration reads it, in the largest unit
// that divides it; parts of a second are cut.
func FormatDuration(d time.Duration) string {
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}}
	for _, u := range units {
		if d >= u.size && d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// ParseSize reads "512B", "64KiB", "50MiB", "1GiB" and plain octets.
func ParseSize(s string) (int64, error) {
	if strings.HasPrefix(s, "-") {
		return 0, errNegative
	}
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits == 0 {
		return 0, errUnit
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil {
		return 0, errRange
	}
	var shift uint
	switch strings.TrimSpace(s[digits:]) {
	case "", "B":
	case "KiB":
		shift = 10
	case "MiB":
		shift = 20
	case "GiB":
		shift = 30
	case "TiB":
		shift = 40
	default:
		return 0, errUnit
	}
	if n > math.MaxInt64>>shift {
		return 0, errRange
	}
	return n << shift, nil
}

// FormatSize prints n so that ParseSize reads it, in the largest unit that
// divides it.
func FormatSize(n int64) string {
	for i, name := range [...]string{"TiB", "GiB", "MiB", "KiB"} {
		if unit := int64(1) << (40 - 10*i); n >= unit && n%unit == 0 {
			return strconv.FormatInt(n/unit, 10) + name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
