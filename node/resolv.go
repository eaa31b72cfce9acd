package node

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
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

// localNameServer is asked where the file names none. resolv.conf(5): "If no nameserver
// entries are present, the default is to use the name server on the local machine."
var localNameServer = []string{"127.0.0.1:53"}

// A resolvConf knows the name servers of the system. They may come to be known after we
// have started, and others later: libc looks at the file again too.
type resolvConf struct {
	file  string
	known atomic.Pointer[[]string]

	looking sync.Mutex // held by who reads the file; others take what is known
	looked  time.Time  // when that was done last
}

// servers returns "host:port" of the servers to ask.
func (c *resolvConf) servers() []string {
	known := c.known.Load()
	if known == nil {
		c.looking.Lock() // nobody knows yet
	} else if !c.looking.TryLock() {
		return *known
	}
	defer c.looking.Unlock()
	if known = c.known.Load(); known == nil || time.Since(c.looked) >= resolvConfEvery {
		c.looked = time.Now()
		if servers, err := c.read(); err == nil || known == nil {
			known = &servers
			c.known.Store(known)
		}
	}
	return *known
}

// read reads the file. An error says that it is there and cannot be read just now.
func (c *resolvConf) read() ([]string, error) {
	f, err := os.Open(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return localNameServer, nil
	}
	if err != nil {
		return localNameServer, err
	}
	defer f.Close()
	if servers := dns.ParseResolvConf(f); len(servers) > 0 {
		return servers, nil
	}
	return localNameServer, nil
}
