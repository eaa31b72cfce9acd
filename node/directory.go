package node

import (
	"context"
	"runtime/debug"

	"github.com/postrider/postrider/receive"
	"github.com/postrider/postrider/smtp"
)

// software is what we are called where that is told.
var software = titled(debug.ReadBuildInfo())

// titled is our name, and the version where the build knows one. RFC 5321 7.5: servers
// "SHOULD minimally provide for making type and version information available".
func titled(info *debug.BuildInfo, ok bool) string {
	const name, module = "Postrider", "github.com/postrider/postrider"
	if !ok {
		return name
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && m.Version != "" && m.Version != "(devel)" {
			return name + " " + m.Version
		}
	}
	return name
}

// A directory is the router of the newest generation, for VRFY and EXPN.
type directory struct{ n *Node }

// Lookup implements receive.Directory.
func (d directory) Lookup(ctx context.Context, name smtp.Path) ([]receive.Entry, error) {
	found, err := d.n.gen.Load().router.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	entries := make([]receive.Entry, len(found))
	for i, e := range found {
		members := make([]receive.Member, len(e.Members))
		for k, m := range e.Members {
			members[k] = receive.Member{Address: m.Address, Name: m.Name}
		}
		entries[i] = receive.Entry{Address: e.Address, Name: e.Name, Vague: e.Vague, List: e.List, Closed: e.Closed, Members: members, Reply: e.Reply}
	}
	return entries, nil
}
