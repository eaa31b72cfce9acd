package policy

import (
	"context"
	"net/netip"

	"github.com/postrider/postrider"
)

// Refuse serves nobody of some client networks. RFC 5321 3.1: "a 554 response MAY
// be given in the initial connection opening message instead of the 220."
//
// A network that is every address says more: RFC 7504 3: 521 is "to indicate that
// the host does not accept mail under any circumstances", and "SHOULD NOT be used
// for situations in which the server rejects mail from particular hosts".
type Refuse struct {
	Networks []netip.Prefix
	// Submission: it is always 554, for RFC 6409 7 has the reply 521 among what an MSA
	// "MUST NOT" give.
	Submission bool
}

// Check implements postrider.Check, for the phase before the greeting.
func (r Refuse) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	client := tx.Source.Peer.Addr().Unmap().WithZone("")
	if !within(r.Networks, client) {
		return postrider.Verdict{}
	}
	for _, p := range r.Networks {
		if p.Bits() == 0 && p.Contains(client) && !r.Submission {
			return refuse(521, 5, 3, 2, "Host does not accept mail")
		}
	}
	return refuse(554, 5, 7, 1, "No SMTP service here for "+client.String())
}

// Who says who gets answers to VRFY and EXPN.
type Who string

// Who gets answers. The empty Who is WhoAuthenticated.
const (
	WhoAuthenticated Who = "authenticated" // who has authenticated
	WhoRelay         Who = "relay_from"    // and the networks that may relay
	WhoAnyone        Who = "anyone"
	WhoNobody        Who = "nobody"
)

// Ask refuses those who get no answers to VRFY and EXPN. RFC 5321 7.3: "Sites
// implementing SMTP authentication may choose to make VRFY and EXPN available only
// to authenticated requestors."
type Ask struct {
	Who  Who
	From []netip.Prefix // of WhoRelay
}

// Check implements postrider.Check. The client hears 252 whatever the reply says.
func (a Ask) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	may := tx.Submitter != nil
	switch a.Who {
	case WhoAnyone:
		may = true
	case WhoNobody:
		may = false
	case WhoRelay:
		may = may || within(a.From, tx.Source.Peer.Addr())
	}
	return postrider.Verdict{Refuse: !may}
}

// within reports whether a client is in one of some networks.
func within(networks []netip.Prefix, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	for _, p := range networks {
		if p.Contains(client) {
			return true
		}
	}
	return false
}
