package main

import (
	"fmt"
)

// sessionsOf are the points of the picture.
var sessionsOf = []int{1, 5, 20, 50, 100, 200}

const sessionsPicture = "relayed messages a second by sessions, 4 KiB, connections reused"

// curves measures relaying over few sessions and many, for a picture.
func curves(b *bench) ([]row, error) {
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	all := map[string]map[int][]float64{}
	for range max(1, roundsFew(b)-1) {
		err := b.each(func(w contender) error {
			if w.name == "Exim" {
				return nil // its line would lie on the axis
			}
			if all[w.name] == nil {
				all[w.name] = map[int][]float64{}
			}
			i, err := w.start(b, mode{next: h.addr})
			if err != nil {
				return err
			}
			defer i.end()
			for _, sessions := range sessionsOf {
				n := max(200, int(float64(b.n(relayMessages))*w.part/2))
				got, err := b.through(i, h, cell{sessions, true}.source(i.addr, n, 4096))
				if err != nil {
					return fmt.Errorf("%d sessions: %w", sessions, err)
				}
				all[w.name][sessions] = append(all[w.name][sessions], got.rate)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, w := range b.contenders() {
		c := curve{Picture: sessionsPicture, Name: w.name}
		for _, sessions := range sessionsOf {
			if sp := spreadOf(all[w.name][sessions]); sp.known() {
				c.Points = append(c.Points, point{float64(sessions), sp.Median})
			}
		}
		b.curves = append(b.curves, c)
	}
	return nil, nil
}
