package sim

// Abandon takes down what is left of a world that came to no good end.
func (s *Site) Abandon() {
	for _, m := range s.Machines {
		if m.host != nil {
			m.host.Crash()
		}
		m.Disk().Kill()
		if m.cancel != nil {
			m.cancel()
		}
		m.over.Wait()
	}
	for name, p := range s.Peers {
		if !s.down[name] {
			p.Stop()
		}
	}
}
