package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider"
)

// Bounds of the limits of a route. What is more than the queue has attempts in all is
// none.
const (
	connectionsMost   = 200
	perConnectionMost = 100_000
	rateMost          = 1_000_000
	ratePerMost       = 24 * time.Hour
)

const rateHelp = `Write how many messages in which time, such as "100/1m", "5/1s", "1/5m".`

// atMost reads what a destination of a route gets at most.
func (b body) atMost(to *postrider.Route, via text) {
	var l postrider.Limits
	b.count("connections", 1, connectionsMost, &l.Connections)
	b.count("messages_per_connection", 1, perConnectionMost, &l.Messages)
	if t, ok := b.text("rate"); ok {
		var wrong string
		if l.Rate, wrong = parseRate(t.s); wrong != "" {
			b.errorf(t.rng, rateHelp, "rate: %s", wrong)
		}
	}
	if v := to.Via; v != "" && v != postrider.ViaMX && v != postrider.ViaSMTP && v != postrider.ViaLMTP {
		for _, key := range []string{"connections", "messages_per_connection", "rate"} {
			if attr, given := b.attrs[key]; given {
				b.errorf(attr.Expr.Range(), "Take it away.", "%s says nothing with via = %q", key, via.s)
			}
		}
		return
	}
	to.Limits = l
}

// parseRate reads "100/1m", and says what is wrong with it.
func parseRate(s string) (r postrider.Rate, wrong string) {
	count, span, both := strings.Cut(s, "/")
	if !both || count == "" || strings.Trim(count, "0123456789") != "" {
		return r, fmt.Sprintf("%q is no rate", s)
	}
	n, err := strconv.Atoi(count)
	per, spanErr := ParseDuration(span)
	switch {
	case err != nil, n > rateMost:
		return r, fmt.Sprintf("more than %d messages", rateMost)
	case n == 0:
		return r, "nothing would ever go: to keep mail back, write via = \"hold\""
	case spanErr != nil:
		return r, fmt.Sprintf("%q is no duration", span)
	case per < time.Second, per > ratePerMost:
		return r, fmt.Sprintf("the time is from 1s to 1d, and not %s", span)
	}
	return postrider.Rate{Messages: n, Per: per}, ""
}

// FormatRate prints a rate so that a file may have it; empty: there is none.
func FormatRate(r postrider.Rate) string {
	if r.Messages == 0 {
		return ""
	}
	return strconv.Itoa(r.Messages) + "/" + FormatDuration(r.Per)
}
