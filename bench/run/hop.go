package main

import "github.com/postrider/postrider/bench/load"

// Names of what is measured beside servers: one hop of the tools alone.
const (
	hop1    = "h1" // source straight to sink, in the mode of the source
	hop2    = "h2" // the same in the mode of Postrider's client
	ceiling = "C2" // what two such hops come to
)

// clientMode is how Postrider's client was seen to send to a sink.
type clientMode struct {
	conns int // at a time, at most
	uses  int // messages on one connection, on average
}

// hop measures the source straight to a sink, in messages a second.
func (b *bench) hop(s load.Source) (float64, error) {
	h, err := b.sink(settings{})
	if err != nil {
		return 0, err
	}
	defer h.stop()
	s.Server = h.addr
	warm := s
	warm.Messages = max(1, s.Messages/20)
	if _, err := b.send(warm); err != nil {
		return 0, err
	}
	t, err := b.send(s)
	return t.Rate(), err
}

// inClientMode is a source that sends as Postrider's client does: connections
// kept, and MAIL, RCPT and DATA in one group.
func inClientMode(s load.Source, m clientMode) load.Source {
	s.Sessions, s.Reuse, s.Pipeline, s.Uses = max(1, m.conns), true, true, max(1, m.uses)
	return s
}

// hops measures both hops of a relayed message, and adds their ceiling.
func (b *bench) hops(all series, s load.Source, m clientMode) error {
	h1, err := b.hop(s)
	if err != nil {
		return err
	}
	h2, err := b.hop(inClientMode(s, m))
	if err != nil {
		return err
	}
	all.add(hop1, h1)
	all.add(hop2, h2)
	all.add(ceiling, 1/(1/h1+1/h2))
	return nil
}
