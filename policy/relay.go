package policy

import (
	"context"
	"net/netip"

	"github.com/postrider/postrider"
)

// Relay refuses recipients in domains that are not ours, but for clients that
// have authenticated or are in the networks of From, so that we are no open relay
// (RFC 5321 7.9, RFC 2505 2.1). The zero Relay refuses them to everyone who has
// not authenticated, this machine included.
type Relay struct {
	From []netip.Prefix
}

// Check implements postrider.Check, for the phase of RCPT.
func (r Relay) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	if tx.Resolution.Kind != postrider.KindRemote || tx.Submitter != nil || within(r.From, tx.Source.Peer.Addr()) {
		return postrider.Verdict{}
	}
	return refuse(550, 5, 7, 1, "Relaying denied: this domain is not ours, and relay_from of this listener does not name "+
		tx.Source.Peer.Addr().Unmap().String())
}

// Local refuses recipients in domains that are not ours, whoever asks: what comes
// over LMTP has been routed before, and is to be delivered here.
type Local struct{}

// Check implements postrider.Check, for the phase of RCPT.
func (Local) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	if tx.Resolution.Kind == postrider.KindRemote {
		return refuse(550, 5, 7, 1, "Relaying denied: this domain is not ours, and a listener of role lmtp takes mail for ours only")
	}
	return postrider.Verdict{}
}
