package config

import "strings"

// nearest returns the known name that somebody who wrote name most likely
// meant, or "" when none is near.
func nearest(name string, known []string) string {
	best, distance := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if d := edits(strings.ToLower(name), k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// edits counts the octets to put in, take out, change or swap with their
// neighbour to make b of a.
func edits(a, b string) int {
	before, row := []int(nil), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// didYouMean names the nearest of known, or all of them.
func didYouMean(name string, known []string) string {
	if n := nearest(name, known); n != "" {
		return `Did you mean "` + n + `"?`
	}
	return "Known here: " + strings.Join(known, ", ") + "."
}
