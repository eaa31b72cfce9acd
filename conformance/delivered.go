package conformance

import (
	"bytes"
	"strings"
	"time"
)

// How often and how long the mailbox is looked at.
const (
	lookEvery = 50 * time.Millisecond
	lookTimes = 6           // timeouts
	lookMore  = time.Second // for what should stay away
)

func parseDelivered(word, rest string) (step, error) {
	_, err := unescape(rest)
	switch word {
	case "mailbox":
		return step{func(d *dialogue) *end {
			if d.t.Mailbox == nil {
				return skipped("the mailbox of the recipient cannot be read")
			}
			return nil
		}}, err
	case "cut":
		return step{func(d *dialogue) *end {
			_ = d.nc.Close()
			d.nc = nil
			return nil
		}}, err
	case "arrives":
		return step{func(d *dialogue) *end { return d.arrives(rest) }}, err
	}
	return step{(*dialogue).staysAway}, err
}

// arrives waits for the message, and looks at its body.
func (d *dialogue) arrives(text string) *end {
	want, e := d.expand(text)
	if e != nil {
		return e
	}
	if e := d.await(d.mark); e != nil {
		return e
	}
	_, body, _ := bytes.Cut(d.arrived, []byte("\r\n\r\n"))
	if w := bytes.Join(want, nil); !bytes.Equal(body, w) {
		d.log.add("   arrived: " + printable(string(body), lineShown))
		return failed("the body is another than was sent, %d octets where %d are right", len(body), len(w))
	}
	return nil
}

// await waits until a message arrives that holds a text.
func (d *dialogue) await(text string) *end {
	for deadline := time.Now().Add(lookTimes * d.timeout()); ; {
		got, err := d.t.Mailbox(text)
		if err != nil {
			return skipped("the mailbox of the recipient cannot be read: %v", err)
		}
		if len(got) > 0 {
			d.arrived = bytes.ReplaceAll(bytes.ReplaceAll(got[0], []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
			return nil
		}
		if d.ctx.Err() != nil || time.Now().After(deadline) {
			return failed("the message was accepted, and does not arrive")
		}
		_ = d.wait(lookEvery)
	}
}

// staysAway sends another message behind the one that must not arrive, and looks
// when that has come.
func (d *dialogue) staysAway() *end {
	gone := d.mark
	if e := d.at("data"); e != nil {
		return e
	}
	after := strings.Replace(gone, "conformance-", "behind-", 1)
	d.send([][]byte{[]byte("Subject: " + after + "\r\n\r\nThe one behind.\r\n.\r\n")}, false)
	if e := d.hope(codes{yes: []string{"250"}}); e != nil {
		return e
	}
	if e := d.await(after); e != nil {
		return skipped("the message behind it does not arrive")
	}
	for end := time.Now().Add(lookMore); time.Now().Before(end) && d.ctx.Err() == nil; _ = d.wait(lookEvery) {
		if got, err := d.t.Mailbox(gone); err != nil || len(got) > 0 {
			return failed("a message that never ended arrives")
		}
	}
	return nil
}

// field wants a field at the beginning of what arrived, before those that were
// sent.
func (d *dialogue) field(name string) string {
	head, _, _ := strings.Cut(string(d.arrived), "\r\n\r\n")
	ours, _, _ := strings.Cut("\r\n"+head, "\r\nSubject:")
	if !strings.Contains(strings.ToLower(ours), "\r\n"+strings.ToLower(name)+":") {
		return "no " + name + " before the fields that were sent"
	}
	return ""
}
