package node

import (
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/maildir"
	"github.com/postrider/postrider/relay"
)

// transports says who delivers what. A new transport is a folder beside maildir
// and one line here; the queue itself knows the routes via "error" and "discard",
// and never attempts what is held.
func (n *Node) transports(r *relay.Relay) map[postrider.Via]postrider.Transport {
	return map[postrider.Via]postrider.Transport{
		postrider.ViaMX:      r,
		postrider.ViaSMTP:    r,
		postrider.ViaLMTP:    r,
		postrider.ViaMaildir: maildir.New(maildir.Options{FS: n.env.FS, Hostname: n.cfg.Hostname}),
	}
}
