package postrider

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Router says who a recipient is, once, when we accept, and where it goes, at each attempt.
type Router interface {
	// Resolve answers whether we take mail for to, from src. It serves RCPT and VRFY. An error means that we cannot tell now (451).
	Resolve(ctx context.Context, to smtp.Path, src Source) (Resolution, error)
	// Route says how mail to a recipient goes now. It is a pure function of the configuration and asks no DNS.
	Route(to smtp.Path) Route
}

// A Resolution is what an address is to us.
type Resolution struct {
	Kind Kind
	// To is what the recipient becomes: itself, what an alias stands for, each once, or where a postmaster without a mailbox leads.
	To []smtp.Path
	// Reply is the 251, or with KindUnknown the 551, of an address that has another (RFC 5321 3.4); else zero.
	Reply smtp.Reply
}

// Kind is what an address is.
type Kind uint8

// The kinds of an address. The zero Kind is not ours: to take mail for it is to relay.
const (
	KindRemote  Kind = iota // in no domain of ours
	KindMailbox             // a mailbox of ours
	KindAlias               // stands for others
	KindUnknown             // in a domain of ours, where nobody has that name
)

// A Route is where mail goes: the transport that takes it and what that needs.
type Route struct {
	Dest Dest
	Via  Via
	// Of ViaSMTP: the host, and not its MX records, takes the mail.
	Host string
	// Of ViaMX, ViaSMTP and ViaLMTP.
	Port    uint16
	Private bool // addresses in loopback and private space are allowed
	TLS     TLSPolicy
	// Of ViaSMTP: TLS from the first octet (RFC 8314 3.3), and who we are to the host, after TLS only. Neither Username nor Certificate: nobody.
	Implicit              bool
	Username, Auth        string     // Auth: scram, plain, oauthbearer or external; empty: as the host likes best
	Password, Certificate Secret     // the password, or the token; certificate and key in PEM
	AsIs                  bool       // of ViaMX, ViaSMTP and ViaLMTP: returned rather than encoded for a host without 8BITMIME or BINARYMIME
	Socket                string     // of ViaLMTP: a Unix socket, in place of Host and Port
	Dir                   string     // of ViaMaildir: the folder, with every {user} and {domain} filled in
	Reply                 smtp.Reply // of ViaError: what the sender is told
	Limits                Limits     // of ViaMX, ViaSMTP and ViaLMTP
}

// Limits are what each destination of a route gets at most, and for its mail each host. A zero field: as those think fit who obey.
type Limits struct {
	Connections int // at a time
	Messages    int // over one connection
	Rate        Rate
}

// A Rate is at most so many messages in a time, evenly. The zero Rate: as many as go.
type Rate struct {
	Messages int
	Per      time.Duration
}

// Every is the time from one message to the next; 0: none.
func (r Rate) Every() time.Duration { return r.Per / time.Duration(max(r.Messages, 1)) }

// Past is the route of a recipient that an operator has let go: where r holds mail, the hosts that DNS names take it.
func (r Route) Past(to smtp.Path) Route {
	if r.Via == ViaHold {
		r.Via, r.Dest = ViaMX, DestHold.Past(to)
	}
	if r.Via == ViaMX && r.Port == 0 {
		r.Port = 25
	}
	return r
}

// Past is the destination of Route.Past.
func (d Dest) Past(to smtp.Path) Dest {
	if d != DestHold {
		return d
	}
	return Dest("mx:" + strings.ToLower(to.Domain))
}

// Via names a transport.
type Via string

// The transports of this version.
const (
	ViaMX      Via = "mx"      // the hosts that DNS names for the domain
	ViaSMTP    Via = "smtp"    // one host
	ViaLMTP    Via = "lmtp"    // one host that delivers, with a reply for each recipient (RFC 2033)
	ViaMaildir Via = "maildir" // a folder on this machine
	ViaHold    Via = "hold"    // nowhere, until the configuration changes
	ViaError   Via = "error"   // refused, with a reply of the operator
	ViaDiscard Via = "discard" // delivered to nobody
)

// A Secret is a string that is not shown by package fmt, so by no log and no error.
type Secret string

func (Secret) String() string   { return "(secret)" }
func (Secret) GoString() string { return "(secret)" }

// A TLSPolicy says what a connection must be before mail goes over it.
type TLSPolicy uint8

// The policies. The zero TLSPolicy encrypts where the peer can, whatever certificate it shows.
const (
	TLSOpportunistic TLSPolicy = iota
	TLSRequire                 // encrypted, with any certificate
	TLSVerify                  // encrypted, with a certificate for the host that the route names
	TLSNone                    // in the clear
)

// A Network is what a node listens on and dials through.
type Network interface {
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// LocalAddrs reports whether an address and port is one that we listen on ourselves, so that mail is never sent round in a
// circle (RFC 5321 5.1).
type LocalAddrs func(netip.AddrPort) bool
