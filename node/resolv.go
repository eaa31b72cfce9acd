package node

import (
	"os"
	"sync"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
)

// resolvConfFile is where the system names its name servers.
const resolvConfFile = "/etc/resolv.conf"

// resolvConfEvery is how often the file is looked at, at most.
const resolvConfEvery = 5 * time.Second

// nameServers returns "host:port" of the servers that a configuration names; none:
// those of the system are asked.
func nameServers(cfg *config.Config) []string {
	var servers []string
	for _, s := range cfg.DNS.Servers {
		servers = append(servers, s.String())
	}
	return servers
}

// A resolvConf knows the name servers of the system. They may come to be known after we
// have started, and others later: libc looks at the file again too.
type resolvConf struct {
	file string

	mu     sync.Mutex
	looked time.Time // when the file was looked at last
	stamp  stamp
	known  []string // never changed, but replaced
}

// servers returns "host:port" of the servers to ask. resolv.conf(5): "If no nameserver
// entries are present, the default is to use the name server on the local machine."
func (c *resolvConf) servers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != nil && time.Since(c.looked) < resolvConfEvery {
		return c.known
	}
	c.looked = time.Now()
	now := stamp{gone: true}
	if info, err := os.Stat(c.file); err == nil {
		now = stamp{size: info.Size(), at: info.ModTime()}
	}
	if c.known != nil && now == c.stamp {
		return c.known
	}
	c.stamp, c.known = now, nil
	if f, err := os.Open(c.file); err == nil {
		c.known = dns.ParseResolvConf(f)
		f.Close()
	}
	if len(c.known) == 0 {
		c.known = []string{"127.0.0.1:53"}
	}
	return c.known
}
