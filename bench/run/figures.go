package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A spread is what the rounds have given.
type spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	All    []float64 `json:"all"` // in the order of the rounds
}

func spreadOf(all []float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(all))
	median := v[len(v)/2]
	if len(v)%2 == 0 {
		median = (v[len(v)/2-1] + median) / 2
	}
	return spread{median, v[0], v[len(v)-1], all}
}

// known reports whether there is anything.
func (s spread) known() bool { return len(s.All) > 0 }

func (s spread) String() string {
	switch {
	case !s.known():
		return "-"
	case len(s.All) == 1:
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.Median), number(s.Min), number(s.Max))
}

// number writes as many digits as mean something.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return thousands(fmt.Sprintf("%.0f", v))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1 || a == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// thousands puts commas between them.
func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// A series is the rounds of each of those who take part.
type series map[string][]float64

func (s series) add(who string, v float64) { s[who] = append(s[who], v) }
func (s series) of(who string) spread      { return spreadOf(s[who]) }

// ratios divides round by round: what the machine did otherwise meanwhile is then
// in both. Rounds that one of the two lacks are left out.
func (s series) ratios(over, under string) spread {
	var all []float64
	for i := range min(len(s[over]), len(s[under])) {
		if s[under][i] != 0 {
			all = append(all, s[over][i]/s[under][i])
		}
	}
	return spreadOf(all)
}

// A row is a line of the table.
type row struct {
	Scenario string            `json:"scenario"`
	Work     string            `json:"work"`
	Unit     string            `json:"unit"`
	Figures  map[string]spread `json:"figures"` // by who was measured
	Order    []string          `json:"-"`       // of Figures in the table
	Checks   []check           `json:"checks"`
}

// A check is a target: what came of it, and whether it is reached.
type check struct {
	What    string  `json:"what"` // such as "x Postfix"
	Got     float64 `json:"got"`
	Want    float64 `json:"want"`
	AtMost  bool    `json:"at_most"` // Want is a most, and not a least
	Reached bool    `json:"reached"`
}

func atLeast(what string, got, want float64) check {
	return check{what, got, want, false, got >= want}
}

func atMost(what string, got, want float64) check {
	return check{what, got, want, true, got <= want}
}

// rowOf makes a row of a series, in the order of who.
func rowOf(work, unit string, s series, who ...string) row {
	r := row{Work: work, Unit: unit, Figures: map[string]spread{}}
	for _, w := range who {
		if sp := s.of(w); sp.known() {
			r.Figures[w] = sp
			r.Order = append(r.Order, w)
		}
	}
	return r
}

// beside adds the checks that ours is so many times the figure of others, of those
// that were measured.
func (r *row) beside(s series, what string, want float64, others ...string) {
	best, name := spread{}, ""
	for _, o := range others {
		if sp := s.of(o); sp.known() && (name == "" || sp.Median > best.Median) {
			best, name = sp, o
		}
	}
	if name == "" {
		return
	}
	r.Checks = append(r.Checks, atLeast(strings.ReplaceAll(what, "NAME", name), s.ratios(ours, name).Median, want))
}

// below adds the check that ours is so small a part of the least of others, of those
// that were measured.
func (r *row) below(s series, part float64, others ...string) {
	others = slices.DeleteFunc(others, func(o string) bool { return !s.of(o).known() })
	if len(others) == 0 {
		return
	}
	least := slices.MinFunc(others, func(a, b string) int { return cmp.Compare(s.of(a).Median, s.of(b).Median) })
	r.Checks = append(r.Checks, atMost(fmt.Sprintf("at most 1/%.0f of %s", part, least), s.ratios(ours, least).Median, 1/part))
}
