// Package config reads the configuration of a Postrider server: one HCL file,
// or JSON by the same schema. What it does not know is an error; every mistake
// is told with file, line, column, the line itself and what to do about it.
//
// It opens no address and changes nothing: it turns octets into a Config, and what
// can be found wrong without trying it is found here. Files that the
// configuration names (aliases, certificates, passwords) are looked at through
// what Load is given.
package config

import (
	"net/netip"
	"path/filepath"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
)

// A Config is a whole configuration with every default filled in.
type Config struct {
	Hostname string // the name that we give ourselves; empty: the machine's own name
	DataDir  string // spool, mail and control socket
	// SubmitSocket is where programs of all users of this machine hand mail in. Empty:
	// submit.sock below DataDir, where the folder lets nobody in but its owner.
	SubmitSocket string
	Postmaster   smtp.Path // where mail to a postmaster without a mailbox goes; null: to a mailbox of that name
	TLS          TLS
	Listeners    []Listener
	OAuth        OAuth
	Admin        Admin
	DNS          DNS
	Domains      []Domain
	Routes       []Route // the first that matches wins
	Queue        Queue
	Limits       Limits
	Journal      Journal

	DataDirPos      Pos
	SubmitSocketPos Pos
}

// SubmitPath is the name of the socket of SubmitSocket.
func (c *Config) SubmitPath() string {
	switch {
	case c.SubmitSocket == "":
		return filepath.Join(c.DataDir, "submit.sock")
	case filepath.IsAbs(c.SubmitSocket):
		return c.SubmitSocket
	}
	return filepath.Join(c.DataDir, c.SubmitSocket)
}

// TLS says which certificate we show.
type TLS struct {
	Cert string // PEM file of the certificate and those that it was signed with
	Key  string // PEM file
	// SelfSigned: instead of them a certificate for Hostname that we make ourselves
	// at the first start, and keep below DataDir.
	SelfSigned bool
	Pos        Pos // of cert or self_signed
}

// A Role is what a listener is for.
type Role string

// The roles of a listener.
const (
	RoleMX         Role = "mx"         // anyone hands in mail for our domains
	RoleSubmission Role = "submission" // users hand in mail for anyone, after AUTH (RFC 6409)
	RoleLMTP       Role = "lmtp"       // another server hands in mail for our domains (RFC 2033)
)

// A TLSMode says when a listener speaks TLS.
type TLSMode string

// The TLS modes of a listener.
const (
	TLSStart    TLSMode = "starttls" // when the client asks for it (RFC 3207)
	TLSImplicit TLSMode = "implicit" // from the first octet (RFC 8314 3)
	TLSNone     TLSMode = "none"
)

// Verify says who gets answers to VRFY and EXPN; others hear 252 (RFC 5321 7.3).
type Verify string

// Who gets answers.
const (
	VerifyAuthenticated Verify = "authenticated" // who has authenticated
	VerifyRelay         Verify = "relay_from"    // and the networks of relay_from
	VerifyAnyone        Verify = "anyone"
	VerifyNobody        Verify = "nobody"
)

// A Listener is an address where we accept mail.
type Listener struct {
	Name    string
	Address string  // host:port; an empty host is every address of the machine
	Role    Role    // never empty
	TLS     TLSMode // never empty
	// ProxyFrom are networks of proxies that begin with a header of the PROXY protocol,
	// XClientFrom those of others that may say by XCLIENT for whom they speak.
	ProxyFrom   []netip.Prefix
	XClientFrom []netip.Prefix
	// NoSoliciting are solicitation class keywords of mail that is refused (RFC 3865).
	NoSoliciting []string
	RelayFrom    []netip.Prefix // client networks that may send to any domain; of RoleMX
	Refuse       []netip.Prefix // client networks that are not served; all addresses: nobody is, and hears so
	Verify       Verify         // who gets answers to VRFY and EXPN; never empty
	Announce     bool           // the greeting names the software
	ClientCA     string         // PEM file: whoever has a certificate signed by these is its user; empty: nobody is
	Pos          Pos            // of the address

	ClientCAPos Pos
}

// Admin is the HTTP listener for health and metrics. An empty Address: none.
type Admin struct {
	Address string
	Pos     Pos
}

// DNS names the servers to ask; none: those of the system.
type DNS struct {
	Servers []netip.AddrPort
}

// A Domain is one that we accept mail for.
type Domain struct {
	Name      string   // lower case
	Mailboxes []string // local parts, beside the accounts; "*" is any
	Aliases   string   // the alias file; empty: none
	Deliver   postrider.Route
	Pos       Pos // of the block

	aliasesPos Pos
}

// A Route says how mail to other domains leaves.
type Route struct {
	Pattern string // a domain, ".domain" for what is under it, or "*"; lower case
	To      postrider.Route
	Pos     Pos // of the block
}

