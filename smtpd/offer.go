package smtpd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// always is what EHLO lists on every connection: what the Server does by itself,
// whatever the Handler knows. All of it is true.
const always = smtp.ExtPipelining | smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking

// promises are the extensions whose effect lies with the Session.
const promises = smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtBinaryMIME | smtp.ExtDeliverBy | smtp.ExtFutureRelease |
	smtp.ExtMTPriority | smtp.ExtRRVS | smtp.ExtNoSoliciting | smtp.ExtETRN

// An Offerer is a Session that does more with mail than to take it in. Offer is
// asked at EHLO and MAIL.
type Offerer interface {
	Offer() Offer
}

// An Offer is what a Session promises a client. An extension that it does not
// name is not listed in the answer to EHLO, and its parameters are answered 555.
// The zero Offer is that of a Session which is no Offerer.
type Offer struct {
	// Extensions are any of
	//
	//   - ExtSMTPUTF8: mail with MailParams.UTF8 goes on to nobody who lacks it;
	//   - ExtDSN: the sender gets the reports that it asks for (RFC 3461);
	//   - ExtBinaryMIME: a content with MailParams.Body BINARYMIME is kept as it is,
	//     every octet, and goes on as BINARYMIME or in an encoding (RFC 3030 3);
	//   - ExtDeliverBy, ExtFutureRelease, ExtMTPriority, ExtRRVS: the parameters of
	//     these names are acted on;
	//   - ExtNoSoliciting: see Solicit;
	//   - ExtETRN, if the Session is a Turner.
	//
	// Others are for the Server to offer, and have no effect here.
	Extensions smtp.Extensions
	// ByMin is the least by-time in seconds that is taken with by-mode R
	// (RFC 2852 2); zero: any.
	ByMin int32
	// HoldMax is how long a message may be held for its future release (RFC 4865 3);
	// without one FUTURERELEASE is not offered. It is of message submission alone:
	// RFC 4865 4.2: a server "MUST NOT advertise this support [...] on any port other
	// than the submission port".
	HoldMax time.Duration
	// Profile is the name that MT-PRIORITY announces (RFC 6710 9.2); empty: none.
	Profile string
	// Solicit are the solicitation class keywords that NO-SOLICITING announces, and
	// that the Server refuses in SOLICIT= (RFC 3865 2.1). Those of the header field
	// Solicitation are for the Session to look at.
	Solicit []string
}

// A Turner is a Session that answers ETRN (RFC 1985), where it offers it.
type Turner interface {
	// Turn begins to send what waits for a node: a domain, "@" and a domain for all
	// below it too, or "#" and the name of a queue. It does not wait for that. The
	// replies are those of RFC 1985 5.1: 250 to 253, 458 and 459.
	Turn(ctx context.Context, node string) smtp.Reply
}

// as finds a method set in a Session, or in what it wraps: a Session that stands
// before another may have Unwrap() Session in place of all that it passes on.
func as[T any](s Session) (t T, ok bool) {
	for s != nil {
		if t, ok = s.(T); ok {
			return t, true
		}
		w, wraps := s.(interface{ Unwrap() Session })
		if !wraps {
			break
		}
		s = w.Unwrap()
	}
	return t, false
}

// offer is what the session offers, and nothing that it cannot.
func (c *conn) offer() Offer {
	var o Offer
	if s, ok := as[Offerer](c.session); ok {
		o = s.Offer()
	}
	o.Extensions &= promises
	if _, ok := as[Turner](c.session); !ok {
		o.Extensions &^= smtp.ExtETRN
	}
	if o.HoldMax < time.Second {
		o.Extensions &^= smtp.ExtFutureRelease
	}
	return o
}

// offers are the extensions that EHLO lists now. RFC 3207 4.2: "A server MUST NOT
// return the STARTTLS extension in response to an EHLO command received after a
// TLS handshake has completed."
func (c *conn) offers(o Offer) smtp.Extensions {
	ext := always | o.Extensions
	switch {
	case c.client.TLS == nil && c.server.config() != nil:
		ext |= smtp.ExtStartTLS
	case c.client.TLS != nil && len(c.mechanisms()) > 0:
		ext |= smtp.ExtAuth
	}
	if e, ok := as[Expander](c.session); ok && e.Expands() {
		ext |= smtp.ExtVRFY | smtp.ExtEXPN
	}
	if c.maySpeak() {
		ext |= smtp.ExtXCLIENT
	}
	if c.limits() != "" {
		ext |= smtp.ExtLimits
	}
	return ext
}

