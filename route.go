package postrider

import (
	"context"
	"net"
	"net/netip"

	"github.com/postrider/postrider/smtp"
)

// A Router says who a recipient is, once, when we accept, and where it goes, at
// each attempt.
type Router interface {
	// Resolve answers whether we take mail for to, from src. It serves RCPT and
	// VRFY. An error means that we cannot tell now (451).
	Resolve(ctx context.Context, to smtp.Path, src Source) (Resolution, error)

	// Route says how mail to a recipient goes now. It is a pure function of the
	// configuration and asks no DNS.
	Route(to smtp.Path) Route
}

// A Resolution is what an address is to us.
type Resolution struct {
	Kind Kind
	// To is what the recipient becomes: the address itself, or where a postmaster
	// address without a mailbox leads.
	To smtp.Path
}

// Kind is what an address is.
type Kind uint8

// The kinds of an address. The zero Kind is not ours: to take mail for it is to
// relay.
const (
	KindRemote  Kind = iota // in no domain of ours
	KindMailbox             // a mailbox of ours
	KindUnknown             // in a domain of ours, where nobody has that name
)

// A Route is where mail goes: the transport that takes it and what that needs.
type Route struct {
	Dest Dest
	Via  Via
	// Of ViaSMTP: the host, and not its MX records, takes the mail.
	Host string
	// Of ViaMX and ViaSMTP.
	Port    uint16
	Private bool // addresses in loopback and private space are allowed
	// Of ViaMaildir: the folder, with every {user} and {domain} filled in.
	Dir string
	// Of ViaError: what the sender is told.
	Reply smtp.Reply
}

// Via names a transport.
type Via string

// The transports of this version.
const (
	ViaMX      Via = "mx"      // the hosts that DNS names for the domain
	ViaSMTP    Via = "smtp"    // one host
	ViaMaildir Via = "maildir" // a folder on this machine
	ViaHold    Via = "hold"    // nowhere, until the configuration changes
	ViaError   Via = "error"   // refused, with a reply of the operator
	ViaDiscard Via = "discard" // delivered to nobody
)

// A Network is what a node listens on and dials through.
type Network interface {
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// LocalAddrs reports whether an address and port is one that we listen on
// ourselves, so that mail is never sent round in a circle (RFC 5321 5.1).
type LocalAddrs func(netip.AddrPort) bool