// Queue says how long and how often delivery is tried.
type Queue struct {
	Retry         []time.Duration // waits after each attempt; the last one repeats
	Expire        time.Duration   // age at which mail is given up
	ExpireBounce  time.Duration   // the same for the null reverse-path
	DelayNotice   time.Duration   // age at which the sender is told of the delay; 0: never
	MaxRecipients int             // waiting in all
}

// Limits bound what one message may be, and what it may take.
type Limits struct {
	MessageSize int64          // octets
	Recipients  int            // of one message
	Connections int            // of clients at a time, to each listener
	Exempt      []netip.Prefix // client networks without limits per address
	// FutureRelease is how long users may have their mail held for a later time
	// (RFC 4865); 0: not at all. FutureMessages is how many messages of an account may
	// wait so.
	FutureRelease  time.Duration
	FutureMessages int
	Memory         int64 // octets that the process may take; 0: what its cgroup allows
	MinFree        int64 // octets of the spool's disk that new mail leaves free; 0: as the spool thinks fit for the disk
}

// Journal bounds what is kept of the story of each message.
type Journal struct {
	Keep    time.Duration // age at which it is forgotten
	MaxSize int64         // octets; beyond, the oldest is forgotten earlier
}

// The defaults of interface values that a file may leave out.
const (
	DefaultDataDir        = "postrider-data"
	defaultExpire         = 5 * 24 * time.Hour
	defaultExpireBounce   = 24 * time.Hour
	defaultDelayNotice    = 4 * time.Hour
	defaultMaxRecipients  = 2_000_000
	defaultMessageSize    = 50 << 20
	defaultRecipients     = 1000
	defaultConnections    = 1000
	defaultFutureRelease  = 30 * 24 * time.Hour
	defaultFutureMessages = 1000
	defaultKeep           = 90 * 24 * time.Hour
	defaultJournalSize    = 20 << 30
	// defaultMaildir is below DataDir.
	defaultMaildir = "mail/{domain}/{user}"
)

func defaultRetry() []time.Duration {
	return []time.Duration{
		time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour,
	}
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func defaults() *Config {
	return &Config{
		DataDir: DefaultDataDir,
		TLS:     TLS{SelfSigned: true},
		Queue: Queue{
			Retry:         defaultRetry(),
			Expire:        defaultExpire,
			ExpireBounce:  defaultExpireBounce,
			DelayNotice:   defaultDelayNotice,
			MaxRecipients: defaultMaxRecipients,
		},
		Limits: Limits{
			MessageSize: defaultMessageSize,
			Recipients:  defaultRecipients,
			Connections: defaultConnections,
			Exempt:      loopback(),

			FutureRelease:  defaultFutureRelease,
			FutureMessages: defaultFutureMessages,
		},
		Journal: Journal{Keep: defaultKeep, MaxSize: defaultJournalSize},
	}
}

// Builtin is the configuration of a server that was given none. It listens on
// loopback alone, takes any name at localhost, takes mail for other domains from
// users alone, and holds it.
func Builtin(dataDir string) *Config {
	c := defaults()
	if dataDir != "" {
		c.DataDir = dataDir
	}
	c.Hostname = "localhost"
	c.Listeners = []Listener{
		{Name: "mx", Address: "127.0.0.1:2525", Role: RoleMX, TLS: TLSStart, Verify: VerifyAuthenticated},
		{Name: "submission", Address: "127.0.0.1:2587", Role: RoleSubmission, TLS: TLSStart, Verify: VerifyAuthenticated},
	}
	c.Admin.Address = "127.0.0.1:8025"
	c.Domains = []Domain{{
		Name:      "localhost",
		Mailboxes: []string{"*"},
		Deliver:   postrider.Route{Via: postrider.ViaMaildir, Dir: defaultMaildir},
	}}
	c.Routes = []Route{{Pattern: "*", To: postrider.Route{Via: postrider.ViaHold}}}
	return c
}

// Table is what a router is made from, but for what only a running server has:
// the files, the accounts, its addresses. Folders that are not absolute are below
// DataDir.
func (c *Config) Table() route.Table {
	t := route.Table{Hostname: c.Hostname, Postmaster: c.Postmaster}
	for _, d := range c.Domains {
		t.Domains = append(t.Domains, route.Domain{Name: d.Name, Mailboxes: d.Mailboxes, Aliases: d.Aliases, Deliver: c.below(d.Deliver)})
	}
	for _, r := range c.Routes {
		t.Rules = append(t.Rules, route.Rule{Pattern: r.Pattern, To: c.below(r.To)})
	}
	return t
}

func (c *Config) below(to postrider.Route) postrider.Route {
	if to.Dir != "" && !filepath.IsAbs(to.Dir) {
		to.Dir = filepath.Join(c.DataDir, to.Dir)
	}
	return to
}
