package e2e

import (
	"bytes"
	"math/bits"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// matrixExts are the extensions of the matrix, in the order of its rows.
var matrixExts = []smtp.Extensions{
	smtp.ExtPipelining, smtp.ExtSize, smtp.Ext8BitMIME, smtp.ExtSMTPUTF8, smtp.ExtEnhancedStatusCodes, smtp.ExtDSN, smtp.ExtStartTLS, smtp.ExtAuth,
	smtp.ExtChunking, smtp.ExtBinaryMIME, smtp.ExtLimits, smtp.ExtDeliverBy, smtp.ExtFutureRelease, smtp.ExtMTPriority, smtp.ExtRRVS, smtp.ExtETRN,
}

// apart are the pairs that no message can have: BODY has one value.
const apart = smtp.Ext8BitMIME | smtp.ExtBinaryMIME

// An edge is a client and a server, one of them ours, and what was seen of them.
type edge struct {
	client caller
	host   *host

	mu    sync.Mutex
	taps  []*tap
	pairs map[smtp.Extensions]bool
	sent  int // letters
}

func (e *edge) tap(t *testing.T, to string) *tap {
	p := newTap(t, to, 0)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taps = append(e.taps, p)
	return p
}

// both is what both ends speak.
func (e *edge) both() smtp.Extensions { return e.client.speaks & e.host.speaks }

// wanted are the pairs that both ends speak, and that go together.
func (e *edge) wanted() []smtp.Extensions {
	var all []smtp.Extensions
	for i, a := range matrixExts {
		for _, b := range matrixExts[i+1:] {
			if e.both().Has(a|b) && a|b != apart {
				all = append(all, a|b)
			}
		}
	}
	return all
}

// letters are what the client sends: one for each pair where it can be told what to
// use, and some that need everything.
func (e *edge) letters() []letter {
	prefix := strings.ToLower(e.client.name + "-" + e.host.name)
	var all []letter
	if e.client.each {
		for _, pair := range e.wanted() {
			all = append(all, newLetter(prefix+"-"+strings.ToLower(strings.Join(pair.Keywords(), "-")), pair, 3000))
		}
	}
	rest := e.both() &^ smtp.ExtETRN
	all = append(all, newLetter(prefix+"-plain", 0, 0), newLetter(prefix+"-all-8", rest&^smtp.ExtBinaryMIME, 1_200_000))
	if e.both().Has(smtp.ExtBinaryMIME) {
		all = append(all, newLetter(prefix+"-all-binary", rest&^smtp.Ext8BitMIME, 1_200_000))
	}
	return all
}

// run sends the letters and looks at what went over the wire and at what arrived.
func (e *edge) run(t *testing.T) {
	letters := e.letters()
	e.sent = len(letters)
	e.client.send(t, e.host, e, letters)
	for _, l := range letters {
		for _, to := range l.to {
			eventually(t, says("%s did not arrive for %s", l.name, to), func() bool {
				found, err := l.in(e.host, to)
				if err != nil {
					t.Error(err)
				}
				return found
			})
		}
		e.arrived(t, l)
	}
	e.pairs = map[smtp.Extensions]bool{}
	for _, p := range e.taps {
		all, wrong := p.heard()
		for _, w := range wrong {
			t.Errorf("%s to %s: %s", e.client.name, e.host.name, w)
		}
		for _, x := range all {
			e.saw(t, x, letters)
		}
	}
	for _, pair := range e.wanted() {
		if !e.pairs[pair] {
			t.Errorf("%s to %s: no message used %s", e.client.name, e.host.name, strings.Join(pair.Keywords(), " and "))
		}
	}
}

// saw notes the pairs of a transaction that was taken and whole.
func (e *edge) saw(t *testing.T, x transaction, letters []letter) {
	if extra := x.offered &^ e.host.speaks &^ (smtp.ExtVRFY | smtp.ExtEXPN | smtp.ExtXCLIENT | smtp.ExtNoSoliciting); extra != 0 {
		t.Errorf("%s offers %s, and the test does not know", e.host.name, extra.Keywords())
	}
	if x.final.Code != 250 || x.taken != len(x.rcpts) {
		t.Errorf("%s to %s: %q, %q: %v", e.client.name, e.host.name, x.mail, x.rcpts, x.final)
		return
	}
	name := named(x.content)
	for _, l := range letters {
		if l.name != name {
			continue
		}
		if !bytes.HasSuffix(x.content, l.content) {
			t.Errorf("%s to %s: %s is not on the wire as it was given", e.client.name, e.host.name, name)
			return
		}
		for i, a := range matrixExts {
			for _, b := range matrixExts[i+1:] {
				if x.used.Has(a | b) {
					e.pairs[a|b] = true
				}
			}
		}
	}
}

// arrived looks at what the server knows of a letter.
func (e *edge) arrived(t *testing.T, l letter) {
	if l.needs.Has(smtp.ExtDSN) && e.host.got == nil {
		// It was understood: the report of success names the envelope.
		eventually(t, says("%s: no report of success names %s", e.host.name, l.envID()), func() bool {
			for _, b := range e.host.box("alice") {
				b = bytes.ToLower(b)
				if bytes.Contains(b, []byte("\noriginal-envelope-id: "+l.envID())) && bytes.Contains(b, []byte("action: delivered")) {
					return true
				}
			}
			return false
		})
	}
	if e.host.got == nil {
		return
	}
	e.host.got.mu.Lock()
	defer e.host.got.mu.Unlock()
	got := e.host.got.mails[l.name]
	p := l.mailParams()
	if got.mail.UTF8 != p.UTF8 || got.mail.EnvelopeID != p.EnvID || string(got.mail.Return) != p.Ret.String() {
		t.Errorf("%s: go-smtp knows of %+v", l.name, got.mail)
	}
	if e.client.each && (got.mail.Size != p.Size || string(got.mail.Body) != string(p.Body)) {
		t.Errorf("%s: go-smtp knows of %+v", l.name, got.mail)
	}
	if l.needs.Has(smtp.ExtAuth) && (got.mail.Auth == nil || e.client.each && *got.mail.Auth != matrixFrom) {
		t.Errorf("%s: go-smtp does not know who has submitted it", l.name)
	}
	for i, to := range got.to {
		p := l.rcptParams(to)
		if o := got.rcpts[i]; len(o.Notify) != bits.OnesCount8(uint8(p.Notify)) || !o.RequireRecipientValidSince.Equal(p.RRVS.Since) ||
			p.ORcpt != "" && !strings.HasSuffix(o.OriginalRecipient, to) {
			t.Errorf("%s: go-smtp knows of %s: %+v", l.name, to, o)
		}
	}
}

// Every pair of extensions that two programs speak, one of them ours, goes together
// in a message that arrives as it was sent. docs/interoperability.md has what was
// seen; POSTRIDER_INTEROPERABILITY=write makes it anew.
func TestMatrix(t *testing.T) {
	var mu sync.Mutex
	edges := map[[2]string]*edge{}
	ok := t.Run("edges", func(t *testing.T) {
		for _, h := range hosts {
			t.Run("to "+h.name, func(t *testing.T) {
				t.Parallel()
				at := h.start(t)
				at.speaks = h.speaks
				for _, c := range callers {
					if h.name != "Postrider" && c.name != "smtpc" && c.name != "Postrider" {
						continue
					}
					t.Run(c.name, func(t *testing.T) {
						e := &edge{client: c, host: at}
						e.run(t)
						mu.Lock()
						defer mu.Unlock()
						edges[[2]string{c.name, h.name}] = e
					})
				}
			})
		}
	})
	if ok {
		compareMatrix(t, edges)
	}
}
