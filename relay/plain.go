package relay

import (
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// stumbles reports whether a peer may have refused MAIL for a parameter that it need
// not hear of, though it offers the extension: some servers want it with RCPT, or know
// no more of it than its name. Then MAIL is said once more, without. RFC 5321 4.2.3
// has 500, 501, 504 and 555 for what a server cannot read; a status about the address
// of the sender says that it could.
func (a *attempt) stumbles(c *smtpc.Conn, f *form, res *smtpc.Result) bool {
	if res.Err != nil || !c.Usable() {
		return false
	}
	switch r := res.Mail; r.Code {
	case 504, 555:
	case 500, 501:
		if !r.Status.IsZero() && r.Status.Subject != 5 {
			return false
		}
	default:
		return false
	}
	all := a.transaction(c, f, nil).Params
	less := a.needed(all)
	for ext, said := range map[string]bool{
		"SIZE": all.Size != less.Size, "DELIVERBY": all.By != less.By, "MT-PRIORITY": all.Priority != less.Priority,
	} {
		if _, ok := c.Ext(ext); said && ok {
			return true
		}
	}
	return false
}

// needed is what MAIL cannot do without.
//
// SIZE is "optional" (RFC 1870 3). Where the next server does not support MT-PRIORITY,
// "The MTA relays the message without" (RFC 6710 4.3). A message with the mode N of BY
// "may be relayed to another server regardless of whether or not" it supports
// DELIVERBY (RFC 2852 4.1.4.2), and then counts as relayed to one that does not; the
// mode R stays. So does AUTH, which RFC 4954 5 has with "MUST" and "SHOULD", and what
// shapes the message or its reports.
func (a *attempt) needed(p smtp.MailParams) smtp.MailParams {
	p.Size, p.Priority = 0, 0
	if p.By.Mode == smtp.ByNotify {
		p.By = smtp.DeliverBy{}
	}
	return p
}

// takesBy reports whether a peer is told of BY.
func (a *attempt) takesBy(c *smtpc.Conn, plain bool) bool {
	_, ok := c.Ext("DELIVERBY")
	return ok && !(plain && a.m.By.Mode == smtp.ByNotify)
}
