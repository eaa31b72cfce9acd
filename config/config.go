// Package config reads the configuration of a Postrider server: one HCL file,
// or JSON by the same schema. What it does not know is an error; every mistake
// is told with file, line, column, the line itself and what to do about it.
//
// It reads no file and opens no address: it turns octets into a Config, and
// what can be found wrong without a machine to try it on is found here.
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
	Hostname   string    // the name that we give ourselves; empty: the machine's own name
	DataDir    string    // spool, mail and control socket
	Postmaster smtp.Path // where mail to a postmaster without a mailbox goes; null: nowhere
	Listeners  []Listener
	Admin      Admin
	DNS        DNS
	Domains    []Domain
	Routes     []Route // the first that matches wins
	Queue      Queue
	Limits     Limits

	DataDirPos Pos
}

// A Listener is an address where we accept mail.
type Listener struct {
	Name      string
	Address   string         // host:port; an empty host is every address of the machine
	RelayFrom []netip.Prefix // client networks that may send to any domain
	Pos       Pos            // of the address
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
	Mailboxes []string // local parts; "*" is any
	Deliver   postrider.Route
	Pos       Pos // of the block
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

// Limits bound what one message may be.
type Limits struct {
	MessageSize int64          // octets
	Recipients  int            // of one message
	Exempt      []netip.Prefix // client networks without limits per address
}

// The defaults of interface values that a file may leave out.
const (
	DefaultDataDir       = "postrider-data"
	defaultExpire        = 5 * 24 * time.Hour
	defaultExpireBounce  = 24 * time.Hour
	defaultDelayNotice   = 4 * time.Hour
	defaultMaxRecipients = 2_000_000
	defaultMessageSize   = 50 << 20
	defaultRecipients    = 1000
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
			Exempt:      loopback(),
		},
	}
}

// Builtin is the configuration of a server that was given none. It listens on
// loopback alone, takes any name at localhost, and holds all other mail.
func Builtin(dataDir string) *Config {
	c := defaults()
	if dataDir != "" {
		c.DataDir = dataDir
	}
	c.Hostname = "localhost"
	c.Listeners = []Listener{{Name: "mx", Address: "127.0.0.1:2525", RelayFrom: loopback()}}
	c.Admin.Address = "127.0.0.1:8025"
	c.Domains = []Domain{{
		Name:      "localhost",
		Mailboxes: []string{"*"},
		Deliver:   postrider.Route{Via: postrider.ViaMaildir, Dir: defaultMaildir},
	}}
	c.Routes = []Route{{Pattern: "*", To: postrider.Route{Via: postrider.ViaHold}}}
	return c
}

// Table is what a router is made from. Folders that are not absolute are below
// DataDir.
func (c *Config) Table() route.Table {
	t := route.Table{Hostname: c.Hostname, Postmaster: c.Postmaster}
	for _, d := range c.Domains {
		t.Domains = append(t.Domains, route.Domain{Name: d.Name, Mailboxes: d.Mailboxes, Deliver: c.below(d.Deliver)})
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
