package main

import (
	"fmt"
	"strings"
)

// A report is all that one run has measured.
type report struct {
	Conditions string  `json:"conditions"`
	Rows       []row   `json:"rows"`
	Curves     []curve `json:"curves,omitempty"`
}

// columns are those of the table.
var columns = []string{"work", "Postrider", "beside", "target", "got", "reached"}

// cells are the lines of the table: one for each row, or for each check of it.
func (r report) cells() (lines [][]string) {
	for _, w := range r.Rows {
		var beside []string
		for _, name := range w.Order {
			if name != ours {
				beside = append(beside, name+" "+w.Figures[name].String())
			}
		}
		line := []string{w.Work + ", " + w.Unit, w.Figures[ours].String(), strings.Join(beside, "; "), "", "", ""}
		if len(w.Checks) == 0 {
			lines = append(lines, line)
		}
		for _, c := range w.Checks {
			sign, reached := "at least", "no"
			if c.AtMost {
				sign = "at most"
			}
			if c.Reached {
				reached = "yes"
			}
			line[3], line[4], line[5] = strings.ReplaceAll(c.What, "#", sign+" "+number(c.Want)), number(c.Got), reached
			lines = append(lines, line)
			line = make([]string, len(columns))
		}
	}
	return lines
}

// String is the table in Markdown, with its conditions.
func (r report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.Conditions)
	lines := append([][]string{columns}, r.cells()...)
	width := make([]int, len(columns))
	for _, l := range lines {
		for i, c := range l {
			width[i] = max(width[i], len([]rune(c)), 3)
		}
	}
	for n, l := range lines {
		for i, c := range l {
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range l {
				b.WriteString("| " + strings.Repeat("-", width[i]) + " ")
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}