// limits are what LIMITS announces (RFC 9422 4).
func (c *conn) limits() string { return smtp.Limits{RcptMax: c.server.maxRcpts()}.String() }

// keywords are the lines of an EHLO response after the first.
func (c *conn) keywords(ext smtp.Extensions, o Offer) string {
	words := ext.Keywords()
	for i, w := range words {
		param := ""
		switch w {
		case "SIZE":
			// RFC 1870 3: "A parameter value of 0 (zero) indicates that no fixed maximum
			// message size is in force."
			param = strconv.FormatInt(c.server.MaxSize, 10)
		case "AUTH":
			param = strings.Join(c.mechanisms(), " ")
		case "LIMITS":
			param = c.limits()
		case "XCLIENT":
			param = strings.Join(xclientNames, " ")
		case "DELIVERBY":
			if o.ByMin > 0 {
				param = strconv.Itoa(int(o.ByMin))
			}
		case "FUTURERELEASE":
			param = smtp.FutureRelease{Max: o.HoldMax, Until: time.Now().Add(o.HoldMax)}.String()
		case "MT-PRIORITY":
			if smtp.IsPriorityProfile(o.Profile) {
				param = o.Profile
			}
		case "NO-SOLICITING":
			param = strings.Join(o.Solicit, ",")
			for room := smtp.ReplyMax - len("250-NO-SOLICITING \r\n"); len(param) > room; {
				param = param[:max(0, strings.LastIndexByte(param[:room+1], ','))]
			}
		}
		if param != "" {
			words[i] += " " + param
		}
	}
	return strings.Join(append(words, "HELP"), "\n")
}

// within reports whether the parameters of MAIL keep to the offer, with what the
// client hears if they do not. It looks at the limits that were announced, and
// leaves to the session what only that can know.
func (o Offer) within(p smtp.MailParams, now time.Time) *smtp.Reply {
	release := p.Hold.Until
	if p.Hold.For > 0 {
		release = now.Add(p.Hold.For)
	}
	switch {
	case p.By.Mode == smtp.ByReturn && p.By.Seconds < o.ByMin:
		// RFC 2852 3: "a by-time strictly less than this limit, min-by-time, will be
		// rejected with a permanent failure (55z) reply code".
		return no(555, 5, 4, "A message with BY and R needs "+strconv.Itoa(int(o.ByMin))+" seconds at least")
	case !release.IsZero() && release.After(now.Add(o.HoldMax)):
		// RFC 4865 4.2: "SHOULD supply the reply code 501".
		return no(501, 5, 4, "A message is held for "+strconv.FormatInt(int64(o.HoldMax/time.Second), 10)+" seconds at most")
	case p.By.Mode != 0 && !release.IsZero() && release.After(now.Add(time.Duration(p.By.Seconds)*time.Second)):
		// RFC 4865 5.2.2: the server "MUST reject the MAIL command if it determines that
		// the future message release time is farther in the future than the deliver-by
		// time".
		return no(501, 5, 4, "The message would be released after the time of BY")
	}
	if words, ok := smtp.ParseSolicit(p.Solicit); ok {
		for _, w := range words {
			if slices.ContainsFunc(o.Solicit, func(listed string) bool { return strings.EqualFold(listed, w) }) {
				return no(550, 7, 1, "No soliciting: "+w)
			}
		}
	}
	return nil
}

// turn answers ETRN. RFC 1985 5: it is "illegal between a MAIL FROM: command and the
// end of the DATA commands and responses".
func (c *conn) turn(ctx context.Context, arg string) smtp.Reply {
	t, ok := as[Turner](c.session)
	switch node := strings.TrimLeft(arg, "@#"); {
	case !ok || !c.state.ext.Has(smtp.ExtETRN):
		return *no(502, 5, 1, "Command not implemented")
	case len(arg)-len(node) > 1, arg[0] == '#' && strings.Contains(node, " "), node == "",
		arg[0] != '#' && !(smtp.IsDomain(node) && strings.Contains(node, ".")):
		return *no(501, 5, 4, "Say ETRN and a fully qualified domain name")
	}
	return final(t.Turn(ctx, arg))
}
