package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// parameterOf is the extension that a parameter of MAIL or RCPT belongs to.
var parameterOf = map[string]smtp.Extensions{
	"SIZE": smtp.ExtSize, "BODY=7BIT": smtp.Ext8BitMIME, "BODY=8BITMIME": smtp.Ext8BitMIME, "BODY=BINARYMIME": smtp.ExtBinaryMIME,
	"SMTPUTF8": smtp.ExtSMTPUTF8, "RET": smtp.ExtDSN, "ENVID": smtp.ExtDSN, "NOTIFY": smtp.ExtDSN, "ORCPT": smtp.ExtDSN,
	"AUTH": smtp.ExtAuth, "BY": smtp.ExtDeliverBy, "HOLDFOR": smtp.ExtFutureRelease, "HOLDUNTIL": smtp.ExtFutureRelease,
	"MT-PRIORITY": smtp.ExtMTPriority, "RRVS": smtp.ExtRRVS, "SOLICIT": smtp.ExtNoSoliciting,
}

// begin is the MAIL of a transaction.
func (f *reading) begin(line string) {
	f.now = transaction{offered: f.hello, rcptMax: f.rcptMax, mail: line, tls: f.tls, auth: f.auth}
	f.open = true
	if f.tls {
		f.now.used |= smtp.ExtStartTLS
	}
	if f.auth {
		f.now.used |= smtp.ExtAuth
	}
	f.params(line)
}

// params looks at the parameters of MAIL or RCPT: each must be one that is offered.
func (f *reading) params(line string) {
	_, rest, ok := strings.Cut(line, ">")
	for strings.Contains(rest, ">") && !strings.HasPrefix(rest, " ") { // a quoted ">"
		_, rest, ok = strings.Cut(rest, ">")
	}
	if !ok {
		f.blame("no path in %q", line)
	}
	for word := range strings.FieldsSeq(rest) {
		name, _, _ := strings.Cut(strings.ToUpper(word), "=")
		if name == "BODY" {
			name = strings.ToUpper(word)
		}
		ext := parameterOf[name]
		if ext == 0 || !f.hello.Has(ext) {
			f.blame("%s was sent and is not offered: %q", word, line)
		}
		if name != "BODY=7BIT" {
			f.now.used |= ext
		}
	}
	for _, b := range []byte(line) {
		if b >= 0x80 && f.now.used&smtp.ExtSMTPUTF8 == 0 {
			f.blame("an address in UTF-8 without SMTPUTF8: %q", line)
			break
		}
	}
}

// content is what comes after 354, up to the first line of a dot.
func (f *reading) content() {
	rest := f.w.client[f.c:]
	end, skip := bytes.Index(rest, []byte("\r\n.\r\n")), 5
	if bytes.HasPrefix(rest, []byte(".\r\n")) {
		end, skip = -2, 5
	}
	if end == -1 {
		f.c = len(f.w.client)
		return
	}
	body := rest[:end+2]
	f.c += end + skip
	if bytes.IndexByte(body, 0) >= 0 || bytes.ContainsAny(bytes.ReplaceAll(body, []byte("\r\n"), nil), "\r\n") {
		f.blame("a bare CR or LF, or a NUL, in the data of %q", f.now.mail)
	}
	for line := range bytes.SplitAfterSeq(body, []byte("\r\n")) {
		if bytes.HasPrefix(line, []byte(".")) {
			if line = line[1:]; !bytes.HasPrefix(line, []byte(".")) {
				f.unstuffed(line)
			}
		}
		f.now.content = append(f.now.content, line...)
	}
	f.end()
}

// unstuffed is blamed on the client: a dot that a server takes away, and that none
// was put before. RFC 5321 4.5.2 has the client add one to each line that begins
// with one, so what is left begins with one too.
func (f *reading) unstuffed(line []byte) { f.blame("a dot that was not stuffed: %.40q", line) }

// chunk is a BDAT.
func (f *reading) chunk(arg string) {
	if !f.hello.Has(smtp.ExtChunking) {
		f.blame("BDAT that is not offered")
	}
	f.now.used |= smtp.ExtChunking
	if f.pipelining {
		f.now.used |= smtp.ExtPipelining
	}
	size, last := 0, false
	if n, _ := fmt.Sscan(arg, &size); n != 1 {
		f.blame("BDAT %q", arg)
	}
	last = strings.HasSuffix(strings.ToUpper(arg), " LAST")
	if size > len(f.w.client)-f.c {
		f.c = len(f.w.client)
		return
	}
	f.now.content = append(f.now.content, f.w.client[f.c:f.c+size]...)
	f.c += size
	if last {
		f.end()
	} else {
		f.reply()
	}
}

// status is an enhanced status code at the start of a reply.
var status = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}( |$)`)

// end is that of a transaction.
func (f *reading) end() {
	x := &f.now
	x.final = f.reply()
	if x.offered.Has(smtp.ExtEnhancedStatusCodes) && status.MatchString(x.final.Text) {
		x.used |= smtp.ExtEnhancedStatusCodes
	}
	if x.offered.Has(smtp.ExtLimits) && x.rcptMax > 0 {
		switch n := len(x.rcpts); {
		case n > x.rcptMax:
			f.blame("%d recipients, and LIMITS says %d", n, x.rcptMax)
		case n == x.rcptMax:
			x.used |= smtp.ExtLimits // more waited
		}
	}
	if x.used&(smtp.Ext8BitMIME|smtp.ExtBinaryMIME|smtp.ExtSMTPUTF8) == 0 {
		for _, b := range x.content {
			if b >= 0x80 {
				f.blame("eight bits without 8BITMIME: %q", x.mail)
				break
			}
		}
	}
	f.done, f.open = append(f.done, *x), false
}
