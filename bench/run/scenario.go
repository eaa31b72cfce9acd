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
		{"large", "10 MiB from source to sink", false, large},
		{"latency", "of the 250 in an open loop at half of the highest rate", false, latency},
		{"memory", "idle, loaded, and with 10,000 idle connections", false, memoryScenario},
		{"deferred", "mail for dead hosts: 40,000, and with -long 1,000,000", false, deferred},
		{"destinations", "healthy ones beside one with 20,000 waiting (500,000 with -long) and one that is slow", false, destinations},
		{"slowdisk", "a flush takes 5 ms, and 2 s", false, slowDisk},
		{"fanout", "one message to 100,000 recipients", false, fanout},
		{"space", "what the spool takes on the disk after mixed traffic: 30 s, and with -long an hour", false, space},
		{"overload", "sinks that are slow, reset or fall silent: nothing is lost", false, overload},
		{"curves", "relaying over 1 to 200 sessions, for a picture", false, curves},
	}
}

// roundsFew is how often what takes long is measured: as often as all else with
// -long, and twice otherwise.
func roundsFew(b *bench) int {
	if b.long {
		return b.rounds
	}
	return min(b.rounds, 2)
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}
