package main

// A scenario is a piece of work that is measured.
type scenario struct {
	name  string
	about string
	long  bool // takes much more than a minute
	run   func(*bench) ([]row, error)
}

// scenarios is all of them, in the order in which they are run and printed.
func scenarios() []scenario {
	return []scenario{
		{"relay", "4 KiB from source to sink through each server, 20 and 100 sessions, reused and not", false, relay},
		{"accept", "mail that is accepted and held, pipelined", false, accept},
		{"local", "4 KiB to 100 Maildirs, until all are there", false, local},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}
