package account

import (
	"context"
	"net/netip"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What Verify answers (RFC 4954 6). One reply for an unknown name and for a wrong
// password: nobody learns which names there are.
var (
	authenticated = smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7, Detail: 0}, Text: "Authentication succeeded"}
	invalid       = smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Authentication credentials invalid"}
	busy          = smtp.Reply{Code: 454, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "Too many logins at once, try again later"}
	tooMany       = smtp.Reply{Code: 454, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "Too many failed logins from your address, try again later"}
)

// Verify answers a client at peer that says it is user: 235 with its Account,
// 535 where name and password do not agree, and 454 where the client is put off.
// It waits: for its turn, and as long as the guard puts off an address that has
// guessed wrong before. When ctx ends meanwhile it is 454.
func (s *Store) Verify(ctx context.Context, peer netip.Addr, user, password string) (postrider.Submitter, smtp.Reply) {
	pass, reply := s.guard.enter(ctx, peer, s.o.Now)
	if !reply.IsZero() {
		return nil, reply
	}
	e, reply := s.verify(ctx, user, password)
	pass.leave(reply.Code == invalid.Code, s.o.Now())
	if e == nil {
		return nil, reply
	}
	return Account{Address: e.Address, SendAs: slices.Clone(e.SendAs)}, reply
}

// verify compares a password with that of the account.
func (s *Store) verify(ctx context.Context, user, password string) (*entry, smtp.Reply) {
	prepared, err := prepare(password)
	if err != nil || len(user) > nameMax || !plain(user) {
		return nil, invalid // whoever has the account
	}
	e := s.current().byName[nameKey(user)]
	if e == nil {
		e = &entry{hash: s.hasher.dummy}
	}
	key := s.cache.key(e, prepared)
	if e.Address.Local != "" && s.cache.has(key, s.o.Now()) {
		return e, authenticated
	}
	right, ok := s.hasher.matches(ctx, e.hash, prepared)
	switch {
	case !ok:
		return nil, busy
	case !right || e.Address.Local == "":
		return nil, invalid
	}
	s.cache.add(key, s.o.Now())
	return e, authenticated
}
