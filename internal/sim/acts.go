package sim

import (
	"context"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// Times of the last acts, when all mail of the time of trouble has come to its end.
const (
	actLoop    = 80 * time.Hour
	actExpire  = 81 * time.Hour
	actPersist = 87 * time.Hour
)

// The letters of the last acts, by their numbers.
const (
	letterLoop = 100_000 + iota
	letterExpire
	letterPersist
)

// last plays what needs a calm world: a letter that goes in a circle from its
// first step to the last that is allowed, and reloads that change how long mail
// lives. What is measured here are days, and trouble would be an excuse.
func (s *Site) last(ctx context.Context, host *Host) error {
	m := s.Machines["a"]
	s.at(actLoop)
	s.send(ctx, host, &Letter{N: letterLoop, By: "sender", Server: "a", To: []string{"r1@loop.example"}, Tries: 1})

	s.at(actExpire)
	expire := &Letter{N: letterExpire, By: "sender", Server: "a", To: []string{"n1@none.example"}, Tries: 1}
	s.send(ctx, host, expire)
	s.reload(ctx, m, strings.Replace(m.conf, `  expire = "1d"
  retry  = ["1m", "5m", "15m", "30m", "1h"]`, `  expire = "2h"
  retry  = ["3m"]`, 1))
	s.at(actExpire + time.Hour)
	if waits, tries, err := m.waiting(ctx, expire.Token(s.Plan.Seed)); err != nil {
		return err
	} else if !waits || tries < 10 {
		s.accuse("drains: %s is to be tried every three minutes since a reload; after an hour it waits: %v, tried %d times",
			expire.Token(s.Plan.Seed), waits, tries)
	}
	s.at(actExpire + 3*time.Hour)
	if waits, tries, err := m.waiting(ctx, expire.Token(s.Plan.Seed)); err != nil {
		return err
	} else if waits {
		s.accuse("drains: %s is to live for two hours since a reload; after three it waits, tried %d times", expire.Token(s.Plan.Seed), tries)
	}

	s.at(actPersist)
	persist := &Letter{N: letterPersist, By: "sender", Server: "a", To: []string{"n2@none.example"}, Tries: 1}
	s.send(ctx, host, persist)
	s.reload(ctx, m, m.conf)
	s.at(actPersist + 4*time.Hour)
	if waits, _, err := m.waiting(ctx, persist.Token(s.Plan.Seed)); err != nil {
		return err
	} else if !waits {
		s.accuse("one_fate: %s is to live for a day since a reload, and was given up within hours", persist.Token(s.Plan.Seed))
	}
	return nil
}

// reload lets a machine read another configuration.
func (s *Site) reload(ctx context.Context, m *Machine, text string) {
	m.text.Store(&text)
	defer m.text.Store(nil)
	if _, err := m.node.Reload(ctx); err != nil {
		s.accuse("drains: %s does not reload while nothing is wrong: %v", m.name, err)
	}
}

// waiting reports whether a letter waits in the spool of a machine that runs, and how
// often it was tried.
func (m *Machine) waiting(ctx context.Context, token string) (waits bool, tries int, err error) {
	disk := m.Disk().Image(vfs.KeepAll)
	sp, err := spool.Open(ctx, spool.Options{FS: disk, Dir: "/data/spool", ReadOnly: true})
	if err != nil {
		return false, 0, err
	}
	defer sp.Close(ctx)
	for msg, err := range sp.Scan(ctx) {
		if err != nil {
			return false, 0, err
		}
		if strings.HasPrefix(msg.HeaderID, token+"@") {
			for i := range msg.Recipients {
				waits = waits || msg.Recipients[i].State == postrider.Waiting
				tries = max(tries, msg.Recipients[i].Tries)
			}
		}
	}
	return waits, tries, nil
}
